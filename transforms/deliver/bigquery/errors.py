"""What errors of BigQuery's clients stand for.

Texts of BigQuery are told only where they name resources and rights: others may repeat values of rows.
"""

from __future__ import annotations

import dataclasses
import re
from typing import Any

from transforms.dead_letters import scrub
from transforms.deliver.failures import Failure, FailureKind, http_status
from transforms.deliver.push.http import retry_after

_PASSING = {
    "backendError", "internalError", "jobBackendError", "jobInternalError", "jobRateLimitExceeded", "rateLimitExceeded",
    "stopped", "tableUnavailable", "timeout",
}  # fmt: skip
"""Reasons of errors that may pass by themselves (BigQuery: Error messages)."""

_REMEDIES = {
    "accessDenied": "give the job's account roles/bigquery.jobUser on the project and roles/bigquery.dataEditor on the "
    "dataset",
    "billingNotEnabled": "turn on billing for the project: without it BigQuery changes no rows",
    "billingTierLimitExceeded": "raise the limit of the project",
    "blocked": "see in the project why BigQuery blocks it",
    "notFound": "create the dataset, or correct project, dataset, table and location",
    "quotaExceeded": "deliver what is pending later, or raise the quota",
    "invalid": "see what the job says (bq show --job=true JOB), and compare the table's schema with docs/tables.md",
    "invalidQuery": "compare the table's schema with docs/tables.md",
    "resourcesExceeded": "deliver what is pending later",
}
_BY_STATUS = {400: "invalid", 401: "accessDenied", 403: "accessDenied", 404: "notFound"}
_NAMES_RESOURCES = ("accessDenied", "notFound", "quotaExceeded", "billingNotEnabled")
_LATER = "deliver what is pending when BigQuery answers again"
_REQUEST = re.compile(r"^[A-Z]+ https?://\S+: ")
"""What the client puts before BigQuery's own words."""

_SAID = 300


def of_error(where: str, error: Exception) -> Failure:
    """The failure that an error of a client stands for.

    Args:
      where: what was asked, in words.
      error: what the client raised.

    Raises:
      Exception: the error itself, where it is none of a client, its credentials or the network.
    """
    from google.api_core.exceptions import GoogleAPIError, RetryError
    from google.auth.exceptions import GoogleAuthError, TransportError
    from requests.exceptions import RequestException

    if isinstance(error, GoogleAuthError) and not isinstance(error, TransportError):
        text = f"{where}: no credentials ({type(error).__name__})"
        return Failure(FailureKind.MISCONFIGURED, text, "give the job credentials for BigQuery")
    if isinstance(error, TransportError | RequestException | RetryError | OSError):
        return Failure(FailureKind.TRANSIENT, f"{where}: no answer ({type(error).__name__})", _LATER)
    if not isinstance(error, GoogleAPIError):
        raise error
    details = getattr(error, "errors", None) or []
    reasons = [str(each["reason"]) for each in details if isinstance(each, dict) and each.get("reason")]
    status = http_status(error)
    reason = reasons[0] if reasons else _BY_STATUS.get(status or 0, "")
    failure = of_reason(where, reason, str(getattr(error, "message", "")), status)
    headers = getattr(getattr(error, "response", None), "headers", None) or {}
    return dataclasses.replace(failure, retry_after=retry_after(headers.get("Retry-After")))


def of_job(where: str, result: dict[str, Any]) -> Failure:
    """The failure of a job that ended with an error.

    Args:
      where: the job, in words.
      result: its ``errorResult``.
    """
    return of_reason(where, str(result.get("reason", "")), str(result.get("message", "")))


def of_reason(where: str, reason: str, said: str = "", status: int | None = None) -> Failure:
    """The failure of a reason as BigQuery names it.

    Args:
      where: what was asked.
      reason: such as ``rateLimitExceeded``; empty where none was told.
      said: what BigQuery said about it.
      status: the HTTP status.
    """
    told = " ".join(filter(None, (reason, str(status) if status else "")))
    words = " ".join(scrub(_REQUEST.sub("", said).encode()).decode(errors="replace").split())[:_SAID]
    text = f"{where}: {told or 'an error'}" + (f": {words}" if words and reason in _NAMES_RESOURCES else "")
    passing = reason in _PASSING or (not reason and (status is None or status >= 500 or status in (408, 429)))
    if passing or status is not None and status >= 500:
        return Failure(FailureKind.TRANSIENT, text, _LATER)
    if reason in ("quotaExceeded", "resourcesExceeded"):
        return Failure(FailureKind.TRANSIENT, text, _REMEDIES[reason])
    remedy = _REMEDIES.get(reason, "check the destination's options")
    return Failure(FailureKind.MISCONFIGURED, text, remedy)
