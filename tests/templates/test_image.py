"""The image's versions are those that the lock file pins, and everything it copies exists."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = (ROOT / "templates" / "Dockerfile").read_text("utf-8")


def test_versions_of_beam_and_python_agree() -> None:
    locked = re.search(r"^apache-beam==(\S+)", (ROOT / "requirements" / "dataflow.txt").read_text("utf-8"), re.M)
    sdk = re.search(r"^FROM apache/beam_python(\S+)_sdk:(\S+) AS sdk$", DOCKERFILE, re.M)
    python = re.search(r"^FROM python:(\d+\.\d+)-", DOCKERFILE, re.M)
    launcher = re.search(r"^ARG LAUNCHER=\S+/python(\d)(\d+)-template-launcher-base:\S+$", DOCKERFILE, re.M)
    assert locked
    assert sdk
    assert python
    assert launcher
    assert sdk[2] == locked[1]
    assert sdk[1] == python[1] == f"{launcher[1]}.{launcher[2]}"


def test_every_image_is_pinned() -> None:
    sources = re.findall(r"^(?:FROM|ARG LAUNCHER=)\s*(\S+)", DOCKERFILE, re.M)
    assert [
        source for source in sources if ":latest" in source or (":" not in source and source != "${LAUNCHER}")
    ] == []


def test_what_it_copies_exists_and_is_not_ignored() -> None:
    copied = [source for line in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.M) for source in line.split()[:-1]]
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if line.startswith("!")}
    assert [source for source in copied if not (ROOT / source).exists()] == []
    assert set(copied) == kept


def test_every_package_is_in_the_image() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    packages = {name.rstrip("*") for name in project["tool"]["setuptools"]["packages"]["find"]["include"]}
    assert packages <= {line.split()[1] for line in DOCKERFILE.splitlines() if line.startswith("COPY ")}


def pinned(requirement: str) -> tuple[str, str]:
    """Name (as an index spells it) and version of a pinned requirement."""
    name, version = requirement.split("==")
    return re.sub(r"[-_.]+", "-", name.split("[")[0]).lower(), version


def test_direct_dependencies_are_locked_at_their_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    for file, extra in (("run", None), ("dataflow", "gcp"), ("dev", "dev")):
        wanted = [*project["dependencies"], *project["optional-dependencies"].get(extra, ())]
        locked = re.findall(r"^[\w.-]+==[^\s;]+", (ROOT / "requirements" / f"{file}.txt").read_text("utf-8"), re.M)
        assert set(map(pinned, wanted)) - set(map(pinned, locked)) == set(), file
