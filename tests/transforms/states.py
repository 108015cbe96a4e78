"""State and timers of one key, in memory, for steps that are called without a runner."""

from __future__ import annotations

from typing import Any


class State:
    """A state, or a timer, of one key, in memory."""

    def __init__(self) -> None:
        self.data: bytes | None = None
        self.due: Any = None

    def read(self) -> bytes | None:
        return self.data

    def write(self, data: bytes) -> None:
        self.data = data

    def set(self, due: Any) -> None:
        self.due = due

    def clear(self) -> None:
        self.data = self.due = None


class Bag:
    """A bag of one key, in memory."""

    def __init__(self) -> None:
        self.items: list[bytes] = []

    def read(self) -> list[bytes]:
        return list(self.items)

    def add(self, data: bytes) -> None:
        self.items.append(data)

    def clear(self) -> None:
        self.items = []
