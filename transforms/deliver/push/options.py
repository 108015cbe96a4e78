"""What every pushing destination lets a user set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field
from pydantic_core import InitErrorDetails

from schemas.definition import Definition, mistake
from schemas.destinations import DestinationOptions


class Retry(Definition):
    """How long a destination that fails is tried again: until either bound is reached."""

    attempts: int = Field(default=8, ge=1, le=100, description="Most attempts at one request.")
    seconds: float = Field(
        default=60, ge=0, le=3600, description="Longest time from the first attempt at a request to its last, seconds."
    )


class Rate(Definition):
    """Most that is sent; it holds over all processes, because a stream with a rate has one shard."""

    records_per_second: float | None = Field(default=None, gt=0, description="Most records a second.")
    requests_per_second: float | None = Field(default=None, gt=0, description="Most requests a second.")

    @property
    def is_limited(self) -> bool:
        """Whether there is a limit at all."""
        return self.records_per_second is not None or self.requests_per_second is not None


class PushOptions(DestinationOptions):
    """Base of the options of destinations that push."""

    shards: int = Field(
        default=1,
        ge=1,
        le=256,
        description="Lanes that deliver side by side, one request in flight in each. A device's records share a lane "
        "and keep their order.",
    )
    retry: Retry = Field(default=Retry(), description="How long it is tried again.")
    rate: Rate = Field(default=Rate(), description="Most that is sent a second; needs one shard.")

    @classmethod
    def mistakes_across(cls, given: Mapping[str, Any]) -> list[InitErrorDetails]:
        """A rate over several shards."""
        if given.get("rate") and given.get("shards", 1) != 1:
            return [mistake(("shards",), "must be 1 where a rate is given: shards are delivered by several processes")]
        return []
