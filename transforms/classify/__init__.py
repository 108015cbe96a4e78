"""Classify: record batches to rows of the tables ``events`` and ``usage``. Pure functions on columns."""

from transforms.classify.events import event_rows
from transforms.classify.usage import usage_rows

__all__ = ["event_rows", "usage_rows"]
