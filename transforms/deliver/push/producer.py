"""Records into a topic over Kafka's protocol, for destinations that push: one attempt each, and its answer as a value.

Order: the records of a key lie in one partition in the order of the batch, also over failed attempts: no record is
taken before an earlier one of its key that was not. Three things make it so. The idempotent producer numbers what it
sends, so that its own retries neither double nor reorder. With ``enable.gapless.guarantee`` a broker that refuses
records gets none of those behind them either. And an attempt that runs out of time ends by a purge, which takes the
whole tail of each partition at once; librdkafka's own time-out (``message.timeout.ms``) would give up record by record,
and could still send the next.

Doubles: what was on its way when an attempt ran out of time, or its process was killed, may have been taken; it is sent
again under the same id.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from transforms.dead_letters import scrub
from transforms.deliver.answer import Answer
from transforms.deliver.failures import Failure, FailureKind, MissingExtraError, SetupError
from transforms.deliver.push.batch import Batch

if TYPE_CHECKING:
    from confluent_kafka import KafkaError, Message, Producer

EXTRA = "kafka"

OVERHEAD = 512
"""Bytes that surround a record: its key, its headers, and Kafka's own; ids and names are short."""

_SLICE = 0.2
"""Seconds between two looks at what the brokers said, while reports are awaited."""

_LAST = 2.0
"""Seconds in which the client reports what it gave up; it does so by itself, without any broker."""

_LOOK = 10.0
"""Seconds that a preflight looks for a topic."""

_GLANCE = 3.0
"""Seconds that it looks for the topic's settings."""

_log = logging.getLogger(__name__)

Headers = list[tuple[str, str | bytes | None]]
Record = tuple[str, str, Headers]
"""Value, key and headers."""


class _Log:
    """What librdkafka would write to stderr: to this module's logger, for who wants to see it; it says nothing new."""

    def log(self, level: int, form: str, *values: object) -> None:
        del level
        _log.debug("%s", scrub((form % values).encode()).decode(errors="replace"))


class _Reports:
    """What became of the records of one attempt.

    Attributes:
      names: of each record None where it was taken, else the name of the error.
      waiting: how many records wait for their report.
    """

    def __init__(self, count: int):
        self.names: list[str | None] = ["_NOT_SENT"] * count
        self.waiting = 0

    def sent(self, place: int) -> None:
        """A record is with the client."""
        self.names[place] = "_TIMED_OUT"
        self.waiting += 1

    def report(self, place: int, error: KafkaError | None, message: Message) -> None:
        """The client's report of a record."""
        del message
        self.names[place] = None if error is None else error.name()
        self.waiting -= 1


