"""Record batches of usage to rows of the table ``usage``."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas.lookups import CURRENCIES, TRAFFIC_TYPES, UNITS
from schemas.tables import SCHEMA_VERSION, USAGE
from transforms.classify import network
from transforms.classify.columns import Integers, numbers, text_array, words
from transforms.classify.identity import hours, iccid_19, imei_and_tac

_TRAFFIC = list(TRAFFIC_TYPES.values())
_TRAFFIC_VOCABULARY = text_array([*_TRAFFIC, None])
_UNIT_VOCABULARY = text_array([*(UNITS[name] for name in _TRAFFIC), None])
_NO_TRAFFIC = len(_TRAFFIC)


def _traffic_codes(ids: Integers, texts: pa.Array) -> Integers:
    """Codes of traffic types by id, else by text in any case; `_NO_TRAFFIC` for unknown ones."""
    codes = np.full(len(ids), _NO_TRAFFIC, np.int32)
    for number, name in TRAFFIC_TYPES.items():
        codes[ids == number] = _TRAFFIC.index(name)
    unnamed = ids < 0
    if unnamed.any():
        words_received = pc.utf8_trim_whitespace(pc.utf8_lower(texts)).fill_null("")
        for name in _TRAFFIC:
            same = pc.equal(words_received, name).to_numpy(zero_copy_only=False)
            codes[unnamed & same] = _TRAFFIC.index(name)
    return codes


def _currency(codes: pa.Array, ids: pa.Array) -> pa.Array:
    """ISO 4217 codes: as received, else by the platform's id."""
    if not codes.null_count:
        return codes
    numbers_received = numbers(ids)
    vocabulary = text_array([CURRENCIES.get(number) for number in range(max(CURRENCIES) + 1)])
    known = (numbers_received >= 0) & (numbers_received < len(vocabulary))
    return pc.coalesce(codes, words(np.where(known, numbers_received, 0), vocabulary))


def usage_rows(batch: pa.RecordBatch, writer: str, pane: int) -> pa.RecordBatch:
    """Normalises usage records.

    Args:
      batch: at most `PANE_ROWS` records in the schema `schemas.records.USAGE_RECORD`.
      writer: who writes the rows.
      pane: number of the writer's output for this cell.

    Returns:
      One row per record, in their order, in the schema of the table ``usage``. Traffic types that are not known have no
      unit; their volumes are kept as received.
    """
    count = batch.num_rows
    traffic = _traffic_codes(numbers(batch.column("traffic_type_id")), batch.column("traffic_type_received"))
    imei, tac = imei_and_tac(batch.column("imei_raw"))
    rows = {
        "hour": hours(pc.coalesce(batch.column("end_time"), batch.column("start_time"))),
        "traffic_type": words(traffic, _TRAFFIC_VOCABULARY),
        "unit": words(traffic, _UNIT_VOCABULARY),
        "currency": _currency(batch.column("currency"), batch.column("currency_id")),
        "imei": imei,
        "tac": tac,
        "iccid_19": iccid_19(batch.column("iccid")),
        "country_iso": network.country_iso(batch.column("mcc")),
        "rat": network.rat(batch.column("rat_type")),
        "writer": pa.repeat(writer, count),
        "pane": pa.repeat(pa.scalar(pane, pa.int32()), count),
        "source_file": batch.column("source_file").cast(pa.string()),
        "schema_version": pa.repeat(pa.scalar(SCHEMA_VERSION, pa.int32()), count),
    }
    columns = [rows[name] if name in rows else batch.column(name) for name in USAGE.schema.names]
    return pa.RecordBatch.from_arrays(columns, schema=USAGE.schema)
