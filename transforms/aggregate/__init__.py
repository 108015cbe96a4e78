"""Aggregate: rows of ``usage`` and ``events`` to partial sums per device and hour. Pure functions on columns."""

from transforms.aggregate.device import device_events, device_usage

__all__ = ["device_events", "device_usage"]