class _Session:
    """An idempotent producer, which one thread uses at a time."""

    def __init__(self, settings: Mapping[str, Any]):
        from confluent_kafka import Producer

        # What goes wrong with brokers rather than with records; a deque, so that nothing refers back to this object.
        self._troubles: deque[KafkaError] = deque(maxlen=100)
        self._client: Producer = Producer({**settings, "error_cb": self._troubles.append}, logger=_Log())

    def send(self, topic: str, records: Iterator[Record], count: int, seconds: float) -> list[str | None]:
        """Sends records and awaits the report of each.

        Returns:
          of each record None where it was taken, else the name of the error. What was not taken never will be, but for
          what was on its way: see this module's text. Where one was not taken, this session is at its end.
        """
        from confluent_kafka import KafkaException

        until = time.monotonic() + seconds
        self._begin()
        reports = _Reports(count)
        for place, (value, key, headers) in enumerate(records):
            try:
                self._client.produce(topic, value, key, on_delivery=partial(reports.report, place), headers=headers)
            except KafkaException as error:
                reports.names[place] = error.args[0].name()
                break  # what comes behind it must not be taken before it
            reports.sent(place)
        while reports.waiting and time.monotonic() < until and self.hopeless() is None:
            self._poll(min(_SLICE, max(0.0, until - time.monotonic())))
        if reports.waiting:
            self._client.purge()
            until = time.monotonic() + _LAST
            while reports.waiting and time.monotonic() < until:
                self._poll(_SLICE)
        return reports.names

    def find(self, topic: str, seconds: float) -> str | None:
        """Asks the brokers for a topic; returns None where it is there, else the name of the error."""
        from confluent_kafka import KafkaException

        until = time.monotonic() + seconds
        self._begin()
        name = "_TIMED_OUT"
        while time.monotonic() < until:
            try:
                # A short wait each time: what is wrong with the brokers shows beside it only.
                error = self._client.list_topics(topic, timeout=1.0).topics[topic].error
            except KafkaException as failed:
                name = failed.args[0].name()
            else:
                if error is None or _kind(error.name()) is FailureKind.MISCONFIGURED:
                    return None if error is None else error.name()
                name = error.name()
            self._poll(_SLICE)
            trouble = self.hopeless()
            if trouble is not None:
                return trouble
        return name

    def _begin(self) -> None:
        """Forgets what went wrong while nobody used it: a connection that is closed when it is idle is no trouble."""
        self._poll(0.0)
        self._troubles.clear()

    def _poll(self, seconds: float) -> None:
        """Waits for reports, and takes them."""
        from confluent_kafka import KafkaException

        try:
            self._client.poll(seconds)
        except KafkaException as error:
            self._troubles.append(error.args[0])  # fatal ones come so; the reports of all records follow

    def hopeless(self) -> str | None:
        """The name of what the brokers said that waiting does not mend, where they did."""
        return next((name for name in map(_named, self._troubles) if _kind(name) is FailureKind.MISCONFIGURED), None)

    def trouble(self) -> str | None:
        """The name of what last went wrong with brokers."""
        return next((name for name in map(_named, reversed(self._troubles)) if name not in _FOLLOWING), None)


