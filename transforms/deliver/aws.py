"""What destinations in Amazon's cloud share: clients with an assumed role, and what their errors mean."""

from __future__ import annotations

import functools
import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from pydantic import Field
from pydantic_core import InitErrorDetails

from schemas.definition import mistake
from schemas.destinations import DestinationOptions
from transforms.dead_letters import scrub
from transforms.deliver.failures import Failure, FailureKind, MissingExtraError, SetupError
from transforms.deliver.push.http import retry_after

EXTRA = "aws"

_CONNECT = 10.0
"""Most seconds for a connection."""
_SAID = 300
"""Characters of what a service says about a record that are told."""


class AwsOptions(DestinationOptions):
    """Where a destination in Amazon's cloud lies, and as whom it is used. Credentials are those of the worker: the
    environment, a profile, or the role of its machine.
    """

    region: str | None = Field(
        default=None,
        min_length=1,
        description="Region, such as eu-central-1; without it that of the worker's environment.",
        examples=["eu-central-1"],
    )
    role_arn: str | None = Field(
        default=None,
        pattern=r"^arn:[a-z-]+:iam::\d{12}:role/\S+$",
        description="Role to assume, by its ARN; without it the worker's own credentials are used.",
        examples=["arn:aws:iam::123456789012:role/data-streamer"],
    )
    external_id: str | None = Field(
        default=None,
        min_length=2,
        max_length=1224,
        description="External id that the role's trust policy asks for.",
        examples=["organisation-4711"],
    )
    endpoint: str | None = Field(
        default=None,
        pattern=r"^https?://[^/@\s]+/?$",
        description="Address of the service instead of Amazon's, such as that of a VPC endpoint; STS, which gives the "
        "role, is not asked there.",
    )

    @classmethod
    def mistakes_across(cls, given: Mapping[str, Any]) -> list[InitErrorDetails]:
        """An external id without a role."""
        mistakes = super().mistakes_across(given)
        if given.get("external_id") and not given.get("role_arn"):
            mistakes.append(mistake(("external_id",), "needs role_arn: it is told when that role is assumed"))
        return mistakes


def session_client(
    service: str,
    region: str | None = None,
    role_arn: str | None = None,
    external_id: str | None = None,
    endpoint: str | None = None,
    timeout: float = 20,
) -> Any:
    """A client that makes one attempt at a request, and may be used by several threads. Nothing is asked yet: the role
    is assumed with the first request, and again before its credentials end.

    Args:
      service: name of the service: ``kinesis``, ``s3``.
      region: region, or None for that of the environment.
      role_arn: role to assume; None: the worker's own credentials.
      external_id: what the role's trust policy asks for.
      endpoint: address of the service instead of Amazon's.
      timeout: seconds to wait for an answer; 10 at most for the connection.

    Raises:
      MissingExtraError: botocore is not installed.
      SetupError: the region is missing, or region or endpoint cannot be one.
    """
    try:
        from botocore.config import Config
        from botocore.credentials import DeferredRefreshableCredentials
        from botocore.exceptions import BotoCoreError
    except ImportError:
        raise MissingExtraError("boto3", EXTRA) from None
    # It warns, with a traceback, of what the caller is told as a failure.
    logging.getLogger("botocore.credentials").setLevel(logging.ERROR)
    config = Config(
        connect_timeout=min(timeout, _CONNECT),
        read_timeout=timeout,
        retries={"total_max_attempts": 1},
        max_pool_connections=64,
        tcp_keepalive=True,
        parameter_validation=False,  # the service does it; here it costs more than the request itself
    )
    session = _session()
    try:
        if role_arn is not None:
            sts = _session().create_client("sts", region_name=region, config=config)
            # As botocore's own providers would leave it; those know roles out of profile files only.
            session._credentials = DeferredRefreshableCredentials(_Role(sts, role_arn, external_id), "assume-role")
        return session.create_client(service, region_name=region, endpoint_url=endpoint, config=config)
    except (BotoCoreError, ValueError) as error:
        raise SetupError(of_client_error(service, error)) from None


