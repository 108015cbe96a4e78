"""Ids of what is delivered: the same record always has the same, in any batch, process and run."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from schemas.tables import TABLES
from tests.transforms.deliver.push.scripted import batch_of, usage
from tests.transforms.deliver.support import AGGREGATE_ROW, HOUR, Stream, rows_of
from transforms.deliver.push import identity


def test_ids_of_records_are_their_own() -> None:
    assert batch_of(usage([3, 1])).ids == ["archive/usage/3", "archive/usage/1"]
    events = rows_of("events", {"event_id": 9})
    assert identity.record_ids("s", "events", events) == ["s/events/9"]


def test_ids_are_pinned() -> None:
    """A receiver remembers them: another version of this program must not change them."""
    rows = rows_of("device_usage_hourly", {})
    assert identity.record_ids("s", "device_usage_hourly", rows) == [
        "s/device_usage_hourly/" + PINNED_AGGREGATE
    ]  # fmt: skip
    assert identity.digest(["s/usage/1", "s/usage/2"]) == PINNED_DIGEST
    assert identity.key_of("stream", 3) == PINNED_KEY
    assert identity.shards_of(rows_of("usage", *({"endpoint_id": n} for n in range(8))), 4).tolist() == PINNED_SHARDS


PINNED_AGGREGATE = "7ec4353f9f0aa1b41fc661d3d8f4865e"
PINNED_DIGEST = "05be028202df57d494bb199b37a6e58d"
PINNED_KEY = 7891481521431206948
PINNED_SHARDS = [0, 1, 2, 0, 0, 0, 0, 0]


def test_ids_of_aggregates_tell_apart_whatever_is_part_of_their_key() -> None:
    rows = rows_of(
        "device_usage_hourly",
        *({name: value} for name, value in [
            ("hour", HOUR + 3_600_000_000), ("writer", "other"), ("pane", 1), ("organisation_id", 1),
            ("endpoint_id", 2), ("traffic_type", "sms"), ("currency", None),
        ]), {},
    )  # fmt: skip
    ids = identity.record_ids("s", "device_usage_hourly", rows)
    assert len(set(ids)) == len(ids) == 8
    # What is counted is no part of it.
    changed = rows_of("device_usage_hourly", {"records": AGGREGATE_ROW["records"] + 1})
    assert identity.record_ids("s", "device_usage_hourly", changed) == ids[-1:]


def test_another_process_gives_the_same(tmp_path: object) -> None:
    code = (
        "from tests.transforms.deliver.support import rows_of\n"
        "from transforms.deliver.push import identity\n"
        "print(identity.record_ids('s', 'device_usage_hourly', rows_of('device_usage_hourly', {})))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(
        identity.record_ids("s", "device_usage_hourly", rows_of("device_usage_hourly", {}))
    )


def test_the_digest_goes_with_the_ids_and_their_order() -> None:
    batch = batch_of(usage([1, 2, 3]))
    assert batch.digest == batch_of(usage([1, 2, 3])).digest == batch_of(usage([0, 1, 2, 3])).slice(1, 3).digest
    others = {batch_of(usage(ids)).digest for ids in ([3, 2, 1], [1, 2], [1, 2, 4])}
    assert batch.digest not in others and len(others) == 3
    assert batch_of(usage([1]), Stream(name="other")).digest != batch_of(usage([1])).digest


@given(st.lists(st.none() | st.integers(0, 2**62), min_size=1, max_size=50), st.integers(1, 256))
def test_a_device_has_one_shard_wherever_its_rows_are(devices: list[int | None], shards: int) -> None:
    rows = rows_of("usage", *({"endpoint_id": device} for device in devices))
    found = identity.shards_of(rows, shards)
    assert found.min() >= 0 and found.max() < shards
    for place in range(rows.num_rows):
        assert identity.shards_of(rows.slice(place, 1), shards)[0] == found[place]


def test_neighbouring_devices_are_spread() -> None:
    schema = TABLES["usage"].schema
    columns = {"endpoint_id": pa.array(range(10_000), pa.int64()), "organisation_id": pa.nulls(10_000, pa.int64())}
    arrays = [columns.get(field.name, pa.nulls(10_000, field.type)) for field in schema]
    counts = np.bincount(identity.shards_of(pa.RecordBatch.from_arrays(arrays, schema=schema), 8), minlength=8)
    assert counts.min() > 1_100 and counts.max() < 1_400


def test_keys_are_those_of_devices() -> None:
    rows = rows_of("usage", {"endpoint_id": 7}, {"endpoint_id": None, "organisation_id": 5})
    assert identity.device_keys(rows) == ["7", "organisation-5"]


def test_keys_of_lanes_do_not_meet() -> None:
    keys = {identity.key_of(f"stream-{stream}", shard) for stream in range(100) for shard in range(100)}
    assert len(keys) == 10_000 and all(0 <= key < 2**63 for key in keys)
