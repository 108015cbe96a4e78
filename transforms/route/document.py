"""Fills the tables of ``docs/streams.md`` from the models: ``python -m transforms.route.document [FILE]``."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from schemas.destinations import SecretReference
from schemas.filter_keys import KEYS
from schemas.filters import Filter
from schemas.masks import CLASSES, NUMBERS, MaskEntry
from schemas.streams import SHAPES, Batch, Stream
from schemas.tables import STREAM_CONTENTS
from transforms.deliver.document import overview

_BLOCK = re.compile(r"(<!-- begin (\w+) -->\n).*?(<!-- end \2 -->)", re.DOTALL)


def filled_in(document: str) -> str:
    """The document with its marked blocks written anew."""
    return _BLOCK.sub(lambda match: f"{match[1]}{BLOCKS[match[2]]()}\n{match[3]}", document)


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def _field_rows(model: type[BaseModel]) -> list[tuple[str, ...]]:
    return [
        (f"`{field.alias or name}`", _default(field.default), field.description or "")
        for name, field in model.model_fields.items()
    ]


def _default(default: Any) -> str:
    if default is PydanticUndefined:
        return "required"
    if default is None or default == () or isinstance(default, (Filter, Batch)):
        return ""
    return f"`{default}`"


def _stream_keys() -> str:
    return _table(("key", "default", "what"), _field_rows(Stream))


def _batch_keys() -> str:
    return _table(("key", "default", "what"), _field_rows(Batch))


def _mask_keys() -> str:
    return _table(("key", "default", "what"), _field_rows(MaskEntry))


def _mask_classes() -> str:
    rows = []
    for name, columns in CLASSES.items():
        kept = [
            f"`{column}`" + (f" ({keep})" if keep and column not in NUMBERS else "") for column, keep in columns.items()
        ]
        rows.append((f"`{name}`", ", ".join(kept)))
    return _table(("class", "columns"), rows)


def _filter_keys() -> str:
    rows = []
    for key in KEYS.values():
        words = key.json_schema.get("enum", ())
        listed = f": {', '.join(f'`{word}`' for word in words)}" if 0 < len(words) <= 15 else ""
        contents = "all" if len(key.contents()) == len(STREAM_CONTENTS) else ", ".join(key.contents())
        rows.append((f"`{key.name}`", f"{key.about}{listed}", contents))
    groups = ("all_of", "any_of", "not_")
    for name, field in Filter.model_fields.items():
        if name in groups:
            rows.append((f"`{field.alias or name}`", (field.description or "").rstrip("."), "all"))
    return _table(("key", "values", "contents"), rows)


def _shapes() -> str:
    rows = [
        (f"`{shape}`", about, ", ".join(contents) if contents != STREAM_CONTENTS else "all", ", ".join(formats))
        for shape, (contents, formats, about) in SHAPES.items()
    ]
    return _table(("shape", "a row is", "contents", "formats"), rows)


def _destinations() -> str:
    return overview("destinations/")


def _secrets() -> str:
    return _table(("key", "default", "what"), _field_rows(SecretReference))


BLOCKS: dict[str, Callable[[], str]] = {
    "stream_keys": _stream_keys,
    "batch_keys": _batch_keys,
    "filter_keys": _filter_keys,
    "shapes": _shapes,
    "destinations": _destinations,
    "secrets": _secrets,
    "mask_keys": _mask_keys,
    "mask_classes": _mask_classes,
}
"""Name of each block → what makes its text."""


if __name__ == "__main__":
    file = Path(sys.argv[1] if len(sys.argv) > 1 else "docs/streams.md")
    file.write_text(filled_in(file.read_text(encoding="utf-8")), encoding="utf-8")