def _session() -> Any:
    """A session with what botocore knows of the services in memory: it reads these files anew for each, which takes
    most of the time that a client takes.
    """
    import botocore.session

    session = botocore.session.Session()
    session.register_component("data_loader", _loader(session.get_config_variable("data_path")))
    return session


@functools.cache
def _loader(data_path: str | None) -> Any:
    import botocore.loaders

    return botocore.loaders.create_loader(data_path)


class _Role:
    """Assumes a role; called whenever its credentials come to an end."""

    def __init__(self, sts: Any, role_arn: str, external_id: str | None):
        self._sts = sts
        self._request = {"RoleArn": role_arn, "RoleSessionName": "data-streamer"}
        if external_id is not None:
            self._request["ExternalId"] = external_id

    def __call__(self) -> dict[str, str]:
        from botocore.exceptions import CredentialRetrievalError

        given = self._sts.assume_role(**self._request)["Credentials"]
        if given["Expiration"] <= datetime.now(UTC):
            raise CredentialRetrievalError(provider="assume-role", error_msg="they ended before they were given")
        return {
            "access_key": given["AccessKeyId"],
            "secret_key": given["SecretAccessKey"],
            "token": given["SessionToken"],
            "expiry_time": given["Expiration"].isoformat(),
        }


def client_errors() -> tuple[type[Exception], ...]:
    """What a client's calls raise for faults of the target; `of_client_error` takes all of them."""
    from botocore.exceptions import BotoCoreError, ClientError
    from botocore.parsers import ResponseParserError

    return (ClientError, BotoCoreError, ResponseParserError, UnicodeDecodeError)


def of_client_error(where: str, error: Exception) -> Failure:
    """The failure that an error of a client stands for.

    Args:
      where: what was asked, without secrets: ``Kinesis stream events``.
      error: what a call of a client raised. Its text is told only where a record was refused, and scrubbed.
    """
    response = getattr(error, "response", None)
    if not isinstance(response, dict):
        return _of_no_answer(where, type(error).__name__, str(error))
    said = response.get("Error", {})
    code, message = str(said.get("Code", "")), str(said.get("Message", ""))
    metadata = response.get("ResponseMetadata", {})
    status = int(metadata.get("HTTPStatusCode") or 0)
    if getattr(error, "operation_name", "") == "AssumeRole":
        return _of_role(where, code, status)
    return of_code(where, code, message, status, retry_after(metadata.get("HTTPHeaders", {}).get("retry-after")))


def of_code(where: str, code: str, message: str = "", status: int = 400, after: float | None = None) -> Failure:
    """The failure that an error code of a service stands for, also that of a single record.

    Source of the codes: Amazon API references, "Common Errors" and the errors of each action.
    """
    error = f"{where}: answered {code or status}"
    if _is_passing(code, status):
        return Failure(FailureKind.TRANSIENT, error, "deliver what is pending when it answers again", after)
    if code in _LARGE or status == 413:
        return Failure(FailureKind.TOO_LARGE, error, "send smaller batches: batch.size")
    if code in _OF_THE_RECORD:
        words = " ".join(scrub(message.encode()).decode().split())[:_SAID]
        return Failure(FailureKind.REJECTED, f"{error}: {words}", "see what the service says about the record")
    remedy = _REMEDIES.get(code) or _STATUS_REMEDIES.get(status, "check the destination's options")
    return Failure(FailureKind.MISCONFIGURED, error, remedy)


def _of_role(where: str, code: str, status: int) -> Failure:
    error = f"{where}: its role cannot be assumed: STS answered {code or status}"
    if _is_passing(code, status):
        return Failure(FailureKind.TRANSIENT, error, "deliver what is pending when it answers again")
    remedy = _REMEDIES.get(code) if code in _CREDENTIALS else None
    return Failure(
        FailureKind.MISCONFIGURED, error, remedy or "check role_arn, external_id and the trust policy of the role"
    )


