"""Bytes of what crosses a shuffle of a job that may be updated meanwhile: one version byte, then msgpack."""

from __future__ import annotations

from typing import Generic, TypeVar

import msgspec

T = TypeVar("T", bound=msgspec.Struct)


class Versioned(Generic[T]):
    """Encodes and decodes structs of one kind.

    Args:
      kind: the struct.
      name: what it is called in errors.
      version: raised by whoever changes the struct so that older bytes mean something else.
    """

    def __init__(self, kind: type[T], name: str, version: int = 1):
        self._name, self._version = name, bytes([version])
        self._encoder, self._decoder = msgspec.msgpack.Encoder(), msgspec.msgpack.Decoder(kind)

    def encode(self, struct: T) -> bytes:
        """Returns the struct as bytes."""
        return self._version + self._encoder.encode(struct)

    def decode(self, data: bytes) -> T:
        """Returns the struct that `encode` made.

        Raises:
          ValueError: it is of another version.
        """
        if data[:1] != self._version:
            raise ValueError(f"{self._name} of unknown version {data[0]}: this job is older than the one that wrote it")
        return self._decoder.decode(data[1:])
