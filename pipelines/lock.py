"""One run at a time per output directory, batch or live: two never write one cell at once."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from transforms.deliver import storage

LIVE = ".live"
"""Directory of what live jobs keep, below the output directory: one for each writer."""

RUNNING = "running"
"""File there from a live job's start until it has ended in order."""


_TRIES, _PAUSE = 4, 0.1
"""Who only asks whether the lock is held (`is_locked`) holds it for a moment."""


class LockedError(Exception):
    """Another run works in the directory, or one that was killed has not been taken up again."""


@contextmanager
def locked(output: str, live: str | None = None) -> Iterator[None]:
    """Holds the lock ``DIR/.run/lock``; the operating system releases it when the process dies.

    Remote directories have no lock: there the writer's names keep two runs apart.

    Args:
      output: the output directory.
      live: name of the live job that is about to run; None: it is none.

    Raises:
      LockedError: another process holds it; the text names it. Or a live job was killed and has records that are in no
        part yet, which only that job can settle.
    """
    if storage.is_remote(output):
        yield
        return
    path = os.path.join(output, ".run", "lock")
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "a+", encoding="utf-8") as file:
        _lock(output, file)
        file.truncate(0)
        file.write(json.dumps({"pid": os.getpid(), "since": int(time.time()), "live": live}))
        file.flush()
        _refuse_unfinished(output, live)
        yield


def _lock(output: str, file: TextIO) -> None:
    for attempt in range(_TRIES):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except OSError as error:
            if attempt == _TRIES - 1:
                file.seek(0)
                raise LockedError(_who(output, file.read())) from error
        time.sleep(_PAUSE)


def _refuse_unfinished(output: str, live: str | None) -> None:
    for writer in live_writers(output):
        if writer != live and os.path.exists(os.path.join(output, LIVE, writer, RUNNING)):
            raise LockedError(
                f"{output}: the live job {writer!r} did not end in order, and keeps records that are not in the "
                f"warehouse yet. Start it again (--streaming --name={writer}), stop it with Ctrl-C, then repeat this "
                "command."
            )


def is_locked(output: str) -> bool:
    """Whether a run works in an output directory of this machine."""
    if storage.is_remote(output):
        return False
    try:
        with open(os.path.join(output, ".run", "lock"), "rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


def is_unfinished(output: str) -> bool:
    """Whether a run works in an output directory of this machine, or a live one was killed there."""
    marks = (os.path.join(output, LIVE, writer, RUNNING) for writer in live_writers(output))
    return any(map(os.path.exists, marks)) or is_locked(output)


def live_writers(output: str) -> list[str]:
    """Names of the live jobs that ran in an output directory of this machine."""
    if storage.is_remote(output):
        return []
    directory = os.path.join(output, LIVE)
    return sorted(os.listdir(directory)) if os.path.isdir(directory) else []


def _who(output: str, content: str) -> str:
    try:
        holder = json.loads(content)
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(holder["since"]))
        by = f"process {holder['pid']}, since {since} UTC"
        run = f"the live job {holder['live']!r}" if holder.get("live") else "a run"
    except (ValueError, KeyError):
        run, by = "a run", "another process"
    return f"{output}: {run} is under way ({by}). Wait for it, or stop it; then start again."
