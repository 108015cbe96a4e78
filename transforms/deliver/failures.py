"""What can be wrong with a delivery, as values: kinds of failure and what an operator should do about each.

A destination never raises for a fault of its target; it returns a `Failure`. What it raises is a fault of the run.
"""

from __future__ import annotations

import enum
import errno
from dataclasses import dataclass

from schemas.file_systems import FILE_SYSTEMS, missing_client, scheme_of


class FailureKind(enum.Enum):
    """Who is at fault, and with it what happens to the records."""

    TRANSIENT = "transient"
    """Time-outs, throttling, 5xx: tried again, then pending."""
    MISCONFIGURED = "misconfigured"
    """No permission, no such target, a missing package: not tried again; pending until an operator acts."""
    REJECTED = "rejected"
    """The destination refuses this record: a dead letter; the others go on."""
    TOO_LARGE = "too_large"
    """Split, then a dead letter."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a destination did not take records.

    Attributes:
      kind: who is at fault.
      error: what went wrong and where; no secrets, no personal data.
      remedy: what to do about it.
      retry_after: seconds that the destination asked to wait, where it did.
    """

    kind: FailureKind
    error: str
    remedy: str
    retry_after: float | None = None


class SetupError(Exception):
    """A destination cannot be used on this worker.

    Attributes:
      failure: why, and what to do about it.
    """

    def __init__(self, failure: Failure):
        super().__init__(f"{failure.error}: {failure.remedy}")
        self.failure = failure


class MissingExtraError(SetupError):
    """The client of a destination is not installed."""

    def __init__(self, module: str, extra: str):
        error = f"{module} is not installed"
        super().__init__(Failure(FailureKind.MISCONFIGURED, error, f"pip install -e '.[{extra}]'"))


_PASSING = (408, 425, 429)
_RECORDS = (400, 409, 422)


def of_http_status(where: str, status: int, said: str = "", retry_after: float | None = None) -> Failure:
    """The failure that an HTTP status of 300 or more stands for.

    Args:
      where: what was asked, without secrets: a URL without user and query.
      status: the status.
      said: what the server said about it.
      retry_after: seconds that it asked to wait.
    """
    error = f"{where} answered {status}" + (f": {said}" if said else "")
    if status in _PASSING or status >= 500:
        return Failure(FailureKind.TRANSIENT, error, "deliver what is pending when it answers again", retry_after)
    if status == 413:
        return Failure(FailureKind.TOO_LARGE, error, "send smaller batches: batch.size")
    if status in _RECORDS:
        return Failure(FailureKind.REJECTED, error, "see what the destination says about the record")
    return Failure(FailureKind.MISCONFIGURED, error, _HTTP_REMEDIES.get(status, "check the destination's options"))


_HTTP_REMEDIES = {
    401: "correct the credentials: the destination does not accept them",
    403: "give the credentials the right to write there",
    404: "correct the address, or create the target",
    410: "the receiver is gone for good: remove the stream, or name another address",
    **dict.fromkeys((301, 302, 303, 307, 308), "redirects are not followed: name the final address"),
}


_REMEDIES = {
    errno.EACCES: "give the user that runs the job the right to write there",
    errno.EPERM: "give the user that runs the job the right to write there",
    errno.EROFS: "mount the target for writing, or name another path",
    errno.ENOSPC: "free space on the target, or name another path",
    errno.EDQUOT: "raise the quota of the target, or name another path",
    errno.ENOTDIR: "a file is where a directory should be: move it away, or name another path",
    errno.EISDIR: "a directory is where the file should be: move it away, or name another path",
    errno.EEXIST: "a file is where a directory should be: move it away, or name another path",
    errno.ENOENT: "the target cannot be created there: check the path",
    errno.ENAMETOOLONG: "name a shorter path",
    errno.ELOOP: "the path is a loop of links: name another path",
}
_TRANSIENT = {
    errno.ETIMEDOUT, errno.ECONNRESET, errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EAGAIN,
    errno.EBUSY, errno.ESTALE, errno.EINTR,
}  # fmt: skip


def of_os_error(path: str, error: OSError) -> Failure:
    """The failure that a local file system's error stands for."""
    kind = FailureKind.TRANSIENT if error.errno in _TRANSIENT else FailureKind.MISCONFIGURED
    reason = error.strerror or type(error).__name__
    remedy = _REMEDIES.get(error.errno or 0, "check the target, then deliver what is pending")
    return Failure(kind, f"cannot write to {path}: {reason}", remedy)


def of_missing_file_system(path: str) -> Failure | None:
    """The failure of a URL whose file system is unknown or not installed; None where it can be used."""
    scheme = scheme_of(path)
    if scheme not in FILE_SYSTEMS:
        known = ", ".join(f"{name}://" for name in FILE_SYSTEMS)
        error = f"cannot write to {path}: unknown file system {scheme}://"
        return Failure(FailureKind.MISCONFIGURED, error, f"name a local path or one of {known}")
    missing = missing_client(path)
    if missing is None:
        return None
    module, remedy = missing
    error = f"cannot write to {path}: {module}, which {scheme}:// needs, is not installed"
    return Failure(FailureKind.MISCONFIGURED, error, remedy)


def of_remote_error(path: str, error: Exception, doing: str = "write to") -> Failure:
    """The failure that an object store's error stands for, by its HTTP status where it carries one.

    Args:
      path: URL of a bucket or an object.
      error: what its client raised. Its text is not told.
      doing: what was tried, in words that the URL may follow.
    """
    status = http_status(error)
    where = f"cannot {doing} {path}: {type(error).__name__}" + (f" {status}" if status else "")
    if status in (401, 403):
        return Failure(FailureKind.MISCONFIGURED, where, "give the job's account the right to create objects there")
    if status == 404:
        return Failure(FailureKind.MISCONFIGURED, where, "create the bucket, or correct its name in the path")
    if status is not None and 400 <= status < 500 and status not in (408, 425, 429):
        return Failure(FailureKind.MISCONFIGURED, where, "check path and options of the destination")
    if type(error).__name__ in _CREDENTIAL_ERRORS:
        return Failure(FailureKind.MISCONFIGURED, where, "give the job credentials for the object store")
    return Failure(FailureKind.TRANSIENT, where, "deliver what is pending when the object store answers again")


_CREDENTIAL_ERRORS = {
    "DefaultCredentialsError", "InvalidOperation", "RefreshError", "NoCredentialsError", "PartialCredentialsError"
}  # fmt: skip


def http_status(error: BaseException) -> int | None:
    """The HTTP status that an error, or what caused it, carries; clients name it differently. None where none does."""
    seen: BaseException | None = error
    while seen is not None:
        response = getattr(seen, "response", None)
        metadata = response.get("ResponseMetadata", {}) if isinstance(response, dict) else {}
        codes = (getattr(seen, "code", None), getattr(seen, "status_code", None), metadata.get("HTTPStatusCode"))
        for value in (*codes, getattr(response, "status_code", None)):
            if isinstance(value, int) and 100 <= value < 600:
                return int(value)
        seen = seen.__cause__ or seen.__context__
    return None
