"""The operator's own table of reasons, on any file system."""

from __future__ import annotations

from schemas.file_systems import is_remote
from schemas.reasons import Reason, ReasonsError, load_reasons
from transforms.deliver import storage


def read_reasons(path: str | None) -> tuple[Reason, ...]:
    """The table to classify with: the rows of the operator's file first, then the built-in ones.

    Raises:
      ReasonsError: the file cannot be read or holds a mistake; the message lists all of them.
    """
    if path is None or not is_remote(path):
        return load_reasons(path)
    from apache_beam.io.filesystem import BeamIOError  # takes a second to import, and local files need none of it

    try:
        return load_reasons(path, storage.read(path))
    except (OSError, BeamIOError) as error:
        raise ReasonsError(f"{path}: cannot be read ({type(error).__name__}); give a YAML file of reasons") from error
