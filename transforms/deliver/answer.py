"""What a destination answered to one attempt, as a value."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from transforms.deliver.failures import Failure


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of the records of one request.

    Attributes:
      failure: why the request as a whole failed: none of its records was taken, but for those in `taken`.
      failures: why single records failed, by their place in the batch; all others were taken.
      said: what the destination said, in a few words, for a person who tries it out; no secrets.
      taken: with `failure`: places in the batch of the records that were taken all the same.
    """

    failure: Failure | None = None
    failures: Mapping[int, Failure] = field(default_factory=dict)
    said: str = ""
    taken: Collection[int] = ()