class Topic:
    """A topic that batches are sent to. Used by many threads at a time, each of which has a producer of its own while
    it sends: one that gets no answer keeps none of the others waiting.

    Args:
      name: of the topic.
      settings: librdkafka's settings of the brokers and of the connection.
      seconds: longest time for one attempt.
      record_bytes: most bytes of one record with its key and headers; also of what is sent to a partition at once.

    Raises:
      MissingExtraError: the client is not installed.
      SetupError: the settings cannot be used: a file of certificates is not there, or its password is wrong.
    """

    def __init__(self, name: str, settings: Mapping[str, Any], seconds: float, record_bytes: int):
        try:
            from confluent_kafka import KafkaException
        except ImportError:
            raise MissingExtraError("confluent_kafka", EXTRA) from None
        self._name, self._seconds = name, seconds
        self._where = f"topic {name} at {settings['bootstrap.servers']}"
        self._connection = settings
        self._settings = {**_settings(seconds, record_bytes), **settings}
        self._idle: deque[_Session] = deque()
        try:
            self._idle.append(_Session(self._settings))
        except (KafkaException, ValueError) as error:
            # Its text may repeat a setting.
            name = error.args[0].name() if isinstance(error, KafkaException) else type(error).__name__
            failure = f"{self._where}: the client does not take its settings ({name})"
            remedy = "check that the files of certificates and of the key are on the worker, and the key's password"
            raise SetupError(Failure(FailureKind.MISCONFIGURED, failure, remedy)) from None

    def close(self) -> None:
        """Closes the connections of producers that are not in use."""
        self._idle.clear()

    def _take(self) -> _Session:
        """A producer for this thread alone; who took it puts it back into `_idle` where it can be used again."""
        try:
            return self._idle.pop()
        except IndexError:
            return _Session(self._settings)

    def send(self, batch: Batch) -> Answer:
        """One attempt, which ends `seconds` after its start, or a little later where it has to be given up."""
        session = self._take()
        names = session.send(self._name, records_of(batch), len(batch), self._seconds)
        lost = [name for name in names if name is not None]
        if not lost:
            self._idle.append(session)
            return Answer(said=f"{self._where} took it")
        why = session.hopeless() or most_telling(lost)
        taken = [place for place, name in enumerate(names) if name is None]
        return Answer(self._failure(why, session.trouble()), taken=taken)

    def preflight(self) -> Failure | None:
        """Whether the topic is there, and may be seen."""
        session = self._take()
        name = session.find(self._name, min(self._seconds, _LOOK))
        if name is not None:
            return self._failure(name, session.trouble())
        self._idle.append(session)
        return None

    def check_right(self) -> Failure | None:
        """Whether the topic may be written to; None also where the brokers do not tell rights."""
        from confluent_kafka import KafkaException, TopicCollection
        from confluent_kafka.admin import AclOperation, AdminClient

        wanted = TopicCollection([self._name])
        client = AdminClient(dict(self._connection), logger=_Log())
        try:
            told = client.describe_topics(wanted, include_authorized_operations=True, request_timeout=_GLANCE)
            granted = told[self._name].result(2 * _GLANCE).authorized_operations
        except (KafkaException, TimeoutError):
            return None
        if not granted or {AclOperation.WRITE, AclOperation.ALL} & set(granted):
            return None
        return self._failure("TOPIC_AUTHORIZATION_FAILED", None)

    def check_size(self, bytes_at_once: int) -> Failure | None:
        """Whether the topic takes so many bytes at once; None also where its settings may not be seen."""
        from confluent_kafka import KafkaException
        from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType

        asked = ConfigResource(ResourceType.TOPIC, self._name)
        client = AdminClient(dict(self._connection), logger=_Log())
        try:
            found = client.describe_configs([asked], request_timeout=_GLANCE)[asked].result(2 * _GLANCE)
        except (KafkaException, TimeoutError):
            return None
        most = int(found["max.message.bytes"].value)
        if most >= bytes_at_once:
            return None
        error = f"{self._where}: takes {most:,} bytes at once, and {bytes_at_once:,} may be sent"
        return Failure(FailureKind.MISCONFIGURED, error, _REMEDIES["MSG_SIZE_TOO_LARGE"])

    def _failure(self, name: str, trouble: str | None) -> Failure:
        kind = _kind(name)
        said = f"not all records were confirmed within {self._seconds:g} s" if name in _FOLLOWING else name
        beside = ""
        if kind is FailureKind.TRANSIENT and trouble not in (None, name):
            beside = f"; last trouble with a broker: {trouble}"
        return Failure(kind, f"{self._where}: {said}{beside}", _REMEDIES.get(name, _REMEDY_OF[kind]))


def records_of(batch: Batch) -> Iterator[Record]:
    """The records of a batch as a topic takes them, with the headers ``record_id``, ``stream``, ``kind``, ``content``
    and, where the record has them, ``type_id`` and ``severity``.
    """
    fixed: Headers = [("stream", batch.stream.name), ("kind", batch.content), ("content", batch.table)]
    columns = (batch.texts.to_list(), batch.keys, batch.ids, batch.column("event_type_id"), batch.column("severity"))
    for value, key, name, type_id, severity in zip(*columns, strict=True):
        headers: Headers = [("record_id", name), *fixed]
        if type_id is not None:
            headers.append(("type_id", str(type_id)))
        if severity is not None:
            headers.append(("severity", str(severity)))
        yield value, key, headers


