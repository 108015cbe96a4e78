"""An object store in memory, for the tests of archives."""

from __future__ import annotations

import gzip
import json

from transforms.deliver.archive import ObjectStore, ObjectStoreError
from transforms.deliver.failures import Failure, FailureKind


class Shelf(ObjectStore):
    """An object store of gzip NDJSON of usage, in memory.

    Attributes:
      objects: ids of each object, by its URL.
      puts: URLs of all attempts.
      refuses: whether it stores nothing, and answers 503.
      forgets: whether it stores, and answers 503 all the same.
    """

    def __init__(self) -> None:
        self.objects: dict[str, list[int]] = {}
        self.puts: list[str] = []
        self.refuses = self.forgets = False

    def put(self, url: str, data: bytes) -> None:
        self.puts.append(url)
        if not self.refuses:
            self.objects[url] = [json.loads(line)["usage_id"] for line in gzip.decompress(data).splitlines()]
        if self.refuses or self.forgets:
            raise ObjectStoreError(Failure(FailureKind.TRANSIENT, "answers 503", "wait"))

    def named(self) -> dict[str, list[int]]:
        """Ids of each object, by its hour and name."""
        return {url.partition("/hh=")[2]: ids for url, ids in self.objects.items()}

    def close(self) -> None: ...

    check = get = remove = list_objects = None  # type: ignore[assignment]
