"""What becomes of a masked value: nothing, its beginning, or a pseudonym."""

from __future__ import annotations

import hashlib
import ipaddress
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from schemas.destinations import SecretError, SecretReference
from schemas.masks import ADDRESSES, CLASS_OF, CLASSES, NUMBERS, MaskEntry

HIDDEN = "***"
"""What stands in a text in place of a value that is dropped."""

SHORTEST_KEY = 16
"""Fewest characters of a key: identifiers are few, so that a short key can be found by trying."""

PSEUDONYM_LETTERS = 24
"""Letters of a pseudonym of a text: 96 bits, so that two of 10^12 values share one with a chance of 10^-5."""

_PREFIX = "p_"
_LETTERS = str.maketrans("0123456789abcdef", "bcdfghjklmnpqrst")
"""Consonants in place of hexadecimal digits: no pattern for numbers or addresses finds anything in a pseudonym."""

_SAFE_BITS = 53
"""Bits of a pseudonym of a number: JSON readers hold no longer integer exactly."""


KeyedHash = Callable[[str], bytes]
"""A text's 16 bytes."""


class Hidden(ABC):
    """What becomes of the values of one column, and of the same values elsewhere."""

    def __init__(self, column: str) -> None:
        self.is_number = column in NUMBERS

    @abstractmethod
    def text(self, value: str) -> str | None:
        """A text, masked; None where nothing is left."""

    def number(self, value: int) -> int | None:
        """A number, masked; None where nothing is left."""
        del value
        return None

    def value(self, value: Any) -> Any:
        """A value of the column."""
        return self.number(value) if isinstance(value, int) else self.text(value)

    def shown(self, value: Any) -> str:
        """A value as it stands inside of a longer text."""
        masked = self.value(value)
        return HIDDEN if masked is None else str(masked)

    def member(self, value: Any) -> Any:
        """A JSON value of the same meaning: a number may stand there as a text, and a text as a number."""
        if not self.is_number:
            return self.text(str(value))
        if isinstance(value, int):
            return self.number(value) if -(2**63) <= value < 2**63 else self.text(str(value))
        text = str(value).strip()
        if text.isascii() and text.isdigit() and len(text) < 19:
            masked = self.number(int(text))
            return None if masked is None else str(masked)
        return self.text(str(value))


class Dropped(Hidden):
    """Nothing is left."""

    def text(self, value: str) -> str | None:
        """None."""
        del value
        return None


class Truncated(Hidden):
    """Addresses become their network, other texts keep their first characters; nothing is left of shorter ones."""

    def __init__(self, column: str, keep: int) -> None:
        super().__init__(column)
        self._keep = 0 if self.is_number else keep
        self._is_address = column in ADDRESSES

    def text(self, value: str) -> str | None:
        """The beginning."""
        if self._is_address:
            network = network_of(value)
            if network is not None:
                return network
        return value[: self._keep] if 0 < self._keep < len(value) else None


class Pseudonym(Hidden):
    """A keyed hash (BLAKE2b, RFC 7693): the same for the same value and key in every column, stream and run."""

    def __init__(self, column: str, hash_of: KeyedHash) -> None:
        super().__init__(column)
        self._hash_of = hash_of

    def text(self, value: str) -> str | None:
        """``p_`` and `PSEUDONYM_LETTERS` consonants."""
        return _PREFIX + self._hash_of(value).hex()[:PSEUDONYM_LETTERS].translate(_LETTERS)

    def number(self, value: int) -> int | None:
        """A positive integer below 2^53."""
        return (int.from_bytes(self._hash_of(f"{value:d}#")[:8], "big") >> (64 - _SAFE_BITS)) or 1


class Placeholder(Hidden):
    """Says that a pseudonym would stand there."""

    def text(self, value: str) -> str | None:
        """``‹pseudonym›``."""
        del value
        return "‹pseudonym›"

    def number(self, value: int) -> int | None:
        """0, which no pseudonym is."""
        del value
        return 0


def hidden_of(column: str, entry: MaskEntry, hashes: Mapping[SecretReference, KeyedHash]) -> Hidden:
    """What an entry makes of a column's values; ``hashes`` are those of the keys that it may name."""
    if entry.action == "pseudonymise" and entry.key is not None:
        return Pseudonym(column, hashes[entry.key])
    if entry.action == "truncate":
        return Truncated(column, entry.keep or CLASSES[CLASS_OF[column]][column])
    return Dropped(column)


def hidden_without_key(column: str, entry: MaskEntry) -> Hidden:
    """The same where the key is not at hand: placeholders stand for pseudonyms."""
    return Placeholder(column) if entry.action == "pseudonymise" else hidden_of(column, entry, {})


def keyed_hash(reference: SecretReference, key: str) -> KeyedHash:
    """Hashes texts with a key; values that come again within a short time are not hashed again.

    Raises:
      schemas.destinations.SecretError: the key is too short.
    """
    if len(key) < SHORTEST_KEY:
        raise SecretError(
            f"the key in {reference} has fewer than {SHORTEST_KEY} characters: store a longer one, such as the output "
            "of `openssl rand -hex 32`"
        )
    # BLAKE2b takes keys of up to 64 bytes; of longer ones their digest.
    secret = key.encode()
    if len(secret) > hashlib.blake2b.MAX_KEY_SIZE:
        secret = hashlib.sha256(secret).digest()

    @lru_cache(maxsize=1 << 16)
    def hash_of(value: str) -> bytes:
        return hashlib.blake2b(value.encode("utf-8", "surrogatepass"), digest_size=16, key=secret).digest()

    return hash_of


@lru_cache(maxsize=1 << 16)
def network_of(address: str) -> str | None:
    """The first address of an IP address's network: /24 of IPv4, /48 of IPv6; None for other texts."""
    try:
        parsed = ipaddress.ip_address(address.strip())
    except ValueError:
        return None
    kept = 8 if parsed.version == 4 else 80  # bits of the host
    return str(type(parsed)(int(parsed) >> kept << kept))