def _of_no_answer(where: str, name: str, text: str) -> Failure:
    """Of what botocore raises by itself. The text is only looked at: it may repeat the address."""
    if name == "SSLError" and "CERTIFICATE" in text.upper():
        error = f"{where}: its certificate is not valid or not trusted"
        return Failure(FailureKind.MISCONFIGURED, error, "check the endpoint, or name its authority: AWS_CA_BUNDLE")
    if name in _NO_CREDENTIALS:
        return Failure(FailureKind.MISCONFIGURED, f"{where}: no credentials ({name})", _GIVE)
    if name in _CONFIGURATION:
        return Failure(FailureKind.MISCONFIGURED, f"{where}: cannot be asked ({name})", _CONFIGURATION[name])
    error = f"{where}: no answer ({name})"
    return Failure(FailureKind.TRANSIENT, error, "see that it is up, then deliver what is pending")


def _is_passing(code: str, status: int) -> bool:
    return code in _PASSING or status >= 500 or status in (408, 429)


_GIVE = "give the job's identity credentials for Amazon: environment, profile, or the machine's role"

_PASSING = {
    "InternalError", "InternalFailure", "InternalFailureException", "InternalServiceError", "KMSThrottlingException",
    "LimitExceededException", "PriorRequestNotComplete", "ProvisionedThroughputExceededException",
    "RequestLimitExceeded", "RequestTimeout", "RequestTimeoutException", "ServiceUnavailable", "SlowDown", "Throttled",
    "Throttling", "ThrottlingException", "TooManyRequestsException",
}  # fmt: skip
_OF_THE_RECORD = {"InvalidArgumentException", "SerializationException", "ValidationException"}
_LARGE = {"EntityTooLarge", "RequestEntityTooLargeException", "RequestTooLargeException"}
_NO_CREDENTIALS = {
    "CredentialRetrievalError", "MetadataRetrievalError", "NoAuthTokenError", "NoCredentialsError",
    "PartialCredentialsError", "RefreshWithMFAUnsupportedError", "SSOTokenLoadError", "TokenRetrievalError",
    "UnauthorizedSSOTokenError",
}  # fmt: skip
_CONFIGURATION = {
    "ConfigNotFound": "correct AWS_CONFIG_FILE of the worker",
    "ConfigParseError": "correct the worker's configuration file of Amazon's clients",
    "InvalidRegionError": "correct region",
    "NoRegionError": "name the region: region",
    "ProfileNotFound": "correct AWS_PROFILE of the worker",
    "ValueError": "correct endpoint: https://HOST",
}
_CREDENTIALS = {
    **dict.fromkeys(("ExpiredToken", "ExpiredTokenException"), "renew the job's credentials: they have ended"),
    **dict.fromkeys(
        ("IncompleteSignature", "InvalidAccessKeyId", "InvalidClientTokenId", "InvalidSignatureException",
         "MissingAuthenticationToken", "MissingAuthenticationTokenException", "SignatureDoesNotMatch",
         "UnrecognizedClientException"),
        "correct the job's credentials: Amazon does not accept them",
    ),
    **dict.fromkeys(("RequestExpired", "RequestTimeTooSkewed"), "set the worker's clock"),
}  # fmt: skip
_REMEDIES = {
    **_CREDENTIALS,
    **dict.fromkeys(("AccessDenied", "AccessDeniedException"), "give the job's identity, or its role, the right to it"),
    "KMSAccessDeniedException": "give the job's identity, or its role, the right to use the key that encrypts it",
    **dict.fromkeys(
        ("KMSDisabledException", "KMSInvalidStateException", "KMSNotFoundException", "KMSOptInRequired"),
        "mend the key that encrypts it",
    ),
    **dict.fromkeys(("NoSuchBucket", "ResourceNotFoundException"), "create it, or correct its name or region"),
    "OptInRequired": "subscribe the account to the service",
}
_STATUS_REMEDIES = {
    **dict.fromkeys((301, 307), "correct region: it lies in another one"),
    401: "correct the job's credentials: Amazon does not accept them",
    403: "give the job's identity, or its role, the right to it",
    404: "create it, or correct its name or region",
}
