"""Whether anything was lost or doubled: what the live job left, against a batch run over all that was published."""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos.story import Story
from tests.end_to_end import proof, runs
from warehouse.audit import audit


@dataclass
class Verdict:
    """What was found.

    Attributes:
      figures: what to know, in order.
      faults: what must not be; empty where all is well.
    """

    figures: list[tuple[str, str]] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def check(self, holds: bool, fault: str) -> None:
        """Reports a fault unless something holds."""
        if not holds:
            self.faults.append(fault)


def judge(story: Story) -> Verdict:
    """Compares everything; to be called when the job has stopped."""
    found = Verdict()
    output, batch = story.output, _batch(story)
    _warehouse(found, story, batch)
    _dead_letters(found, story)
    for name, wanted in proof.STREAMS.items():
        if wanted.content in proof.KEYS:
            _records(found, story, batch, name)
        else:
            _sums(found, story, batch, name)
    _requests(found, story)
    result = audit(output)
    found.check(result.ok, "audit: " + "\n".join(result.lines))
    live = output / ".live" / "live"
    found.check(not (live / "running").exists(), "the job says that it has not ended in order")
    left = [path for path in (output / "pending").rglob("*") if path.is_file()]
    found.check(not left, f"{len(left)} files are left in the spool, the first {left[:1]}")
    return found


def _batch(story: Story) -> Path:
    output = story.directory / "batch"
    for feed, lines in story.traffic.lines.items():
        (story.directory / f"{feed}.ndjson").write_bytes(b"\n".join(lines) + b"\n")
    runs.run(f"{story.directory}/{{feed}}.ndjson", output, streams=None)
    return output


def _warehouse(found: Verdict, story: Story, batch: Path) -> None:
    for table, key in proof.KEYS.items():
        ids = Counter(number for (number,) in runs.ask(story.output, f"SELECT {key} FROM {table}"))
        wanted = {number for (number,) in runs.ask(batch, f"SELECT {key} FROM {table}")}
        twice = sum(1 for times in ids.values() if times > 1)
        lost, strange = len(wanted - ids.keys()), len(ids.keys() - wanted)
        found.figures.append((f"warehouse, {table}", f"{len(ids):,} records of {len(wanted):,}"))
        found.check(not (lost or strange or twice), f"{table}: {lost} lost, {strange} strange, {twice} doubled")
        same = runs.rows(story.output, table, proof.LINEAGE) == runs.rows(batch, table, proof.LINEAGE)
        found.check(same, f"{table}: rows differ from those of the batch run")
        found.check(
            len(wanted) == story.traffic.records[table], f"{table}: the batch run has {len(wanted)} records itself"
        )
    for table in ("device_usage_hourly", "device_events_hourly"):
        same = proof.aggregates(story.output, table) == proof.aggregates(batch, table)
        found.check(same, f"{table}: sums differ from those of the batch run")


def _dead_letters(found: Verdict, story: Story) -> None:
    query = "SELECT payload_sha256, count(*) FROM dead_letters GROUP BY 1"
    letters = {str(digest): int(times) for digest, times in runs.ask(story.output, query)}
    lines = [line for lines in story.traffic.lines.values() for line in lines]
    wanted = {hashlib.sha256(line).hexdigest() for line in lines if line.endswith(b'"timestamp": ')}
    repeats = sum(letters.values()) - len(letters)
    found.figures.append(("dead letters", f"{len(letters):,} of {len(wanted):,}, {repeats:,} repeats"))
    found.check(letters.keys() == wanted, f"dead letters: {len(wanted - letters.keys())} lost")
    found.check(not repeats, f"dead letters: {repeats} doubled")


def _records(found: Verdict, story: Story, batch: Path, name: str) -> None:
    stream = proof.STREAMS[name]
    key = proof.KEYS[stream.content]
    rows = proof.delivered(story.output, story.receiver, name)
    ids = Counter(row[key] for row in rows)
    wanted = set(proof.selected(batch, name))
    repeats = sum(ids.values()) - len(ids)
    found.figures.append((f"stream {name} ({stream.type})", f"{len(ids):,} of {len(wanted):,}, {repeats:,} repeats"))
    lost, strange = len(wanted - ids.keys()), len(ids.keys() - wanted)
    found.check(not (lost or strange), f"stream {name}: {lost} lost, {strange} strange")
    found.check(stream.sends or not repeats, f"stream {name}: {repeats} doubled")
    contents = {row[key]: repr(row) for row in rows}
    same = all(contents[row[key]] == repr(row) for row in rows)
    found.check(same, f"stream {name}: a record that came again is another one")


def _sums(found: Verdict, story: Story, batch: Path, name: str) -> None:
    stream = proof.STREAMS[name]
    rows = proof.delivered(story.output, story.receiver, name, lineage=True)
    # Of the same writer and pane: the same partial sum, sent again.
    different = {repr(sorted(row.items())): row for row in rows}
    repeats = len(rows) - len(different)
    found.figures.append((f"stream {name} ({stream.type})", f"{len(different):,} sums, {repeats:,} repeats"))
    found.check(stream.sends or not repeats, f"stream {name}: {repeats} doubled")
    ours = proof.summed(proof.without_lineage(list(different.values())), stream.content)
    theirs = proof.aggregates(batch, stream.content, stream.where)
    alike = len(ours) == len(theirs) if stream.sends else ours == theirs
    total = sum(row["events"] for row in different.values()) if stream.sends else 0
    found.check(alike, f"stream {name}: {len(ours):,} sums against {len(theirs):,}, or others")
    if stream.sends:
        events = story.traffic.records["events"]
        found.check(total == events, f"stream {name}: its sums tell of {total:,} events, not {events:,}")


def _requests(found: Verdict, story: Story) -> None:
    """A request that is made again has the same id, and no other request has it."""
    bodies: dict[str, set[str]] = defaultdict(set)
    names: dict[str, set[str]] = defaultdict(set)
    for request in story.receiver.requests:
        name = request.headers["webhook-id"]
        records = repr([(row.get("event_id"), row.get("usage_id"), repr(row)) for row in json.loads(request.body)])
        records = f"{request.path} {records}"
        bodies[name].add(records)
        names[records].add(name)
    again = len(story.receiver.requests) - len(bodies)
    found.figures.append(("requests", f"{len(story.receiver.requests):,}, {again:,} of them made again"))
    found.check(all(len(one) == 1 for one in bodies.values()), "requests: one id for different records")
    found.check(all(len(one) == 1 for one in names.values()), "requests: the same records under two ids")
