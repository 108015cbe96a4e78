"""Messages of a Pub/Sub subscription, fetched ahead by threads."""

from __future__ import annotations

import logging
import os
import queue
import threading
from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple

import tenacity

from transforms.deliver.failures import Failure, FailureKind, MissingExtraError
from transforms.deliver.pubsub import connected, of_call_error

PULL_MESSAGES = 1_000
"""Messages of a pull at most (Pub/Sub: Quotas and limits, Resource limits); Google's emulator returns 100 at most."""

ACKNOWLEDGE_AT_ONCE = 2_500
"""Acknowledgements of a request: one has 512 KiB at most (Pub/Sub: Quotas and limits), an id 176 bytes."""

THREADS = 4
"""Pulls of a subscription at the same time: while one waits for its turn in the interpreter, others fetch. Google's
emulator gives 100 messages a pull, whatever is asked for.
"""

AHEAD_MESSAGES, AHEAD_BYTES = 20_000, 32 << 20
"""What is fetched ahead, a pull of each thread apart: more would only grow old here."""

_PULL_TIMEOUT, _ACKNOWLEDGE_TIMEOUT, _LOOK_TIMEOUT = 30.0, 10.0, 5.0
_CONSUME = "pubsub.subscriptions.consume"

_EMULATOR_TIMEOUT = 3.0
"""Google's emulator waits for messages until a second before the deadline of a pull, and hands them to it though its
client is gone: they come again only after the acknowledgement deadline. So its pulls are short.
"""

_NOTHING_CAME = 0.05
"""Seconds until the next pull after one that came back without messages: servers may answer so at once."""

_EMULATOR = "PUBSUB_EMULATOR_HOST"

_BACK_OFF, _LONGEST_BACK_OFF = 0.25, 5.0

_REMEDIES = {
    "NOT_FOUND": "create the subscription, or correct its name (projects/PROJECT/subscriptions/NAME)",
    "PERMISSION_DENIED": "grant roles/pubsub.subscriber on the subscription to the account of this job",
    "FAILED_PRECONDITION": "see that it is a pull subscription, neither push nor export, and not detached",
    "INVALID_ARGUMENT": "correct its name: projects/PROJECT/subscriptions/NAME",
    "UNIMPLEMENTED": "correct PUBSUB_EMULATOR_HOST: what answers there is no Pub/Sub",
}
_CREDENTIALS = "give this job application default credentials of Google Cloud (gcloud auth application-default login)"

_logger = logging.getLogger(__name__)


class SubscriptionError(Exception):
    """A subscription cannot be read, and trying again would not help: what to do about it."""


class MissingSubscription(Failure):
    """There is no such subscription: true for whoever asks, where other failures may be the asker's own."""


class Received(NamedTuple):
    """A message: its payload, time of publication in microseconds (UTC), what acknowledges it, and its id.

    The server sets time and id; that of acknowledgement is another one whenever the message comes again.
    """

    data: bytes
    published: int
    ack_id: str
    message_id: str


class _Passing(Exception):
    """A fault that may pass by itself."""


