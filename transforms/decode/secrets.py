"""Finds the records in which secrets may stand, at the speed of the scan; `transforms.dead_letters.scrub` removes them."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from transforms.dead_letters import scrub

# Literals only: such an alternation is searched with vector instructions (0.2 µs per kilobyte and record).
_SUSPECT = r"eyJ|oken|TOKEN|assw|ASSW|Passw|ecret|SECRET|Key\"|key\"|KEY\"|Key\\|key\\|Key=|key=|Bearer |Basic |://"


def scrub_lines(lines: list[bytes], joined: bytes) -> list[bytes]:
    """The lines with their secrets replaced by ``***``; ``joined`` are the same lines as one text."""
    text = joined.decode("utf-8", "replace")
    if not pl.Series([text]).str.contains(_SUSPECT)[0]:
        return lines
    suspects = pl.Series([line.decode("utf-8", "replace") for line in lines]).str.contains(_SUSPECT)
    scrubbed = list(lines)
    for row in suspects.arg_true().to_list():
        scrubbed[row] = scrub(lines[row])
    return scrubbed


__all__: Sequence[str] = ("scrub_lines",)
