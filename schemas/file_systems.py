"""Paths: which of them name an object store, and what that needs to be installed."""

from __future__ import annotations

import importlib.util

FILE_SYSTEMS = {"gs": ("google.cloud.storage", "gcp"), "s3": ("boto3", "aws")}
"""Client module and pip extra by scheme of the file system."""


def is_remote(path: str) -> bool:
    """Whether a path is a URL of a Beam file system."""
    return "://" in path


def scheme_of(path: str) -> str:
    """The scheme of a URL."""
    return path.split("://", 1)[0]


def missing_client(path: str) -> tuple[str, str] | None:
    """What is not installed of that which a path needs.

    Returns:
      the client's module, and the command that installs it; None where nothing is missing, or where it is not known
      what the path needs.
    """
    if not is_remote(path) or scheme_of(path) not in FILE_SYSTEMS:
        return None
    module, extra = FILE_SYSTEMS[scheme_of(path)]
    return None if _is_installed(module) else (module, f"pip install -e '.[{extra}]'")


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # a parent package is missing
        return False
