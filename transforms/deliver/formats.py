"""Formats: how the records of a part are packed into one file. The same rows give the same bytes.

| format | extension | shapes | holds |
|---|---|---|---|
| ndjson | ndjson.gz | table, emnify, csv | one JSON object per line, gzip |
| json | json | table, emnify, csv | one JSON array |
| csv | csv | table, csv | a header, every value in double quotes; a missing value is empty, without quotes |
| parquet | parquet | table, csv | compressed; exact decimals |
| avro | avro | table, csv | deflate; decimals and times as logical types |
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, Any

import fastavro
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import xxhash
from isal import isal_zlib

from schemas.derive import avro_schema
from schemas.tables import TABLES, Table
from transforms.deliver import text
from transforms.deliver.selection import Selection
from transforms.deliver.shapes import SHAPES, flat_rows, flat_schema

_EMNIFY_CONTENTS = ("events", "usage")
_CSV_TIMES = {"table": text.RFC3339, "csv": "%Y-%m-%d %H:%M:%S"}
"""How CSV shows times: emnify's columns have no fraction."""


@dataclass(frozen=True)
class Format:
    """One format: its file extension, the shapes it can pack, and the function (shape, content, rows) that does it."""

    extension: str
    shapes: tuple[str, ...]
    pack: Callable[[str, str, Selection], bytes]
    texts: bool = False
    """Whether it packs JSON texts, which streams can share."""


def encode(form: str, shape: str, content: str, rows: pa.RecordBatch | Selection) -> bytes:
    """The bytes of a file that holds rows.

    Args:
      form: one of `FORMATS`.
      shape: one of `transforms.deliver.shapes.SHAPES`.
      content: the table of the rows.
      rows: rows of that table; none gives a valid empty file.
    """
    return FORMATS[form].pack(shape, content, Selection.of(rows))


def check(form: str, shape: str, content: str) -> str | None:
    """Why a stream cannot have this format, shape and content together; None where it can."""
    if form not in FORMATS or shape not in SHAPES:
        return None  # found by the stream's own definition
    if shape != "table" and content not in _EMNIFY_CONTENTS:
        return f"shape {shape} is emnify's and has no {content}: use shape table"
    if shape not in FORMATS[form].shapes:
        able = ", ".join(name for name, other in FORMATS.items() if shape in other.shapes)
        return f"shape {shape} is nested and format {form} is not: use format {able}, or shape table or csv"
    return None


_GZIP = 16 + isal_zlib.MAX_WBITS
"""Asks for gzip's frame; its time is 0, so that equal content gives equal bytes."""


def _ndjson(shape: str, content: str, selection: Selection) -> bytes:
    packer = isal_zlib.compressobj(1, isal_zlib.DEFLATED, _GZIP)
    pieces = [packer.compress(text.ndjson(lines)) for lines in selection.json_lines(shape, content)]
    return b"".join((*pieces, packer.flush()))


def _json(shape: str, content: str, selection: Selection) -> bytes:
    return text.json_array(pl.concat([pl.Series(dtype=pl.String), *selection.json_lines(shape, content)]))


def _csv(shape: str, content: str, selection: Selection) -> bytes:
    frame = text.frame_of(flat_rows(shape, content, selection.rows))
    times = _CSV_TIMES[shape]
    words = frame.select(text.encodable(name, kind, times).cast(pl.String) for name, kind in frame.schema.items())
    sink = pa.BufferOutputStream()
    options = pyarrow.csv.WriteOptions(quoting_style="all_valid")
    pyarrow.csv.write_csv(words.to_arrow(compat_level=pl.CompatLevel.oldest()), sink, options)
    return sink.getvalue().to_pybytes()


_VARIED = ("id", "description", "detail", "extra", "session_id", "source_ip", "payload_sha256", "path", "checksum")
"""Texts that seldom repeat within a part."""


