"""One run with ten streams and more, to all types of destinations at once: each gets what its filter selects."""

from __future__ import annotations

import warnings
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.destinations.bench import Bench, Benches
from tests.destinations.site import FILTERS, Site
from tests.end_to_end import jobs
from transforms.deliver.registry import DESTINATIONS

pytestmark = pytest.mark.slow

FEWEST_TYPES, FEWEST_STREAMS = 9, 10
EVERYTHING: tuple[dict[str, Any], str] = ({}, "true")
PICKED = {
    "events": [FILTERS["events"], ({"alert": True}, "alert"), EVERYTHING],
    "usage": [FILTERS["usage"], ({"traffic_type": "data"}, "traffic_type = 'data'")],
}
"""Filters, and the same as SQL."""


def opened(benches: Benches, stack: ExitStack) -> dict[str, Bench]:
    """The benches of all types that can be looked at; those whose servers cannot be had are warned of, since nobody
    sees what a test that passes prints.
    """
    found: dict[str, Bench] = {}
    for kind in DESTINATIONS:
        try:
            bench = stack.enter_context(benches.use(kind))
        except pytest.skip.Exception as skipped:
            warnings.warn(f"ten streams go without {kind}: {skipped}", stacklevel=2)
            continue
        if bench.keeps:
            found[kind] = bench
    if len(found) < FEWEST_TYPES:
        pytest.skip(f"only {len(found)} of {FEWEST_TYPES} types have a server here: {', '.join(found)}")
    return found


def test_each_gets_what_its_filter_selects(benches: Benches, whole_day: Site, tmp_path: Path) -> None:
    wanted: dict[str, tuple[Bench, str, tuple[str, str], str]] = {}
    definitions: list[dict[str, Any]] = []
    with ExitStack() as stack:
        types = opened(benches, stack)
        for number, bench in enumerate([*types.values(), *types.values()][: max(FEWEST_STREAMS, len(types))]):
            content = bench.contents[number % len(bench.contents)]
            selected, sql = PICKED[content][number // 2 % len(PICKED[content])]
            form, shape = bench.packings[number % len(bench.packings)]
            name, options = f"stream-{number}", bench.options(f"stream-{number}", content)
            if "AWS_ENDPOINT_URL" in bench.environment:  # each of Amazon's services has a server of its own here
                options = {"endpoint": bench.environment["AWS_ENDPOINT_URL"], **options}
            bench.output = str(whole_day.output)
            wanted[name] = bench, content, (form, shape), sql
            definitions.append(
                {"name": name, "content": content, "filter": selected, "format": form, "shape": shape,
                 "destination": options}
            )  # fmt: skip
        more = [option for bench in types.values() for option in bench.command_options()]
        whole_day.run(jobs.write_streams(tmp_path / "streams.yaml", *definitions), *more)
        ledger = whole_day.ledger()
        for name, (bench, content, packing, sql) in wanted.items():
            expected = whole_day.expected(content, packing, sql)
            received = bench.received(name, content)
            assert ledger[name] == (len(expected), 0, 0) and expected, f"{name} to {bench.type}"
            assert sorted(each.record_id for each in received) == sorted(expected), f"{name} to {bench.type}"
            assert {each.record_id: each.record for each in received} == expected, f"{name} to {bench.type}"
