"""Identities of devices and SIMs in one form: IMEI, type allocation code, ICCID without its check digit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas.records import HOUR
from transforms.classify.columns import Integers, Mask

Digits = np.ndarray[Any, np.dtype[np.uint8]]

_ZERO = ord("0")
_IMEI_DIGITS = 15
_IMEISV_DIGITS = 16
_TAC_DIGITS = 8
_ICCID_DIGITS = 19


def _digits(texts: pa.Array, widths: tuple[int, ...]) -> tuple[Digits, Mask]:
    """Digits of texts that are digits only and have one of the widths: (texts × smallest width, which texts)."""
    offsets = np.frombuffer(texts.buffers()[1], np.int32)[texts.offset : texts.offset + len(texts) + 1]
    data = np.frombuffer(texts.buffers()[2] or b"", np.uint8)
    lengths = np.diff(offsets)
    fits = np.isin(lengths, widths)
    digits = np.zeros((len(texts), min(widths)), np.uint8)
    for width in widths:
        rows_of_width = np.flatnonzero(lengths == width)
        values = data[offsets[rows_of_width, None] + np.arange(width)] - _ZERO  # below "0" wraps around to large values
        fits[rows_of_width] = (values <= 9).all(axis=1)
        digits[rows_of_width] = values[:, : min(widths)]
    return digits, fits


def _texts(digits: Digits, known: Mask) -> pa.Array:
    """The known rows as texts of fixed width, the others null."""
    width = digits.shape[1]
    offsets = np.zeros(len(known) + 1, np.int32)
    np.cumsum(known * width, out=offsets[1:])
    data = (digits[known] + np.uint8(_ZERO)).tobytes()
    validity = np.packbits(known, bitorder="little").tobytes()
    buffers = [pa.py_buffer(validity), pa.py_buffer(offsets), pa.py_buffer(data)]
    return pa.Array.from_buffers(pa.string(), len(known), buffers)


def luhn_digits(digits: Digits) -> Integers:
    """The Luhn check digit (ISO/IEC 7812-1) of each row: every second digit from the right counts double."""
    doubled = digits.astype(np.int32)
    doubled[:, ::-2] *= 2
    doubled -= 9 * (doubled > 9)
    return -doubled.sum(axis=1) % 10


def imei_and_tac(raw: pa.Array) -> tuple[pa.Array, pa.Array]:
    """IMEI of 15 digits (of an IMEISV: its first 14 and the check digit; else null), and its first 8 digits.

    Devices repeat within a batch, so that the work is done on distinct values.
    """
    encoded = raw.dictionary_encode()
    texts = pc.utf8_trim_whitespace(encoded.dictionary)
    digits, known = _digits(texts, (_IMEI_DIGITS, _IMEISV_DIGITS))
    versioned = pc.equal(pc.utf8_length(texts), _IMEISV_DIGITS).to_numpy(zero_copy_only=False)
    digits[versioned, _IMEI_DIGITS - 1] = luhn_digits(digits[versioned, : _IMEI_DIGITS - 1])
    imeis, tacs = _texts(digits, known), _texts(digits[:, :_TAC_DIGITS], known)
    return imeis.take(encoded.indices), tacs.take(encoded.indices)


def iccid_19(raw: pa.Array) -> pa.Array:
    """ICCID of 19 digits, without the check digit that some renderings append; null for other lengths."""
    encoded = raw.dictionary_encode()
    digits, known = _digits(pc.utf8_trim_whitespace(encoded.dictionary), (_ICCID_DIGITS, _ICCID_DIGITS + 1))
    return _texts(digits, known).take(encoded.indices)


def hours(times: pa.Array) -> pa.Array:
    """The UTC hour of each time."""
    values = times.cast(pa.int64())
    return pc.multiply(pc.divide(values, HOUR), HOUR).cast(times.type)  # times lie after 1970: division rounds down
