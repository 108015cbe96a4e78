"""Identities of devices and SIMs in one form: IMEI, type allocation code, ICCID without its check digit."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from transforms.classify.columns import text_array

_IMEI_DIGITS = 15
_IMEISV_DIGITS = 16
_TAC_DIGITS = 8
_ICCID_DIGITS = 19


def luhn_digit(digits: str) -> str:
    """The Luhn check digit (ISO/IEC 7812-1) to append to `digits`."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (2 if place % 2 == 0 else 1)
        total += value - 9 if value > 9 else value
    return str(-total % 10)


def _imei(raw: str) -> str | None:
    text = raw.strip()
    if not (text.isascii() and text.isdigit()):
        return None
    if len(text) == _IMEISV_DIGITS:  # the last two digits are the software version
        return text[:14] + luhn_digit(text[:14])
    return text if len(text) == _IMEI_DIGITS else None


def _iccid_19(raw: str) -> str | None:
    text = raw.strip()
    if not (text.isascii() and text.isdigit()) or len(text) not in (_ICCID_DIGITS, _ICCID_DIGITS + 1):
        return None
    return text[:_ICCID_DIGITS]


def imei_and_tac(raw: pa.Array) -> tuple[pa.Array, pa.Array]:
    """IMEI of 15 digits (of an IMEISV: its first 14 and the check digit; else null), and its first 8 digits.

    Devices repeat within a batch, so that the work is done on distinct values.
    """
    encoded = raw.dictionary_encode()
    imeis = [_imei(text) for text in encoded.dictionary.to_pylist()]
    tacs = [None if imei is None else imei[:_TAC_DIGITS] for imei in imeis]
    return text_array(imeis).take(encoded.indices), text_array(tacs).take(encoded.indices)


def iccid_19(raw: pa.Array) -> pa.Array:
    """ICCID of 19 digits, without the check digit that some renderings append; null for other lengths."""
    encoded = raw.dictionary_encode()
    return text_array([_iccid_19(text) for text in encoded.dictionary.to_pylist()]).take(encoded.indices)


def hours(times: pa.Array) -> pa.Array:
    """The UTC hour of each time."""
    hour = 3_600_000_000
    values = times.cast(pa.int64())
    start = np.asarray(values.fill_null(0)) // hour * hour
    return pa.array(start, pa.int64(), mask=None if not values.null_count else np.asarray(values.is_null())).cast(times.type)