def parquet(rows: pa.RecordBatch | pa.Table) -> bytes:
    """Parquet of flat rows: one row group; dictionaries and LZ4 where values repeat, Zstandard elsewhere.

    Columns with dictionaries are small already; Zstandard would take more time for little.
    Only numbers and times have statistics: with one row group, minimum and maximum of a text seldom let a reader skip
    anything, and they cost time.

    The Arrow schema is not embedded: it would weigh on each of many small parts, and Parquet's own types say the same.
    """
    sink = pa.BufferOutputStream()
    with parquet_writer(sink, rows.schema) as writer:
        writer.write_table(
            pa.Table.from_batches([rows]) if isinstance(rows, pa.RecordBatch) else rows, max(rows.num_rows, 1)
        )
    return sink.getvalue().to_pybytes()


def parquet_writer(sink: pa.NativeFile | IO[bytes], schema: pa.Schema) -> pyarrow.parquet.ParquetWriter:
    """A writer of what `parquet` makes, for rows that come piece by piece."""
    repeated = [field.name for field in schema if _repeats(field)]
    varied = [name for name in schema.names if name not in repeated]
    return pyarrow.parquet.ParquetWriter(
        sink,
        schema,
        compression={**dict.fromkeys(repeated, "lz4"), **dict.fromkeys(varied, "zstd")},
        compression_level=dict.fromkeys(varied, 1),
        use_dictionary=repeated,
        write_statistics=[field.name for field in schema if _is_number(field.type)],
        store_schema=False,
    )


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_temporal(kind)


def _repeats(field: pa.Field) -> bool:
    return field.name not in _VARIED and (pa.types.is_string(field.type) or field.name in _FEW_NUMBERS)


_FEW_NUMBERS = (
    "hour", "pane", "schema_version", "ingest_time", "event_type_id", "organisation_id", "operator_id", "tariff_id",
    "ratezone_id", "traffic_type_id", "country_id", "currency_id", "gtp_version", "sim_production_date",
    "imsi_import_date",
)  # fmt: skip
"""Number columns whose values repeat within a part."""


def _parquet(shape: str, content: str, selection: Selection) -> bytes:
    return parquet(flat_rows(shape, content, selection.rows))


def _avro(shape: str, content: str, selection: Selection) -> bytes:
    table = TABLES[content]
    if shape == "csv":
        about = f"{content} with the columns of emnify's CSV export."
        table = Table(f"{content}_csv", about, flat_schema(shape, content))
    schema = avro_schema(table)
    sink = io.BytesIO()
    # fastavro's marker between blocks is random unless given.
    marker = xxhash.xxh3_128_digest(repr(schema).encode())
    flat = flat_rows(shape, content, selection.rows)
    columns = [_avro_values(column) for column in flat.columns]
    records = (dict(zip(flat.schema.names, values, strict=True)) for values in zip(*columns, strict=True))
    fastavro.writer(sink, schema, records, codec="deflate", sync_marker=marker)
    return sink.getvalue()


def _avro_values(column: pa.Array) -> list[Any]:
    """Values as Avro stores them: no `Decimal` and `datetime` objects, which fastavro would take apart one by one."""
    if pa.types.is_timestamp(column.type):
        return column.cast(pa.int64()).to_pylist()
    if not pa.types.is_decimal(column.type):
        return column.to_pylist()
    # 16 bytes of two's complement, most significant last in Arrow and first in Avro.
    width = column.type.byte_width
    words = np.frombuffer(column.buffers()[1], np.uint8)[column.offset * width : (column.offset + len(column)) * width]
    numbers = words.reshape(-1, width)[:, ::-1].tobytes()
    present = column.is_valid().to_pylist()
    return [numbers[at * width : (at + 1) * width] if there else None for at, there in enumerate(present)]


FORMATS: dict[str, Format] = {
    "ndjson": Format("ndjson.gz", ("table", "emnify", "csv"), _ndjson, texts=True),
    "json": Format("json", ("table", "emnify", "csv"), _json, texts=True),
    "csv": Format("csv", ("table", "csv"), _csv),
    "parquet": Format("parquet", ("table", "csv"), _parquet),
    "avro": Format("avro", ("table", "csv"), _avro),
}
"""The formats by name."""
