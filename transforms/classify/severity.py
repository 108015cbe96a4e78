"""Severity and source of events: from ids, else from texts, else (severity only) from the catalogue."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from schemas.lookups import SEVERITIES, SEVERITY_WORDS, SOURCE_WORDS, SOURCES
from transforms.classify.columns import Integers, Mask, text_array

SEVERITY_VOCABULARY = text_array(list(SEVERITIES.values()))
"""Severities by code; the codes are the platform's ids and rise with severity."""

_SOURCE_NAMES = list(dict.fromkeys(SOURCES.values()))
SOURCE_VOCABULARY = text_array([*_SOURCE_NAMES, None])
"""Sources by code, null last."""
NO_SOURCE = len(_SOURCE_NAMES)


def _from_texts(codes: Integers, unknown: Mask, texts: pa.Array, by_word: Mapping[str, int], missing: int) -> None:
    """Fills `codes` of the unknown rows from their texts, in place; `missing` where a text says nothing."""
    rows = np.flatnonzero(unknown)
    encoded = texts.take(pa.array(rows)).dictionary_encode()
    words = [" ".join(word.lower().split()) for word in encoded.dictionary.to_pylist()]
    by_code = np.array([*(by_word.get(word, missing) for word in words), missing], dtype=codes.dtype)
    indices = encoded.indices.fill_null(len(words)).to_numpy(zero_copy_only=False)
    codes[rows] = by_code[indices]


def severity_codes(ids: Integers, texts: pa.Array, usual: Integers) -> tuple[Integers, Mask]:
    """Severity codes, and where they were inferred from the usual severity of the type.

    Args:
      ids: severity ids as received, `NO_ID` for none.
      texts: severity texts as received.
      usual: code of the usual severity of each event's type; INFO for unknown types.
    """
    codes = ids.astype(np.int32)
    unknown = (codes < 0) | (codes >= len(SEVERITIES))
    if not unknown.any():
        return codes, unknown
    by_word = {word: list(SEVERITIES.values()).index(name) for word, name in SEVERITY_WORDS.items()}
    _from_texts(codes, unknown, texts, by_word, -1)
    inferred = codes < 0
    return np.where(inferred, usual, codes), inferred


def source_codes(ids: Integers, texts: pa.Array) -> Integers:
    """Source codes, `NO_SOURCE` where neither id nor text names one that is known."""
    codes = ids.astype(np.int32)
    unknown = (codes < 0) | (codes >= NO_SOURCE)
    if unknown.any():
        by_word = {word: _SOURCE_NAMES.index(name) for word, name in SOURCE_WORDS.items()}
        _from_texts(codes, unknown, texts, by_word, NO_SOURCE)
    return codes
