"""Writes the documents that are derived from the catalogues: ``python -m schemas.catalogues [DIR]`` (docs)."""

from __future__ import annotations

import sys
from pathlib import Path

from schemas.event_types import event_types_document
from schemas.reasons import reasons_document

DOCUMENTS = {"event-types.md": event_types_document, "reasons.md": reasons_document}
"""Name of each derived document → function that gives its text."""


def write_documents(directory: Path) -> None:
    """Writes every derived document into `directory`."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in DOCUMENTS.items():
        (directory / name).write_text(text(), encoding="utf-8")


if __name__ == "__main__":
    write_documents(Path(sys.argv[1] if len(sys.argv) > 1 else "docs"))
