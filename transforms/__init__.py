"""The verbs of the pipeline: thin Beam wiring, with pure vectorised functions beside it."""
