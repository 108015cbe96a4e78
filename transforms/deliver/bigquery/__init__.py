"""Destination type ``bigquery``: tables of streams in BigQuery, by load jobs or by the Storage Write API."""

from transforms.deliver.bigquery.destination import BigQueryDestination
from transforms.deliver.bigquery.options import BigQueryOptions

__all__ = ["BigQueryDestination", "BigQueryOptions"]
