"""Where things lie in a finished output directory, and how its files are counted and checked.

Names (see docs/warehouse.md): ``DIR/warehouse/<table>/…/part-<writer>-….parquet``, ``DIR/streams/<name>/…``,
``DIR/pending/<stream>/…``, ``DIR/warehouse.duckdb``, ``DIR/report.html``, ``DIR/run.json``. A file whose name begins
with ``.tmp-`` was being written when its writer stopped and is never read.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

WAREHOUSE = "warehouse"
STREAMS = "streams"
PENDING = "pending"
COMMITS = "_commits"
"""Below ``warehouse/``: one file per writer that vouches for its part of ``ledger_files``."""
DEAD = "dead"
"""Below ``warehouse/``: payloads of dead letters that are too long for the table."""
VIEWS_FILE = "warehouse.duckdb"
REPORT_FILE = "report.html"
REPORT_MASK_FILE = "warehouse/_report.json"
"""What the report hides; see `warehouse.report.masked`."""
RUN_FILE = "run.json"
TEMPORARY = ".tmp-"


class WarehouseError(Exception):
    """An output directory that cannot be read: says what is missing, where, and what to do."""


def existing_output(output: str | os.PathLike[str]) -> Path:
    """The output directory as an absolute path.

    Raises:
      WarehouseError: there is no directory of that name, or no run has finished in it.
    """
    directory = Path(output).resolve()
    if not (directory / WAREHOUSE).is_dir():
        raise WarehouseError(
            f"{directory}: expected an output directory with a {WAREHOUSE}/ in it; "
            "name the directory that a run was given as --output"
        )
    return directory


def part_files(output: Path, table: str) -> list[Path]:
    """The Parquet parts of a table in stable order, temporary files left out."""
    return sorted((output / WAREHOUSE / table).rglob("part-*.parquet"))


def has_parts(output: Path, table: str) -> bool:
    """Whether a table has any part."""
    return next((output / WAREHOUSE / table).rglob("part-*.parquet"), None) is not None


def part_glob(directory: str, table: str) -> str:
    """Glob that DuckDB reads a table's parts by; `directory` is escaped, since it may hold ``[``, ``*`` or ``?``."""
    escaped = re.sub(r"([*?\[])", r"[\1]", directory)
    prefix = f"{escaped}/" if escaped else ""
    return f"{prefix}{WAREHOUSE}/{table}/**/part-*.parquet"
