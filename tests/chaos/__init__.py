"""Chaos for the live job: traffic, kills, outages, failures, pauses, and a proof that nothing was lost or doubled."""
