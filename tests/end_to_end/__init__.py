"""Whole runs of the job on simulated feeds, compared with the simulator's truth."""
