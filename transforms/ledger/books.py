"""The books of a live job on one machine: what counts, kept in a log that survives a kill.

Work is committed in groups of entries, each under a key that is the same in every attempt at the same work: committed
twice, it counts once. What is not committed when the process is killed is done again, since its messages are still in
the journal. From the books the warehouse's ledger is published, with the same files and rows as that of a batch run.
"""

from __future__ import annotations

import os
import struct
import threading
import time
import zlib
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

import msgspec

from schemas.records import FEEDS
from transforms.gather.cells import Cell
from transforms.keep.closing import closes_at
from transforms.ledger.counts import (
    COUNT_SUMS,
    DEAD,
    FEED,
    Count,
    Entry,
    FileEntry,
    Flushed,
    Group,
    InputEntry,
    Kept,
    Key,
    StreamError,
    Unlisted,
)  # fmt: skip

_FRAME = struct.Struct("<II")
"""Length and CRC-32 of a record of the log: a record that was cut by a kill is told from a whole one."""

_SNAPSHOT, _LOG = "snapshot.msgpack", "log-{:08d}"


class _State(msgspec.Struct):
    """All that the books know; what a snapshot holds.

    Attributes:
      generation: number of the log that goes on from here.
      counts: sums of counts.
      files: files that count, by path, in the order of their commits.
      inputs: inputs by feed and name.
      kept: rows that are in no part yet, by cell and number.
      panes: the last number of each cell.
      cells: cells that are open, and when something new last came, in seconds since 1970.
      open: what is committed of segments that are not done.
      parts: how many parts these have, where that is known.
      held: entries of theirs that count once they are done: what was not decoded, and its files.
      done: segments that are done and that the journal may give back.
    """

    generation: int = 0
    counts: dict[tuple[str, str, str | None, int | None, str], list[int]] = msgspec.field(default_factory=dict)
    files: dict[str, FileEntry] = msgspec.field(default_factory=dict)
    inputs: dict[tuple[str, str], InputEntry] = msgspec.field(default_factory=dict)
    kept: dict[int, dict[int, Kept]] = msgspec.field(default_factory=dict)
    panes: dict[int, int] = msgspec.field(default_factory=dict)
    cells: dict[int, float] = msgspec.field(default_factory=dict)
    open: dict[int, list[Key]] = msgspec.field(default_factory=dict)
    parts: dict[int, int] = msgspec.field(default_factory=dict)
    held: dict[int, list[Entry]] = msgspec.field(default_factory=dict)
    done: set[int] = msgspec.field(default_factory=set)


class Settled(NamedTuple):
    """What counts at one moment.

    Attributes:
      entries: everything as entries of a ledger.
      kept: rows that count and are in no part yet.
      obsolete: paths, absolute or relative to the output directory, of files that count no more, and did when this was
        asked last; they may go once the entries are published.
    """

    entries: list[Entry]
    kept: list[Kept]
    obsolete: list[str]


