"""The house stays in order: who may import whom, sizes that fit a head, packages that say what they are."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

MAY_IMPORT: dict[str, set[str]] = {
    "schemas": set(),
    "transforms": {"schemas"},
    "simulator": {"schemas"},
    "warehouse": {"schemas", "transforms"},
    "pipelines": {"schemas", "transforms", "simulator", "warehouse"},
    "templates": {"schemas", "pipelines"},
    "benchmarks": {"schemas", "transforms", "simulator", "warehouse", "pipelines"},
}
"""Our packages, and which others of ours each may import. The direction never turns round."""

NO_BEAM = {"schemas", "simulator"}
"""Packages that do not know Beam: what records are, and how to make some, does not depend on who processes them."""

MODULE_LINES = 400
FUNCTION_LINES = 80


def modules(*packages: str) -> list[Path]:
    return sorted(path for package in packages for path in (ROOT / package).rglob("*.py"))


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"), str(path))


def imported_by(path: Path) -> Iterator[tuple[int, str]]:
    """Line and full name of each module that a module imports, wherever in it."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            within = path.relative_to(ROOT).parts[: -node.level] if node.level else ()
            yield node.lineno, ".".join([*within, *([node.module] if node.module else [])])


def where(path: Path, line: int | None = None) -> str:
    return f"{path.relative_to(ROOT)}" + (f":{line}" if line else "")


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_imports_go_one_way(package: str) -> None:
    ours = set(MAY_IMPORT) | {"tests"}
    against = [
        f"{where(path, line)} imports {name}"
        for path in modules(package)
        for line, name in imported_by(path)
        if name.split(".")[0] in ours - {package} - MAY_IMPORT[package]
    ]
    assert against == []


@pytest.mark.parametrize("package", sorted(NO_BEAM))
def test_packages_that_do_not_know_beam(package: str) -> None:
    found = [
        where(path, line)
        for path in modules(package)
        for line, name in imported_by(path)
        if name.split(".")[0] == "apache_beam"
    ]
    assert found == []


def test_parquet_files_are_read_in_the_thread_that_asks() -> None:
    """`pyarrow.parquet.read_table` aborted a process that ended soon after; `transforms.deliver.parquet` says why."""
    found = [
        where(path, node.lineno)
        for path in modules(*MAY_IMPORT)
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Attribute) and node.attr == "read_table"
    ]
    assert found == []


def test_no_step_of_the_graph_knows_the_local_warehouse() -> None:
    """Workers of Dataflow have no disk of the job: DuckDB, and the readers of an output, belong to the launcher."""
    found = [
        where(path, line)
        for path in modules("schemas", "transforms")
        for line, name in imported_by(path)
        if name.split(".")[0] in ("duckdb", "rich", "plotly", "jinja2")
    ]
    assert found == []


def test_every_package_of_ours_has_a_place_in_the_order() -> None:
    found = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests"}
    assert found - set(MAY_IMPORT) == set()


def test_modules_fit_a_head() -> None:
    lines = {where(path): len(path.read_text("utf-8").splitlines()) for path in modules(*MAY_IMPORT)}
    assert {name: count for name, count in lines.items() if count > MODULE_LINES} == {}


def test_functions_fit_a_screen() -> None:
    long = [
        f"{where(path, node.lineno)} {node.name}"
        for path in modules(*MAY_IMPORT, "tests")
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or node.lineno) - node.lineno >= FUNCTION_LINES
    ]
    assert long == []


def test_every_package_and_module_says_what_it_is() -> None:
    assert [where(path) for path in modules(*MAY_IMPORT) if not ast.get_docstring(tree_of(path))] == []


def test_every_directory_with_modules_is_a_package() -> None:
    directories = {path.parent for path in modules(*MAY_IMPORT)}
    assert [where(directory) for directory in sorted(directories) if not (directory / "__init__.py").exists()] == []


def test_tests_mirror_the_tree() -> None:
    directories = {path.parent.relative_to(ROOT / "tests") for path in (ROOT / "tests").rglob("test_*.py")}
    own = {"destinations", "end_to_end", "servers"}
    strangers = [str(path) for path in directories if path.name not in own and not (ROOT / path).is_dir()]
    assert strangers == []


def test_no_error_is_swallowed() -> None:
    swallowed = [
        where(path, node.lineno)
        for path in modules(*MAY_IMPORT)
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or (isinstance(node.type, ast.Name) and node.type.id in ("Exception", "BaseException")))
        and all(isinstance(statement, ast.Pass | ast.Continue) for statement in node.body)
    ]
    assert swallowed == []
