"""Render the report: one HTML page with its style, its data and the chart library inside; it loads nothing."""

from __future__ import annotations

import base64
import datetime
import hashlib
import os
from decimal import Decimal
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from warehouse.layout import REPORT_FILE, TEMPORARY, existing_output
from warehouse.report.charts import charts
from warehouse.report.facts import read_facts, share
from warehouse.report.masked import masked, read_mask
from warehouse.views import connect

_LONGEST = 200
"""Characters of a name or a text that a cell shows."""
_BYTES = ("B", "kB", "MB", "GB", "TB", "PB")


def write_report(output: str | os.PathLike[str]) -> Path:
    """Write ``DIR/report.html`` from the warehouse and the run file, replacing an older one, and return its path.

    The page works offline and holds no user names and no e-mail addresses. Its content security policy admits only the
    two scripts written here, so that nothing in a record's text can run.

    Names and ids that the run's streams file hides (``report: {mask: ...}``) are masked.

    Raises:
      warehouse.layout.WarehouseError: `output` is not an output directory, or a key of the mask cannot be read.
    """
    directory = existing_output(output)
    with connect(directory) as connection:
        facts = read_facts(connection, directory)
    mask = read_mask(directory)
    if mask is not None:
        facts = masked(facts, mask)
    environment = _environment()
    library, program = get_plotlyjs(), _resource(environment, "page.js")
    text = environment.get_template("page.html").render(
        facts=facts,
        charts={name: _json_block(figure) for name, figure in charts(facts).items()},
        style=Markup(_resource(environment, "page.css")),
        library=Markup(library),
        program=Markup(program),
        script_sources=Markup(" ".join(_source(script) for script in (library, program))),
    )
    target = directory / REPORT_FILE
    temporary = directory / f"{TEMPORARY}{os.getpid()}-{REPORT_FILE}"
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, target)
    return target


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("warehouse.report", package_path="."),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        number=_number, volume=_volume, money=_money, size=_size, clock=_clock, words=_words, percent=_percent
    )
    environment.globals["share"] = share
    return environment


def _shown(value: Any) -> Any:
    """What an expression of the page shows: of a text out of a record only its beginning, if it is very long."""
    if isinstance(value, str) and not isinstance(value, Markup) and len(value) > _LONGEST:
        return f"{value[:_LONGEST]}…"
    return value


def _resource(environment: Environment, name: str) -> str:
    assert environment.loader is not None
    return environment.loader.get_source(environment, name)[0]


def _json_block(figure: str) -> Markup:
    """JSON that is safe inside a script element: no character in it can end the element or open a comment."""
    for character in "<>&":
        figure = figure.replace(character, f"\\u{ord(character):04x}")
    return Markup(figure)


def _source(script: str) -> str:
    """The script's hash for the content security policy; a browser hashes the text between the tags."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def _number(value: int | None) -> str:
    return "–" if value is None else f"{value:,}"


def _volume(value: Decimal | None, unit: str = "MB") -> str:
    """A volume for reading; SMS are whole, MB get larger by thousands."""
    if value is None:
        return "–"
    if unit != "MB":
        return f"{value.normalize():,f} {unit}"
    scaled, name = value, "MB"
    for larger in ("GB", "TB", "PB"):
        if abs(scaled) < 1000:
            break
        scaled, name = scaled / 1000, larger
    return f"{scaled:,.{2 if abs(scaled) < 100 else 1}f} {name}"


def _money(value: Decimal | None, currency: str) -> str:
    if value is None:
        return "–"
    return f"{value:,.{4 if 0 < abs(value) < 1 else 2}f} {currency}"


def _size(value: int) -> str:
    scaled, unit = float(value), 0
    while scaled >= 1000 and unit < len(_BYTES) - 1:
        scaled, unit = scaled / 1000, unit + 1
    return f"{scaled:,.0f} {_BYTES[unit]}" if unit == 0 else f"{scaled:,.1f} {_BYTES[unit]}"


def _clock(moment: datetime.datetime | None) -> str:
    return "–" if moment is None else moment.strftime("%Y-%m-%d %H:%M")


def _words(name: Any) -> str:
    return "–" if name is None else str(name).replace("_", " ")


def _percent(value: float) -> str:
    return f"{value:.1f} %" if value < 99.95 or value == 100 else "99.9 %"