class Books:
    """The books of one writer; safe to use from many threads.

    Args:
      directory: where they lie, on this machine's disk; read where they exist already.
      forget: called with the number of a segment of which everything is committed, once that is durable.
      close_after: seconds after the end of an hour until its cells close.
      clock: seconds since 1970.
    """

    def __init__(
        self,
        directory: str | Path,
        forget: Callable[[int], None] = lambda segment: None,
        close_after: float = 7200.0,
        clock: Callable[[], float] = time.time,
    ):
        self._directory = Path(directory)
        self._directory.mkdir(parents=True, exist_ok=True)
        self._forget, self._close_after, self._clock = forget, close_after, clock
        self._lock = threading.RLock()
        self._listeners: list[Callable[[Sequence[FileEntry]], None]] = []
        self._fresh: list[FileEntry] = []
        self._finished: list[int] = []
        self._obsolete: list[str] = []
        self._state = self._recovered()
        self._log = self._begin_log()
        self._dirty = False

    def on_files(self, listener: Callable[[Sequence[FileEntry]], None]) -> None:
        """Calls `listener` with the files of groups that are durable, in the order of their commits.

        It is called while nothing can be committed, so it must not wait for whoever commits.
        """
        self._listeners.append(listener)

    def commit(self, group: Group) -> bool:
        """Takes a group of entries; returns False where it was committed before. Durable after `sync`."""
        with self._lock:
            if not self._is_new(group):
                return False
            data = msgspec.msgpack.encode(group)
            self._log.write(_FRAME.pack(len(data), zlib.crc32(data)) + data)
            self._dirty = True
            self._apply(group)
            self._fresh += [entry for entry in group.entries if isinstance(entry, FileEntry)]
            return True

    def sync(self) -> None:
        """Makes durable what was committed, and tells listeners and journal."""
        with self._lock:
            if not self._dirty:
                return
            self._log.flush()
            os.fdatasync(self._log.fileno())
            self._dirty = False
            fresh, self._fresh = self._fresh, []
            finished, self._finished = self._finished, []
            # Under the lock: of two threads the second must not tell first.
            for segment in finished:
                self._forget(segment)
            if fresh:
                for listener in self._listeners:
                    listener(fresh)

    def is_done(self, segment: int) -> bool:
        """Whether everything of a segment is committed."""
        with self._lock:
            return segment in self._state.done

    def forgotten(self, alive: Iterable[int]) -> None:
        """The journal holds these segments only: of others nothing has to be remembered."""
        with self._lock:
            self._state.done &= set(alive)

    def review(self, alive: Callable[[], Iterable[int]]) -> None:
        """Asks which segments the journal holds; of others nothing has to be remembered.

        Asked while nothing can be committed: a segment that is done in between would be forgotten otherwise.
        """
        with self._lock:
            self._state.done &= set(alive())

    def settled(self) -> Settled:
        """What counts now, made durable by a snapshot: whoever publishes it promises nothing that a kill takes back.

        Cells whose time is over close before.
        """
        with self._lock:
            self._close_cells()
            self.snapshot()
            kept = [one for cell in self._state.kept.values() for one in cell.values()]
            obsolete, self._obsolete = self._obsolete, []
            return Settled(self.entries, kept, obsolete)

    def kept(self, cell: int) -> list[Kept]:
        """Rows of a cell that are in no part yet, in order."""
        with self._lock:
            return [kept for _, kept in sorted(self._state.kept.get(cell, {}).items())]

    @property
    def cells_with_kept_rows(self) -> list[int]:
        """Numbers of the cells that have rows in no part yet."""
        with self._lock:
            return sorted(cell for cell, kept in self._state.kept.items() if kept)

    def is_closed(self, cell: int) -> bool:
        """Whether nothing is expected for a cell any more, and nothing is kept for it."""
        with self._lock:
            return cell not in self._state.cells and cell not in self._state.kept

    def next_pane(self, cell: int) -> int:
        """A number for a slice or a pane of a cell that no earlier call was given, and no committed group has.

        What an earlier process wrote under it and did not commit is replaced, or swept.
        """
        with self._lock:
            self._state.panes[cell] = number = self._state.panes.get(cell, -1) + 1
            return number

    @property
    def files(self) -> list[FileEntry]:
        """All files that count."""
        with self._lock:
            return list(self._state.files.values())

    @property
    def counts(self) -> list[Count]:
        """Sums of the counts."""
        with self._lock:
            cells = map(Cell.of_number, self._state.cells)
            unfinished = {(FEEDS[cell.kind], cell.hour) for cell in cells}
            return [_count(key, sums, unfinished) for key, sums in self._state.counts.items()]

    @property
    def entries(self) -> list[Entry]:
        """Everything as entries of a ledger: sums of counts, files, inputs."""
        with self._lock:
            return [*self.counts, *self._state.files.values(), *self._state.inputs.values()]

    def snapshot(self) -> None:
        """Writes all that is known into one file, and begins a new log: the old one is not needed any more."""
        with self._lock:
            self.sync()
            state = msgspec.structs.replace(self._state, generation=self._state.generation + 1)
            temporary = self._directory / f".tmp-{_SNAPSHOT}"
            with temporary.open("wb") as file:
                file.write(msgspec.msgpack.encode(state))
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self._directory / _SNAPSHOT)
            self._log.close()
            self._state = state
            self._log = self._begin_log()
            for old in self._directory.glob("log-*"):
                if old.name < _LOG.format(self._state.generation):
                    old.unlink()

    def close(self) -> None:
        """Ends with a snapshot; nothing can be committed any more."""
        with self._lock:
            self.snapshot()
            self._log.close()

    def _is_new(self, group: Group) -> bool:
        _, segment, _, _ = group.key
        if group.key[0] == "flush":
            # All of them, or rows that another flush has written would count twice.
            flushed = [entry for entry in group.entries if isinstance(entry, Flushed)]
            return all(set(entry.numbers) <= self._state.kept.get(entry.cell, {}).keys() for entry in flushed)
        if group.key[0] in ("deliver", "compact"):
            return all(entry.path in self._state.files for entry in group.entries if isinstance(entry, Unlisted))
        return segment not in self._state.done and group.key not in self._state.open.get(segment, ())

    def _apply(self, group: Group) -> None:
        step, segment, _, _ = group.key
        for entry in group.entries if step not in (FEED, DEAD) else ():
            self._add(entry)
        if step in ("flush", "compact"):
            cell, pane = group.key[1:3]
            self._state.panes[cell] = max(self._state.panes.get(cell, -1), pane)
        if step in ("flush", "deliver", "compact"):
            return
        self._hold(group)
        self._state.open.setdefault(segment, []).append(group.key)
        if group.parts is not None:
            # The group itself is one of the parts.
            self._state.parts[segment] = self._state.parts.get(segment, 0) + group.parts + 1
        if len(self._state.open[segment]) == self._state.parts.get(segment):
            del self._state.open[segment], self._state.parts[segment]
            for entry in self._state.held.pop(segment, ()):
                self._add(entry)
            self._state.done.add(segment)
            self._finished.append(segment)

    def _hold(self, group: Group) -> None:
        """Of a segment that is not done, as many records count as decoded as their cells have received, and none as a
        dead letter: at any moment what is published adds up.
        """
        held = self._state.held.setdefault(group.key[1], [])
        if group.key[0] in (FEED, DEAD):
            held.extend(group.entries)
            return
        for entry in group.entries:
            if isinstance(entry, Count) and entry.stage == "cell":
                self._add(Count("feed", entry.feed, received=entry.received, decoded=entry.received))
                held.append(Count("feed", entry.feed, received=-entry.received, decoded=-entry.received))

    def _add(self, entry: Entry) -> None:
        state = self._state
        match entry:
            case Count():
                key = (entry.stage, entry.feed, entry.stream, entry.hour, entry.unit)
                sums = state.counts.setdefault(key, [0] * len(COUNT_SUMS))
                for place, name in enumerate(COUNT_SUMS):
                    sums[place] += getattr(entry, name)
            case FileEntry():
                state.files[entry.path] = entry
            case Unlisted():
                if state.files.pop(entry.path, None) is not None:
                    self._obsolete.append(entry.path)
            case Kept():
                state.kept.setdefault(entry.cell, {})[entry.number] = entry
                state.panes[entry.cell] = max(state.panes.get(entry.cell, -1), entry.number)
                state.cells[entry.cell] = self._clock()
            case Flushed():
                kept = state.kept.get(entry.cell, {})
                for number in entry.numbers:
                    if number in kept:
                        self._obsolete.append(kept.pop(number).path)
                if not kept:
                    state.kept.pop(entry.cell, None)
            case InputEntry():
                self._add_input(entry)
            case StreamError():
                pass  # how a stream stands is told by its courier

    def _close_cells(self) -> None:
        now = self._clock()
        self._state.cells = {
            cell: last
            for cell, last in self._state.cells.items()
            if cell in self._state.kept or now < closes_at(Cell.of_number(cell), last, self._close_after)
        }

    def _add_input(self, entry: InputEntry) -> None:
        key = (entry.feed, entry.file)
        known = self._state.inputs.get(key)
        if known is None:
            self._state.inputs[key] = entry
            return
        times = [time for time in (known.first_time, entry.first_time) if time is not None]
        ends = [time for time in (known.last_time, entry.last_time) if time is not None]
        self._state.inputs[key] = InputEntry(
            entry.feed, entry.file, known.records + entry.records, known.dead_letters + entry.dead_letters,
            min(times, default=None), max(ends, default=None), known.bytes + entry.bytes,
        )  # fmt: skip

    def _begin_log(self) -> IO[bytes]:
        return (self._directory / _LOG.format(self._state.generation)).open("ab")

    def _recovered(self) -> _State:
        """The state of the last snapshot, and of the log since then up to a record that was cut."""
        path = self._directory / _SNAPSHOT
        self._state = msgspec.msgpack.decode(path.read_bytes(), type=_State) if path.exists() else _State()
        log = self._directory / _LOG.format(self._state.generation)
        if log.exists():
            whole = 0
            data = log.read_bytes()
            while whole + _FRAME.size <= len(data):
                length, checksum = _FRAME.unpack_from(data, whole)
                body = data[whole + _FRAME.size : whole + _FRAME.size + length]
                if len(body) < length or zlib.crc32(body) != checksum:
                    break
                group = msgspec.msgpack.decode(body, type=Group)
                if self._is_new(group):
                    self._apply(group)
                whole += _FRAME.size + length
            os.truncate(log, whole)
        return self._state


def _count(
    key: tuple[str, str, str | None, int | None, str],
    sums: Sequence[int],
    unfinished: Collection[tuple[str, int | None]],
) -> Count:
    """A sum as one delta; of live jobs panes are not told apart. An hour is final while all of its cells are closed."""
    stage, feed, stream, hour, unit = key
    named: dict[str, Any] = dict(zip(COUNT_SUMS, sums, strict=True))
    final = stage == "cell" and (feed, hour) not in unfinished
    return Count(stage, feed, stream, hour, None if hour is None else 0, unit, **named, final=final)
