"""From files to plans, from a plan to blocks of raw records.

Plain files of one record a line are split into ranges of bytes that workers read apart; all others are one plan each,
read in sequence. Reading a plan again gives the same blocks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from transforms.read.documents import read_documents
from transforms.read.framing import CSV, DOCUMENTS, HEAD_BYTES, LINES, find_framing
from transforms.read.inputs import FILES_AT_ONCE, InputFile
from transforms.read.lines import read_lines
from transforms.read.raw import BLOCK_BYTES, MAX_RECORD_BYTES, BlockPlan, RawBlock
from transforms.read.sources import ByteSource
from transforms.read.tables import read_table

__all__ = ["BLOCK_BYTES", "MAX_RECORD_BYTES", "BlockPlan", "RawBlock", "plan_blocks", "read_plan"]

_READERS = {LINES: read_lines, DOCUMENTS: read_documents, CSV: read_table}


def plan_blocks(files: Sequence[InputFile], block_bytes: int = BLOCK_BYTES) -> list[BlockPlan]:
    """Plans that together read every record of ``files`` exactly once, numbered in the order of the files.

    Args:
      files: from `transforms.read.inputs.expand_inputs`.
      block_bytes: size of a range.

    Raises:
      OSError: a file can no longer be read.
    """
    files = [file for file in files if file.size]
    with ThreadPoolExecutor(FILES_AT_ONCE) as pool:
        framings = list(pool.map(_find_framing, files))
    plans: list[BlockPlan] = []
    for file, (framing, header) in zip(files, framings, strict=True):
        ranges = [(0, -1)]
        if framing == LINES and not file.gzip:
            ranges = [(start, min(start + block_bytes, file.size)) for start in range(0, file.size, block_bytes)]
        for start, end in ranges:
            number = len(plans)
            plans.append(
                BlockPlan(file.feed, file.path, file.ingest_time, file.gzip, framing, start, end, header, number)
            )
    return plans


def _find_framing(file: InputFile) -> tuple[str, tuple[str, ...] | None]:
    with ByteSource(file.path, file.gzip) as source:
        return find_framing(source.read(HEAD_BYTES))


def read_plan(plan: BlockPlan, block_bytes: int = BLOCK_BYTES, dead_dir: str | None = None) -> Iterator[RawBlock]:
    """The blocks of a plan.

    Memory: a few times ``block_bytes`` + `MAX_RECORD_BYTES`, whatever the size of the file.

    Args:
      plan: what to read.
      block_bytes: bytes of decompressed input in a block.
      dead_dir: directory for the bytes of records that are too large, secrets replaced; None: they are only measured.

    Raises:
      OSError: the file cannot be read, or ``dead_dir`` cannot be written.
    """
    with ByteSource(plan.path, plan.gzip, max(0, plan.start - 1)) as source:
        yield from _READERS[plan.framing](source, plan, block_bytes, dead_dir)
