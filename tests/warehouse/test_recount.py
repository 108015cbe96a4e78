from __future__ import annotations

import gzip
import io
from pathlib import Path

import fastavro
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import xxhash

from warehouse.recount import UnknownFormat, count_rows, problem

TABLE = pa.table({"id": [1, 2, 3], "text": ['line one\nline "two"', "a,b", ""]})


def _csv() -> bytes:
    sink = io.BytesIO()
    pyarrow.csv.write_csv(TABLE, sink)
    return sink.getvalue()


def _parquet() -> bytes:
    sink = io.BytesIO()
    pq.write_table(TABLE, sink)
    return sink.getvalue()


def _avro() -> bytes:
    sink = io.BytesIO()
    schema = {"type": "record", "name": "r", "fields": [{"name": "id", "type": "long"}]}
    fastavro.writer(sink, schema, [{"id": number} for number in range(3)], sync_interval=1)
    return sink.getvalue()


def _arrow() -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_file(sink, TABLE.schema) as writer:
        writer.write_table(TABLE, max_chunksize=2)
    return sink.getvalue()


CONTENTS = {
    "rows.csv": _csv(),
    "rows.csv.gz": gzip.compress(_csv()),
    "rows.ndjson": b'{"a":"\\n"}\n{}\n{}\n',
    "last-line-open.ndjson": b"{}\n{}\n{}",
    "rows.ndjson.gz": gzip.compress(b"{}\n" * 2) + gzip.compress(b"{}\n"),
    "rows.json": b'[{"a": [1, 2]}, {},\n {}]',
    "rows.json.gz": gzip.compress(b"[{},{},{}]"),
    "rows.parquet": _parquet(),
    "rows.avro": _avro(),
    "rows.arrow": _arrow(),
}
EMPTY = {"none.csv": b"", "header.csv": b"id,text\n", "none.ndjson": b"", "none.json": b"[]"}


@pytest.mark.parametrize("name", CONTENTS)
def test_rows_are_counted_by_format(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(CONTENTS[name])
    assert count_rows(str(tmp_path / name)) == 3


@pytest.mark.parametrize("name", EMPTY)
def test_files_without_rows(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(EMPTY[name])
    assert count_rows(str(tmp_path / name)) == 0


@pytest.mark.parametrize(
    "name", ["rows.parquet", "rows.avro", "rows.arrow", "rows.json", "rows.ndjson.gz", "rows.csv.gz"]
)
def test_a_file_cut_short_with_its_checksum_listed_is_unreadable_or_short(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(CONTENTS[name][:-9])
    data = path.read_bytes()
    found = problem(str(path), 3, len(data), f"xxh3_128:{xxhash.xxh3_128_hexdigest(data)}")
    assert found is not None
    assert found.startswith(("cannot be read", "holds"))


def test_what_differs_is_said(tmp_path: Path) -> None:
    path = tmp_path / "rows.ndjson"
    path.write_bytes(b"{}\n{}\n")
    checksum = f"xxh3_128:{xxhash.xxh3_128_hexdigest(path.read_bytes())}"
    assert problem(str(path), 2, 6, checksum) is None
    assert problem(str(path), 3, 6, checksum) == "holds 2 rows, listed 3"
    assert problem(str(path), 2, 7, checksum) == "is cut short: 6 bytes, listed 7"
    assert problem(str(path), 2, 5, checksum) == "has grown: 6 bytes, listed 5"
    assert (problem(str(path), 2, 6, "xxh3_128:00") or "").startswith("has changed: checksum xxh3_128:")
    assert problem(str(tmp_path / "none.ndjson"), 2, 6, checksum) == "is missing"


def test_an_unknown_suffix_is_refused(tmp_path: Path) -> None:
    (tmp_path / "rows.xml").write_bytes(b"")
    with pytest.raises(UnknownFormat, match=r"expected one of \.arrow"):
        count_rows(str(tmp_path / "rows.xml"))
