"""Masks around a run: their keys are looked for before it, and what the report hides is kept beside the warehouse."""

from __future__ import annotations

import json
from collections.abc import Sequence

from apache_beam.io.filesystems import FileSystems

from schemas.destinations import SecretError, SecretReference
from schemas.masks import MaskEntry
from schemas.streams import Report, Stream
from transforms.deliver import storage
from transforms.route.masking import Mask
from warehouse.layout import REPORT_MASK_FILE


def key_mistakes(streams: Sequence[Stream], report: Sequence[MaskEntry]) -> list[str]:
    """Keys of masks that cannot be read on this machine, or are too short; each told once for all that name it."""
    told: dict[str, list[str]] = {}
    masks = [(f"stream {stream.name}", stream.mask) for stream in streams] + [("the report", tuple(report))]
    for owner, mask in masks:
        try:
            Mask.of(mask, SecretReference.resolve)
        except SecretError as error:
            told.setdefault(str(error), []).append(owner)
    return [f"{', '.join(owners)}: mask: {error}" for error, owners in told.items()]


def write_report_mask(output: str, mask: Sequence[MaskEntry] | None) -> None:
    """Keeps what the report hides, for whoever writes it again; None leaves what an earlier run kept."""
    path = storage.join(output, REPORT_MASK_FILE)
    if mask is None or not (mask or FileSystems.exists(path)):
        return
    kept = Report(mask=tuple(mask)).model_dump(mode="json", exclude_none=True)
    storage.publish(path, json.dumps(kept, indent=1).encode())