class Subscriber:
    """Fetches messages of one subscription ahead, and acknowledges what it is told to.

    Messages that are fetched and not acknowledged come again, to this or another subscriber, after the subscription's
    acknowledgement deadline. UNAVAILABLE, time-outs and the like are tried again for ever, with full jitter up to 5 s.
    PUBSUB_EMULATOR_HOST is heeded; credentials are the application default credentials.

    Args:
      subscription: full name, ``projects/P/subscriptions/S``.
      threads: pulls at the same time.
      changed: notified when there is news, for whoever waits for several subscriptions.

    Attributes:
      failure: what is wrong at present, and may pass; None while pulls succeed.

    Raises:
      MissingExtraError: Google's client is not installed.
      SubscriptionError: there are no credentials.
    """

    def __init__(self, subscription: str, threads: int = THREADS, changed: threading.Condition | None = None):
        try:
            from google.api_core.exceptions import DeadlineExceeded, GoogleAPICallError
            from google.pubsub_v1.types import AcknowledgeRequest, PullResponse
        except ImportError:
            raise MissingExtraError("google-cloud-pubsub", "gcp") from None
        self.subscription, self.failure = subscription, None
        self._where = f"Pub/Sub subscription {subscription}"
        self._call_error, self._nothing_came = GoogleAPICallError, DeadlineExceeded
        self._request, self._response = AcknowledgeRequest, PullResponse
        self._client = _client(self._where)
        self._pull_timeout = _EMULATOR_TIMEOUT if os.environ.get(_EMULATOR) else _PULL_TIMEOUT
        self._changed = changed or threading.Condition()
        self._pulled: deque[list[Received]] = deque()
        self._messages = self._bytes = 0
        self._error: SubscriptionError | None = None
        self._stopping = threading.Event()
        self._acknowledged: queue.Queue[Sequence[str] | None] = queue.Queue()
        names = [f"pull-{number}" for number in range(threads)]
        self._pulling = [threading.Thread(target=self._pull_on, name=name, daemon=True) for name in names]
        self._acknowledging = threading.Thread(target=self._acknowledge_on, name="acknowledge", daemon=True)
        for thread in [*self._pulling, self._acknowledging]:
            thread.start()

    failure: str | None

    def take(self, most: int, most_bytes: int, wait: float, linger: float) -> list[Received]:
        """Takes messages that came.

        Args:
          most: messages; a pull that exceeds it by its last messages is taken whole.
          most_bytes: bytes of payloads, likewise.
          wait: seconds to wait for the first message.
          linger: seconds to wait for more behind the first.

        Returns:
          messages in the order that they came in; none if none came in time, or soon after `stop`.

        Raises:
          SubscriptionError: nothing comes any more.
        """
        with self._changed:
            if not self._changed.wait_for(self.has_news, wait):
                return []
            if self._error is not None and not self._messages:
                raise self._error
            self._changed.wait_for(lambda: self.is_filled(most, most_bytes), linger)
            taken: list[Received] = []
            size = 0
            while self._pulled and len(taken) < most and size < most_bytes:
                pull = self._pulled.popleft()
                taken += pull
                size += _bytes(pull)
            self._messages -= len(taken)
            self._bytes -= size
            self._changed.notify_all()
            return taken

    def has_news(self) -> bool:
        """Whether `take` has an answer at once: messages, an error, or that it stops."""
        return bool(self._messages) or self._error is not None or self._stopping.is_set()

    def is_filled(self, most: int, most_bytes: int) -> bool:
        """Whether so many messages or bytes came, or no more come."""
        return self._messages >= most or self._bytes >= most_bytes or self._stopping.is_set()

    def acknowledge(self, ack_ids: Sequence[str]) -> None:
        """Has messages acknowledged soon; those of which that fails come again."""
        for start in range(0, len(ack_ids), ACKNOWLEDGE_AT_ONCE):
            self._acknowledged.put(ack_ids[start : start + ACKNOWLEDGE_AT_ONCE])

    def stop(self) -> None:
        """Pulls no more; what came can still be taken and acknowledged."""
        self._stopping.set()
        with self._changed:
            self._changed.notify_all()

    @property
    def is_pulling(self) -> bool:
        """Whether a pull may still bring something; not for long after `stop`."""
        return any(thread.is_alive() for thread in self._pulling)

    def close(self, patience: float = 5.0) -> None:
        """Stops, sends the acknowledgements that wait, for `patience` seconds, and closes the channel."""
        self.stop()
        self._acknowledged.put(None)
        self._acknowledging.join(patience)
        self._client.transport.close()
        for thread in self._pulling:
            thread.join(1.0)

    def _pull_on(self) -> None:
        pull = self._retrying(
            stop=tenacity.stop_when_event_set(self._stopping), sleep=tenacity.sleep_using_event(self._stopping)
        )
        while not self._stopping.is_set():
            try:
                messages = pull(self._pull)
            except SubscriptionError as error:
                with self._changed:
                    self._error = error
                    self._changed.notify_all()
                return
            except _Passing:
                return  # it stops
            if not messages:
                self._stopping.wait(_NOTHING_CAME)
                continue
            with self._changed:
                self._pulled.append(messages)
                self._messages += len(messages)
                self._bytes += _bytes(messages)
                self._changed.notify_all()
                self._changed.wait_for(self._has_room)

    def _has_room(self) -> bool:
        return (self._messages < AHEAD_MESSAGES and self._bytes < AHEAD_BYTES) or self._stopping.is_set()

    def _pull(self) -> list[Received]:
        request = {"subscription": self.subscription, "max_messages": PULL_MESSAGES}
        try:
            answer = self._client.pull(request=request, retry=None, timeout=self._pull_timeout)
        except self._nothing_came:
            return []
        except (self._call_error, ValueError) as error:
            raise self._fault(error) from None
        if self.failure is not None:
            _logger.warning("%s: answers again", self._where)
            self.failure = None
        # Protocol buffers' own messages: the client's typed ones take ten times as long to read.
        return list(map(_received, self._response.pb(answer).received_messages))

    def _acknowledge_on(self) -> None:
        # Until the deadline of most subscriptions is over: then the messages are on their way again.
        acknowledge = self._retrying(stop=tenacity.stop_after_delay(_ACKNOWLEDGE_TIMEOUT))
        while (ack_ids := self._acknowledged.get()) is not None:
            try:
                acknowledge(self._acknowledge, ack_ids)
            except (_Passing, SubscriptionError) as error:
                _logger.warning("%s; %d messages that are kept come again", error, len(ack_ids))

    def _acknowledge(self, ack_ids: Sequence[str]) -> None:
        # Made as in `_pull`: the client's typed message would look at each id by itself.
        request = self._request.wrap(self._request.pb()(subscription=self.subscription, ack_ids=ack_ids))
        try:
            self._client.acknowledge(request=request, retry=None, timeout=_ACKNOWLEDGE_TIMEOUT)
        except (self._call_error, ValueError) as error:
            raise self._fault(error) from None

    def _fault(self, error: Any) -> Exception:
        if isinstance(error, ValueError):  # gRPC's, of a channel that is closed
            return SubscriptionError(f"{self._where}: is closed") if self._stopping.is_set() else error
        failure = _seen_from(self._where, error)
        if failure.kind is FailureKind.TRANSIENT:
            return _Passing(failure.error)
        return SubscriptionError(f"{self._where}: {failure.error.removeprefix(f'{self._where}: ')}; {failure.remedy}")

    def _retrying(self, **options: Any) -> tenacity.Retrying:
        return tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(_Passing),
            wait=tenacity.wait_random_exponential(multiplier=_BACK_OFF, max=_LONGEST_BACK_OFF),
            before_sleep=self._tell,
            reraise=True,
            **options,
        )

    def _tell(self, state: tenacity.RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        if self.failure is None:
            _logger.warning("%s; it is tried again until it answers", error)
        self.failure = str(error)


def look_at(subscription: str) -> Failure | None:
    """Why a subscription cannot be pulled from: it is not there (`MissingSubscription`), it is of another kind, or the
    right is missing; None where nothing speaks against it.

    Args:
      subscription: full name, ``projects/P/subscriptions/S``.

    Raises:
      MissingExtraError: Google's client is not installed.
    """
    try:
        from google.api_core.exceptions import GoogleAPICallError
    except ImportError:
        raise MissingExtraError("google-cloud-pubsub", "gcp") from None
    where = f"Pub/Sub subscription {subscription}"
    try:
        client = _client(where)
    except SubscriptionError as error:
        text, _, remedy = str(error).partition("; ")
        return Failure(FailureKind.MISCONFIGURED, text, remedy)
    once: dict[str, Any] = {"retry": None, "timeout": _LOOK_TIMEOUT}
    unseen: Failure | None = None
    with client:
        try:
            found = client.get_subscription(subscription=subscription, **once)
        except GoogleAPICallError as error:
            if _status(error) == "UNIMPLEMENTED":
                return None  # a small server for tests; the first pull tells more
            unseen = _seen_from(where, error)
            if _status(error) != "PERMISSION_DENIED":
                return unseen
        else:
            exports = found.bigquery_config.table or found.cloud_storage_config.bucket
            if found.detached or found.push_config.push_endpoint or exports:
                return Failure(
                    FailureKind.MISCONFIGURED, f"{where}: it cannot be pulled from", _REMEDIES["FAILED_PRECONDITION"]
                )
        # Who may pull need not be allowed to look at the subscription.
        wanted = {"resource": subscription, "permissions": [_CONSUME]}
        try:
            granted = client.test_iam_permissions(request=wanted, **once).permissions
        except GoogleAPICallError as error:
            # Emulators do not know rights.
            return unseen if _status(error) == "UNIMPLEMENTED" else _seen_from(where, error)
    if _CONSUME in granted:
        return None
    return Failure(FailureKind.MISCONFIGURED, f"{where}: no right to pull ({_CONSUME})", _REMEDIES["PERMISSION_DENIED"])


def _status(error: Any) -> str:
    return getattr(error.grpc_status_code, "name", "UNKNOWN")


def _seen_from(where: str, error: Any) -> Failure:
    """The failure that an error stands for to whoever reads: with what helps a reader."""
    failure = of_call_error(where, error)
    if failure.kind is FailureKind.TRANSIENT and _status(error) not in _REMEDIES:
        return Failure(FailureKind.TRANSIENT, failure.error, "see that it is up; the job tries until it answers")
    of_its_kind = MissingSubscription if _status(error) == "NOT_FOUND" else Failure
    return of_its_kind(FailureKind.MISCONFIGURED, failure.error, _REMEDIES.get(_status(error), _CREDENTIALS))


def _bytes(messages: Sequence[Received]) -> int:
    return sum(len(message.data) for message in messages)


def _received(received: Any) -> Received:
    message = received.message
    published = message.publish_time
    microseconds = published.seconds * 1_000_000 + published.nanos // 1_000
    return Received(message.data, microseconds, received.ack_id, message.message_id)


def _client(where: str) -> Any:
    """A client that connects again soon after a failure; of the emulator, where the environment names one."""
    from google.auth.exceptions import GoogleAuthError
    from google.pubsub_v1.services.subscriber import SubscriberClient
    from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcTransport

    try:
        return connected(SubscriberClient, SubscriberGrpcTransport)
    except GoogleAuthError as error:
        raise SubscriptionError(f"{where}: no credentials ({type(error).__name__}); {_CREDENTIALS}") from None