def _settings(seconds: float, record_bytes: int) -> dict[str, Any]:
    """Settings by librdkafka's names, whatever the brokers are."""
    each = max(1, int(seconds * 1000 / 3))  # three tries of a request within an attempt
    return {
        "client.id": "data-streamer",
        "enable.idempotence": True,
        "acks": "all",
        "enable.gapless.guarantee": True,
        "partitioner": "murmur2_random",  # that of Kafka's own clients
        "allow.auto.create.topics": False,
        "linger.ms": 5,
        "message.max.bytes": record_bytes,
        "batch.num.messages": 100_000,
        # No bounds of its own: a batch is what there is in it.
        "queue.buffering.max.messages": 0,
        "queue.buffering.max.kbytes": 2_147_483_647,
        # Later than the purge, for order.
        "message.timeout.ms": int(seconds * 1000) + 60_000,
        "request.timeout.ms": each,
        "socket.timeout.ms": max(each, 10),
        "socket.connection.setup.timeout.ms": max(each, 1_000),
        "reconnect.backoff.max.ms": 2_000,
        # A topic that is not there: some seconds for one that was just made.
        "topic.metadata.propagation.max.ms": 5_000,
        "socket.keepalive.enable": True,
        "log.connection.close": False,
    }


_MISCONFIGURED = {
    "TOPIC_AUTHORIZATION_FAILED": "give the user the right to write to the topic",
    "CLUSTER_AUTHORIZATION_FAILED": "give the user the right to write idempotently in the cluster",
    "SASL_AUTHENTICATION_FAILED": "correct user and password: the brokers do not accept them",
    "_AUTHENTICATION": "correct user, password and mechanism: the brokers do not accept them",
    "UNSUPPORTED_SASL_MECHANISM": "name a mechanism that the brokers have",
    "UNKNOWN_TOPIC_OR_PART": "create the topic, or correct its name",
    "_UNKNOWN_TOPIC": "create the topic, or correct its name",
    "_UNKNOWN_PARTITION": "create the topic, or correct its name",
    "TOPIC_EXCEPTION": "correct the topic's name",
    "SECURITY_DISABLED": "give the brokers an authoriser, or use no credentials",
    "UNSUPPORTED_VERSION": "use brokers of Kafka 0.11 or later",
    "UNSUPPORTED_COMPRESSION_TYPE": "choose another compression",
    "_CERTIFICATE": "give the brokers valid certificates, or name their authority in certificates",
}
_TOO_LARGE = {"MSG_SIZE_TOO_LARGE", "_MSG_SIZE_TOO_LARGE", "RECORD_LIST_TOO_LARGE"}
_REJECTED = {"INVALID_RECORD", "INVALID_TIMESTAMP", "INVALID_MSG", "POLICY_VIOLATION"}

_REMEDIES = {
    **_MISCONFIGURED,
    **dict.fromkeys(_TOO_LARGE, "raise max.message.bytes of the topic, or lower max_record_bytes"),
}
_REMEDY_OF = {
    FailureKind.TRANSIENT: "see that the brokers are up, then deliver what is pending",
    FailureKind.MISCONFIGURED: "check the destination's options",
    FailureKind.REJECTED: "see what the topic's settings ask of a record",
    FailureKind.TOO_LARGE: "lower max_record_bytes",
}


def _kind(name: str) -> FailureKind:
    """Who is at fault, by the name of an error; one that is not known may pass."""
    if name in _MISCONFIGURED:
        return FailureKind.MISCONFIGURED
    if name in _TOO_LARGE:
        return FailureKind.TOO_LARGE
    return FailureKind.REJECTED if name in _REJECTED else FailureKind.TRANSIENT


def most_telling(names: Sequence[str]) -> str:
    """Of the errors of an attempt the one that says why the others are there."""
    return min(names, key=lambda name: _TELLING.index(_kind(name)) * 2 + (name in _FOLLOWING))


_TELLING = (FailureKind.MISCONFIGURED, FailureKind.TOO_LARGE, FailureKind.REJECTED, FailureKind.TRANSIENT)
_FOLLOWING = ("_NOT_SENT", "_TIMED_OUT", "_PURGE_QUEUE", "_PURGE_INFLIGHT", "_FATAL", "_GAPLESS_GUARANTEE")


def _named(error: KafkaError) -> str:
    """The name of an error; one of a certificate, which has no name of its own, gets one."""
    if error.name() == "_SSL" and "certificate" in error.str().lower():
        return "_CERTIFICATE"
    return error.name()
