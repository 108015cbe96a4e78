"""Feeds of known truth: realistic records of a simulated fleet, dirty on demand, and what is true of them.

`simulate` writes ``events`` and ``usage`` files and ``truth.json``; the same options give the same bytes.
"""

from simulator.details import SECRET_MARK
from simulator.options import SimulationOptions
from simulator.plan import records_per_device_day
from simulator.simulate import Summary, simulate

__all__ = ["SECRET_MARK", "SimulationOptions", "Summary", "records_per_device_day", "simulate"]
