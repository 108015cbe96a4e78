"""Writes the reference page of each destination from the code: ``python -m transforms.deliver.document [DIRECTORY]``.

A page holds what a user has to know: an example, the guarantee with its limits and caveats, and the options.
"""

from __future__ import annotations

import inspect
import io
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from ruamel.yaml import YAML

from schemas.destinations import SecretReference
from transforms.deliver.destination import Destination, Kind
from transforms.deliver.registry import DESTINATIONS

DIRECTORY = Path("docs/destinations")


def example(name: str) -> dict[str, Any]:
    """A stream to a destination of this type, as plain values: its required options, and those that have an example."""
    options = {"type": name}
    for key, field in DESTINATIONS[name].options_model.model_fields.items():
        if field.examples and key != "type":
            options[key] = field.examples[0]
    return {"name": f"to-{name}", "content": "events", "filter": {"min_severity": "WARN"}, "destination": options}


def page(name: str) -> str:
    """The reference page of a destination type, in Markdown."""
    destination = DESTINATIONS[name]
    return "\n\n".join((
        f"# Destination `{name}`",
        "Written by `make docs` from the code.",
        _prose(destination.options_model.__doc__),
        f"```yaml\n{_yaml({'streams': [example(name)]})}```",
        _prose(destination.__doc__),
        _facts(destination),
        "## Options",
        _table(destination.options_model),
        *_sections(destination.options_model),
    )) + "\n"  # fmt: skip


def index() -> str:
    """The list of all destination types, in Markdown."""
    return f"# Destinations\n\nWritten by `make docs` from the code.\n\n{overview()}\n"


def overview(directory: str = "") -> str:
    """A table of all destination types, with links to their pages."""
    lines = ["| type | what | served | `audit` |", "|---|---|---|---|"]
    for name, destination in sorted(DESTINATIONS.items()):
        about = _prose(destination.options_model.__doc__).split("\n\n")[0].replace("\n", " ")
        served, audited = _SERVED[destination.kind], _audited(destination)
        lines.append(f"| [`{name}`]({directory}{name}.md) | {about} | {served} | {audited} |")
    return "\n".join(lines)


_SERVED = {Kind.STORED: "by cell", Kind.PUSHED: "pushed"}


def _audited(destination: type[Destination[Any]]) -> str:
    return "counts again" if destination.recountable else "checks receipts"


def _facts(destination: type[Destination[Any]]) -> str:
    extra = destination.extra
    needs = f"Needs the extra `{extra}`: `pip install -e '.[{extra}]'`. " if extra else ""
    can = "counts again what lies there" if destination.recountable else "can check receipts only"
    return f"{needs}`audit` {can}."


def _prose(docstring: str | None) -> str:
    """A docstring as Markdown: names in one back quote, references to code without their module."""
    return inspect.cleandoc(docstring or "").replace("``", "`")


def _yaml(value: Any) -> str:
    sink = io.StringIO()
    yaml = YAML()
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.width = 120
    yaml.dump(value, sink)
    return sink.getvalue()


def _table(model: type[BaseModel]) -> str:
    lines = ["| key | value | default | what |", "|---|---|---|---|"]
    for name, field in model.model_fields.items():
        if name != "type":
            cells = (f"`{field.alias or name}`", _kind(field.annotation), _default(field), field.description or "")
            lines.append("| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |")
    return "\n".join(lines)


def _sections(model: type[BaseModel]) -> Iterator[str]:
    """The keys of options that are mappings themselves."""
    for name, field in model.model_fields.items():
        nested = [part for part in _parts(field.annotation) if part is not SecretReference and _is_model(part)]
        for part in nested:
            yield f"### `{name}`\n\n{_table(part)}"


def _parts(annotation: Any) -> Iterator[Any]:
    if get_args(annotation) and not _is_model(annotation):
        for part in get_args(annotation):
            yield from _parts(part)
    else:
        yield annotation


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


_WORDS = {
    str: "text",
    int: "whole number",
    float: "number",
    bool: "true or false",
    SecretReference: "secret",
    SecretStr: "text",
}


def _kind(annotation: Any) -> str:
    """A type in words."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin in (Union, UnionType):
        return " or ".join(dict.fromkeys(_kind(part) for part in parts if part is not type(None)))
    if origin is tuple:
        return f"list of {_kind(parts[0])}"
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return f"mapping of {_kind(parts[0])} to {_kind(parts[1])}"
    if parts and all(isinstance(part, str) for part in parts):  # a closed list of words
        return ", ".join(f"`{part}`" for part in parts)
    if hasattr(annotation, "__metadata__"):
        return _kind(parts[0])
    return _WORDS.get(annotation, "mapping, see below" if _is_model(annotation) else str(annotation))


def _default(field: FieldInfo) -> str:
    value = field.default
    if value is PydanticUndefined:
        return "required"
    if value is None or value in ((), {}) or isinstance(value, BaseModel):
        return ""
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def write(directory: Path = DIRECTORY) -> None:
    """Writes all pages, and removes those of types that are no more."""
    directory.mkdir(parents=True, exist_ok=True)
    pages = {"index.md": index()} | {f"{name}.md": page(name) for name in DESTINATIONS}
    for left in set(directory.glob("*.md")) - {directory / name for name in pages}:
        left.unlink()
    for name, text in pages.items():
        (directory / name).write_text(text, "utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else DIRECTORY)
