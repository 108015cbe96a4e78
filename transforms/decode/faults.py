"""What is wrong with a record, as a value on its way to a dead letter."""

from __future__ import annotations


class Fault(Exception):
    """A record that cannot be taken.

    Attributes:
      reason: one of `transforms.dead_letters.REASONS`.
      message: expected and found; types and positions, never values.
      path: field at fault as a JSON path, or None.
      error: name of the error class that told, or None.
      record_id: id of the record where it could be read.
    """

    def __init__(
        self,
        reason: str,
        message: str,
        path: str | None = None,
        error: str | None = None,
        record_id: int | None = None,
    ):
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.path = path
        self.error = error
        self.record_id = record_id


def json_path(*names: str) -> str:
    """The JSON path of nested field names, such as ``$.endpoint.id``."""
    return ".".join(("$", *names))
