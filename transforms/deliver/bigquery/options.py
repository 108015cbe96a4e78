"""What a stream to BigQuery lets a user set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field
from pydantic_core import InitErrorDetails

from schemas.definition import mistake
from transforms.deliver.push.options import PushOptions


class BigQueryOptions(PushOptions):
    """A table in BigQuery, partitioned by day and clustered by organisation and device."""

    type: Literal["bigquery"] = Field(default="bigquery", description="Type of the destination.")
    project: str = Field(
        pattern=r"^([a-z0-9.-]{1,63}:)?[a-z0-9-]{4,63}$",
        description="Project of the dataset; jobs run and are billed there.",
        examples=["example-project"],
    )
    dataset: str = Field(
        pattern=r"^[A-Za-z0-9_]{1,1024}$", description="Name of the dataset. It must be there.", examples=["iot"]
    )
    table: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9_-]{1,1024}$",
        description="Name of the table. Default: the stream's name with _ for -. Two streams cannot share one.",
    )
    location: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9-]{2,63}$",
        description="Location of the dataset, such as EU or europe-west3. Default: wherever it is.",
    )
    method: Literal["load", "storage_write"] = Field(
        default="load",
        description="load: one load job for each day, free of charge, without repeats. storage_write: rows as they "
        "come, by the Storage Write API.",
    )
    exactly_once: bool = Field(
        default=False,
        description="With storage_write: rows are written at offsets of a stream of its own, so that none that is sent "
        "again is there twice. Otherwise the default stream is used, which takes more.",
    )
    create: bool = Field(
        default=True, description="Create the table where it is missing, and add columns that are missing to it."
    )
    staging: str | None = Field(
        default=None,
        pattern=r"^gs://[^/]+(/.*)?$",
        description="With load: where files are put for the job (gs://BUCKET/PATH), and removed after it. Default: "
        "they are uploaded with the job.",
    )
    timeout: float = Field(default=30, ge=1, le=300, description="Seconds to wait for each answer of BigQuery.")
    job_timeout: float = Field(
        default=300, ge=1, le=3600, description="Longest time that is waited for a job to end, in seconds."
    )

    @classmethod
    def mistakes_across(cls, given: Mapping[str, Any]) -> list[InitErrorDetails]:
        """What belongs to the other method."""
        found = super().mistakes_across(given)
        if given.get("method", "load") == "load":
            others = {"exactly_once": given.get("exactly_once"), "rate": given.get("rate")}
            others["shards"] = given.get("shards", 1) != 1
            text = "is for method storage_write: load has one lane, and one job, for each day"
        else:
            others, text = {"staging": given.get("staging")}, "is for method load"
        return found + [mistake((name,), text) for name, value in others.items() if value]
