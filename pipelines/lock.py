"""One batch run at a time per output directory."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from transforms.deliver import storage


class LockedError(Exception):
    """Another run works in the directory."""


@contextmanager
def locked(output: str) -> Iterator[None]:
    """Holds the lock ``DIR/.run/lock``; the operating system releases it when the process dies.

    Remote directories have no lock: there the writer's names keep two runs apart.

    Raises:
      LockedError: another process holds it; the text names it.
    """
    if storage.is_remote(output):
        yield
        return
    path = os.path.join(output, ".run", "lock")
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            raise LockedError(_who(output, file.read())) from error
        file.truncate(0)
        file.write(json.dumps({"pid": os.getpid(), "since": int(time.time())}))
        file.flush()
        yield


def _who(output: str, content: str) -> str:
    try:
        holder = json.loads(content)
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(holder["since"]))
        by = f"process {holder['pid']}, since {since} UTC"
    except (ValueError, KeyError):
        by = "another process"
    return f"{output}: a run is under way ({by}). Wait for it, or stop it; then start again."
