"""A run over a small simulated day, and what streams have to get of it: the filter, in SQL, over the warehouse."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines import commands
from tests.destinations.reading import IDS, record_id_of
from tests.end_to_end import jobs, runs
from transforms.deliver import formats
from transforms.deliver.shapes import json_lines

FILTERS: dict[str, tuple[dict[str, Any], str]] = {
    "events": ({"any_of": [{"min_severity": "WARN"}, {"category": "network_attachment"}]},
               "severity IN ('WARN', 'ERROR', 'CRITICAL') OR category = 'network_attachment'"),
    "usage": ({"traffic_type": "sms"}, "traffic_type = 'sms'"),
}  # fmt: skip
"""For each content a filter, and the same as SQL."""


@dataclass(frozen=True)
class Site:
    """A simulated feed and an output directory.

    Attributes:
      feed: directory of the feed.
      output: the output directory.
    """

    feed: Path
    output: Path

    def arguments(self, streams: Path | None, *options: str, usage: bool = True) -> list[str]:
        """The job's command line."""
        feeds = [f"--{feed}={self.feed}/{feed}/*/*" for feed in runs.RECORD_TABLES if usage or feed == "events"]
        given = [f"--streams={streams}"] if streams is not None else []
        return [*feeds, *given, f"--output={self.output}", "--no_report", *options]

    def run(self, streams: Path | None, *options: str, code: int = 0, usage: bool = True) -> str:
        """Runs the job in this process and returns what it printed."""
        done = jobs.start(*self.arguments(streams, *options, usage=usage))
        assert done.code == code, f"exit code {done.code}, expected {code}\n{done.text}"
        return done.text

    def deliver(self, streams: Path, code: int = 0) -> None:
        """Delivers what is pending."""
        assert commands.main(["deliver", str(self.output), "--streams", str(streams)]) == code

    def rows(self, content: str) -> pa.Table:
        """The rows of a table, in the order of their hours and within them."""
        return warehouse_rows(self.output, content)

    def expected(self, content: str, packing: tuple[str, str], sql: str = "true") -> dict[int, dict[str, Any]]:
        """What a stream with this filter has to get: the records by their id, in order."""
        wanted = {number for (number,) in runs.ask(self.output, f"SELECT {IDS[content]} FROM {content} WHERE {sql}")}
        rows = self.rows(content)
        rows = rows.filter(pa.array([number in wanted for number in rows.column(IDS[content]).to_pylist()]))
        return {record_id_of(record): record for record in rendered(rows, content, *packing)}

    def ledger(self) -> dict[str, tuple[int, int, int]]:
        """Delivered, pending and dead-lettered records of each stream."""
        return ledger_of(self.output)


def warehouse_rows(output: Path, content: str) -> pa.Table:
    """The rows of a table, in the order of their hours and within them."""
    return pa.concat_tables(
        pq.ParquetFile(path).read() for path in sorted(Path(output, "warehouse", content).rglob("*.parquet"))
    )


def rendered(rows: pa.Table, content: str, form: str, shape: str) -> list[dict[str, Any]]:
    """Rows as records of a shape; cells of CSV are texts."""
    if form == "csv":
        (batch,) = rows.combine_chunks().to_batches()
        return list(csv.DictReader(io.StringIO(formats.encode("csv", shape, content, batch).decode("utf-8-sig"))))
    return [json.loads(text) for batch in rows.to_batches() for text in json_lines(shape, content, batch)]


def ledger_of(output: Path) -> dict[str, tuple[int, int, int]]:
    """Delivered, pending and dead-lettered records of each stream."""
    sums = "sum(delivered)::INT, sum(pending)::INT, sum(dead_lettered)::INT"
    found = runs.ask(output, f"SELECT stream, {sums} FROM ledger WHERE stage = 'stream' GROUP BY stream")
    return {stream: (delivered, pending, dead) for stream, delivered, pending, dead in found}
