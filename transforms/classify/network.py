"""Networks in one form: country, radio access technology, access point name, and mobile codes."""

from __future__ import annotations

import re

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas.lookups import COUNTRY_ISO, RATS
from transforms.classify.columns import by_distinct, numbers, text_array

_OPERATOR_PART = re.compile(r"\.mnc\d{2,3}\.mcc\d{3}(\.gprs)?\.?$", re.IGNORECASE)
_RAT_VOCABULARY = text_array([RATS.get(number) for number in range(max(RATS) + 1)] + [None])
_NO_RAT = len(_RAT_VOCABULARY) - 1
_UNAVAILABLE = "unavailable"


def country_iso(mcc: pa.Array) -> pa.Array:
    """ISO 3166 alpha-2 of mobile country codes; null for 901 (international) and unknown ones."""
    return by_distinct(mcc, lambda codes: text_array([COUNTRY_ISO.get(code) for code in codes.to_pylist()]))


def rat(rat_type: pa.Array) -> pa.Array:
    """Radio access technology of a ``rat_type``; null for reserved and unknown numbers."""
    codes = numbers(rat_type)
    return _RAT_VOCABULARY.take(pa.array(np.where((codes < 0) | (codes > _NO_RAT), _NO_RAT, codes).astype(np.int32)))


def network_part(apn: pa.Array) -> pa.Array:
    """Access point names without the operator part (``.mnc009.mcc295.gprs``)."""
    return by_distinct(apn, lambda names: text_array([_OPERATOR_PART.sub("", name) for name in names.to_pylist()]))


def public_address(breakout_ip: pa.Array) -> pa.Array:
    """Addresses of breakouts; ``unavailable`` is null."""
    return pc.if_else(pc.equal(breakout_ip, _UNAVAILABLE), pa.scalar(None, pa.string()), breakout_ip)
