"""Hides personal data in what the report shows: the names and ids of devices and organisations, and texts.

What is hidden is said by the streams file (``report: {mask: [...]}``). A run keeps it in ``warehouse/_report.json``, so
that the report stays masked when it is written again. The file holds references to keys, never keys.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from schemas.destinations import SecretError, SecretReference
from schemas.streams import Report
from transforms.route.masking import Mask
from warehouse.layout import REPORT_MASK_FILE, WarehouseError
from warehouse.report.facts import Facts, Row


def read_mask(output: Path) -> Mask | None:
    """The mask of an output directory's report; None where nothing is to be hidden.

    Raises:
      WarehouseError: the file cannot be understood, or a key cannot be read.
    """
    path = output / REPORT_MASK_FILE
    if not path.is_file():
        return None
    try:
        entries = Report.model_validate(json.loads(path.read_bytes())).mask
        return Mask.of(entries, SecretReference.resolve) if entries else None
    except (ValueError, ValidationError) as error:
        raise WarehouseError(f"{path}: no mask of a report as a run writes it; run the same command again") from error
    except SecretError as error:
        raise WarehouseError(f"the report cannot be masked: {error}") from error


def masked(facts: Facts, mask: Mask) -> Facts:
    """The facts without what the mask hides."""

    def changed(rows: list[Row], **columns: str | Callable[[Row], str]) -> list[Row]:
        return [row | {name: _value(mask, row, name, of) for name, of in columns.items()} for row in rows]

    devices = {
        currency: changed(rows, endpoint_id="endpoint_id", name="endpoint_name", organisation="organisation_name")
        for currency, rows in facts.devices.items()
    }
    return dataclasses.replace(
        facts,
        devices=devices,
        limit_devices=changed(
            facts.limit_devices,
            endpoint_id="endpoint_id",
            name=lambda row: "organisation_name" if row["of_organisation"] else "endpoint_name",
        ),
        operators=changed(facts.operators, name="operator_name"),
        networks=changed(facts.networks, operator_name="operator_name"),
        dead_letters=changed(facts.dead_letters, example="description"),
        unknown_types=changed(facts.unknown_types, name="event_type_received"),
        other_texts=changed(facts.other_texts, text="description"),
    )


def _value(mask: Mask, row: Row, name: str, of: str | Callable[[Row], str]) -> Any:
    return mask.value(of if isinstance(of, str) else of(row), row[name])
