"""Pub/Sub: Google's emulator where it is installed, and a server in memory that fails on command."""

from __future__ import annotations

import enum
import shutil
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme
from google.iam.v1 import iam_policy_pb2
from google.protobuf.empty_pb2 import Empty
from google.pubsub_v1 import PublisherClient, SubscriberClient, types
from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport
from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcTransport

from tests.servers.processes import HOST, JAVA_OPTIONS, Process, accepts, free_port

PROJECT = "local-project"


@dataclass(frozen=True)
class Message:
    """A message as a subscriber got it; in both servers a message that was published twice has two ids."""

    id: str
    data: bytes
    attributes: dict[str, str]
    ordering_key: str


@dataclass(frozen=True)
class PubSub:
    """A running server of Pub/Sub.

    Attributes:
      address: ``127.0.0.1:PORT``, of gRPC without TLS.
      environment: variables that point a client to it.
    """

    address: str
    environment: dict[str, str]

    def create_topic(self, topic: str, subscription: str, deadline: int = 60) -> str:
        """A topic with a subscription that keeps the order of each key, and sends again what is not acknowledged in
        ``deadline`` seconds (10 at least); returns the topic's path.
        """
        topic_path = f"projects/{PROJECT}/topics/{topic}"
        with self.publisher() as publisher:
            publisher.create_topic(name=topic_path)
        with self.subscriber() as subscriber:
            subscriber.create_subscription(
                request={
                    "name": f"projects/{PROJECT}/subscriptions/{subscription}",
                    "topic": topic_path,
                    "enable_message_ordering": True,
                    "ack_deadline_seconds": deadline,
                }
            )
        return topic_path

    def pull_all(self, subscription: str, quiet: float = 1.0) -> list[Message]:
        """Pull and acknowledge until nothing has come for ``quiet`` seconds; in the order that they came in."""
        path = f"projects/{PROJECT}/subscriptions/{subscription}"
        found: list[Message] = []
        with self.subscriber() as subscriber:
            last = time.monotonic()
            while time.monotonic() - last < quiet:
                pulled = subscriber.pull(
                    request={"subscription": path, "max_messages": 1000, "return_immediately": True}, retry=None
                ).received_messages
                if not pulled:
                    time.sleep(0.05)
                    continue
                found += [
                    Message(one.message_id, one.data, dict(one.attributes), one.ordering_key)
                    for one in (received.message for received in pulled)
                ]
                subscriber.acknowledge(request={"subscription": path, "ack_ids": [one.ack_id for one in pulled]})
                last = time.monotonic()
        return found

    @contextmanager
    def publisher(self) -> Iterator[Any]:
        """A client of topics; it publishes at once, ``publish(request={"topic": …, "messages": […]})``."""
        with grpc.insecure_channel(self.address) as channel:
            yield PublisherClient(transport=PublisherGrpcTransport(channel=channel))

    @contextmanager
    def subscriber(self) -> Iterator[Any]:
        """A client of subscriptions."""
        with grpc.insecure_channel(self.address) as channel:
            yield SubscriberClient(transport=SubscriberGrpcTransport(channel=channel))


@contextmanager
def pubsub_emulator() -> Iterator[PubSub]:
    """Google's emulator, without topics; it accepts subscription filters and ignores them, and forgets all at its end.

    Skips the test where it or Java is not installed.
    """
    jar = _emulator_jar()
    if jar is None:
        pytest.skip("Pub/Sub emulator: not installed (gcloud components install pubsub-emulator)")
    if shutil.which("java") is None:
        pytest.skip("Pub/Sub emulator: java is not installed")
    port = free_port()
    command = ["java", *JAVA_OPTIONS, "-jar", str(jar), f"--host={HOST}", f"--port={port}"]
    with Process("Pub/Sub emulator", command, lambda: accepts(port)):
        yield PubSub(f"{HOST}:{port}", {"PUBSUB_EMULATOR_HOST": f"{HOST}:{port}"})


def runs_emulator() -> bool:
    """Whether Google's emulator, and Java, are installed."""
    return _emulator_jar() is not None and shutil.which("java") is not None


def _emulator_jar() -> Path | None:
    """Where the Google Cloud CLI keeps it: below its own directory, or that of Debian's package."""
    command = shutil.which("gcloud")
    roots = [Path(command).resolve().parents[1]] if command else []
    for root in [*roots, Path("/usr/lib/google-cloud-sdk"), Path.home() / "google-cloud-sdk"]:
        for jar in sorted((root / "platform/pubsub-emulator/lib").glob("cloud-pubsub-emulator-*-all.jar")):
            return jar
    return None


class RpcFault(enum.Enum):
    """What a server of gRPC does instead of what it was asked for; each but two is a status code of that name."""

    NONE = "does what it is asked for"
    UNAVAILABLE = "answers UNAVAILABLE"
    RESOURCE_EXHAUSTED = "answers RESOURCE_EXHAUSTED, as over a quota"
    INTERNAL = "answers INTERNAL"
    UNAUTHENTICATED = "answers UNAUTHENTICATED"
    PERMISSION_DENIED = "answers PERMISSION_DENIED"
    NOT_FOUND = "answers NOT_FOUND"
    INVALID_ARGUMENT = "answers INVALID_ARGUMENT"
    HANG = "never answers"
    UNAVAILABLE_AFTER = "does what it is asked for, and answers UNAVAILABLE"


@dataclass(frozen=True)
class PubSubServicer(PubSub):
    """The server in memory.

    Attributes:
      faults: what it does with the calls of ``Publish``; may be set at any time.
    """

    faults: RpcFaults


@dataclass
class RpcFaults:
    """Faults of the calls of some methods.

    Attributes:
      fault: what happens.
      percent: of the calls that it happens to, evenly spread, by counting.
      methods: by name, such as ``Publish``, ``GetTopic``.
      calls: of these methods that arrived.
      met: how many of them met the fault.
    """

    fault: RpcFault = RpcFault.NONE
    percent: float = 100.0
    methods: tuple[str, ...] = ("Publish",)
    calls: int = 0
    met: int = 0

    def inject(self, fault: RpcFault, percent: float = 100.0, methods: tuple[str, ...] = ("Publish",)) -> None:
        """Set a fault and what it happens to, and count from 0."""
        self.fault, self.percent, self.methods = fault, percent, methods
        self.calls = self.met = 0

    def next(self, method: str) -> RpcFault:
        """What happens to the next call of a method."""
        if method not in self.methods:
            return RpcFault.NONE
        self.calls += 1
        if self.fault is RpcFault.NONE:
            return RpcFault.NONE
        if int(self.calls * self.percent / 100) == int((self.calls - 1) * self.percent / 100):
            return RpcFault.NONE
        self.met += 1
        return self.fault


@contextmanager
def pubsub_servicer() -> Iterator[PubSubServicer]:
    """A server of Pub/Sub in this process, on Google's own messages, which enforces the limits of a publish request.

    It knows topics, pull subscriptions, acknowledgements with deadlines, and the order that messages came in. No
    filters, no dead letters, no streaming pull.
    """
    port, faults = free_port(), RpcFaults()
    server = grpc.server(futures.ThreadPoolExecutor(64, "pubsub"), options=_OPTIONS)
    _Servicer(faults).register(server)
    server.add_insecure_port(f"{HOST}:{port}")
    server.start()
    try:
        yield PubSubServicer(f"{HOST}:{port}", {"PUBSUB_EMULATOR_HOST": f"{HOST}:{port}"}, faults)
    finally:
        server.stop(grace=None).wait()


_OPTIONS = [("grpc.max_receive_message_length", 20_000_000), ("grpc.so_reuseport", 0)]

_REQUEST_BYTES, _REQUEST_MESSAGES = 10_000_000, 1_000
_ATTRIBUTES, _KEY_BYTES, _VALUE_BYTES, _ORDERING_KEY_BYTES = 100, 256, 1_024, 1_024
"""Limits of a publish request (Google Cloud, Pub/Sub quotas and limits, resource limits)."""


class _Refused(Exception):
    def __init__(self, code: grpc.StatusCode, reason: str) -> None:
        super().__init__(reason)
        self.code = code


class _Subscription:
    def __init__(self, wanted: types.Subscription) -> None:
        self.wanted = wanted
        self.pending: deque[types.PubsubMessage] = deque()
        self.leased: dict[str, tuple[float, types.PubsubMessage]] = {}

    def take(self, most: int) -> list[types.ReceivedMessage]:
        now = time.monotonic()
        late = [key for key, (deadline, _) in self.leased.items() if deadline < now]
        self.pending.extendleft(self.leased.pop(key)[1] for key in reversed(late))
        taken = [self.pending.popleft() for _ in range(min(most, len(self.pending)))]
        deadline = now + (self.wanted.ack_deadline_seconds or 10)
        self.leased.update((message.message_id, (deadline, message)) for message in taken)
        return [types.ReceivedMessage(ack_id=message.message_id, message=message) for message in taken]


@contextmanager
def pubsub_rights(may_look: bool, granted: list[str], authority: trustme.CA | None = None) -> Iterator[str]:
    """A server that knows who may look at a topic or subscription, and what else is granted; yields its address. With
    TLS, if an authority is given.
    """

    def get(request: bytes, context: grpc.ServicerContext) -> bytes:
        if not may_look:
            context.abort(grpc.StatusCode.PERMISSION_DENIED, "User not authorized to perform this action.")
        return b""

    def permissions(request: bytes, context: grpc.ServicerContext) -> bytes:
        asked = iam_policy_pb2.TestIamPermissionsRequest.FromString(request)
        both = [permission for permission in asked.permissions if permission in granted]
        return iam_policy_pb2.TestIamPermissionsResponse(permissions=both).SerializeToString()

    port = free_port()
    server = grpc.server(futures.ThreadPoolExecutor(2))
    for service, name, method in (
        ("google.pubsub.v1.Publisher", "GetTopic", get),
        ("google.pubsub.v1.Subscriber", "GetSubscription", get),
        ("google.iam.v1.IAMPolicy", "TestIamPermissions", permissions),
    ):
        handlers = {name: grpc.unary_unary_rpc_method_handler(method)}
        server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(service, handlers)])
    if authority is None:
        server.add_insecure_port(f"{HOST}:{port}")
    else:
        certificate = authority.issue_cert("localhost")
        chain = b"".join(part.bytes() for part in certificate.cert_chain_pems)
        pairs = [(certificate.private_key_pem.bytes(), chain)]
        server.add_secure_port(f"{HOST}:{port}", grpc.ssl_server_credentials(pairs))
    server.start()
    try:
        yield f"{HOST if authority is None else 'localhost'}:{port}"
    finally:
        server.stop(grace=None).wait()


class _Servicer:
    """The methods of Publisher and Subscriber, by their names in Google's API."""

    def __init__(self, faults: RpcFaults) -> None:
        self._faults, self._lock = faults, threading.Lock()
        self._topics: dict[str, types.Topic] = {}
        self._subscriptions: dict[str, _Subscription] = {}
        self._published = 0

    def register(self, server: grpc.Server) -> None:
        """Serve the methods; each takes a message and returns one, and refuses with ``_Refused``."""
        services: dict[str, dict[str, tuple[Any, Callable[[Any], Any]]]] = {
            "google.pubsub.v1.Publisher": {
                "CreateTopic": (types.Topic, self.create_topic),
                "GetTopic": (types.GetTopicRequest, lambda request: self.topic(request.topic)),
                "DeleteTopic": (types.DeleteTopicRequest, self.delete_topic),
                "Publish": (types.PublishRequest, self.publish),
            },
            "google.pubsub.v1.Subscriber": {
                "CreateSubscription": (types.Subscription, self.create_subscription),
                "GetSubscription": (
                    types.GetSubscriptionRequest, lambda request: self.subscription(request.subscription).wanted
                ),
                "Pull": (types.PullRequest, self.pull),
                "Acknowledge": (types.AcknowledgeRequest, self.acknowledge),
                "ModifyAckDeadline": (types.ModifyAckDeadlineRequest, self.modify_ack_deadline),
            },
        }  # fmt: skip
        for service, methods in services.items():
            handlers = {
                name: grpc.unary_unary_rpc_method_handler(
                    self._handler(name, method), request_deserializer=kind.deserialize, response_serializer=_serialised
                )
                for name, (kind, method) in methods.items()
            }
            server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(service, handlers)])

    def _handler(self, name: str, method: Callable[[Any], Any]) -> Callable[[Any, grpc.ServicerContext], Any]:
        def handle(request: Any, context: grpc.ServicerContext) -> Any:
            with self._lock:
                fault = self._faults.next(name)
            if fault is RpcFault.HANG:
                gone = threading.Event()
                if context.add_callback(gone.set):
                    gone.wait()
                context.abort(grpc.StatusCode.CANCELLED, "the client left")
            if fault not in (RpcFault.NONE, RpcFault.UNAVAILABLE_AFTER):
                context.abort(grpc.StatusCode[fault.name], "injected fault")
            try:
                with self._lock:
                    answer = method(request)
            except _Refused as refused:
                context.abort(refused.code, str(refused))
            if fault is RpcFault.UNAVAILABLE_AFTER:
                context.abort(grpc.StatusCode.UNAVAILABLE, "injected fault")
            return answer

        return handle

    def topic(self, name: str) -> types.Topic:
        if name not in self._topics:
            raise _Refused(grpc.StatusCode.NOT_FOUND, f"Resource not found (resource={name.rsplit('/', 1)[-1]}).")
        return self._topics[name]

    def subscription(self, name: str) -> _Subscription:
        if name not in self._subscriptions:
            raise _Refused(grpc.StatusCode.NOT_FOUND, f"Resource not found (resource={name.rsplit('/', 1)[-1]}).")
        return self._subscriptions[name]

    def create_topic(self, topic: types.Topic) -> types.Topic:
        if topic.name in self._topics:
            raise _Refused(grpc.StatusCode.ALREADY_EXISTS, "Topic already exists")
        self._topics[topic.name] = topic
        return topic

    def delete_topic(self, request: types.DeleteTopicRequest) -> Empty:
        self.topic(request.topic)
        del self._topics[request.topic]
        return Empty()

    def create_subscription(self, wanted: types.Subscription) -> types.Subscription:
        self.topic(wanted.topic)
        if wanted.name in self._subscriptions:
            raise _Refused(grpc.StatusCode.ALREADY_EXISTS, "Subscription already exists")
        self._subscriptions[wanted.name] = _Subscription(wanted)
        return wanted

    def publish(self, request: types.PublishRequest) -> types.PublishResponse:
        self.topic(request.topic)
        _check(request)
        ids = []
        for message in request.messages:
            self._published += 1
            message.message_id = str(self._published)
            message.publish_time = datetime.now(tz=UTC)
            ids.append(message.message_id)
            for subscription in self._subscriptions.values():
                if subscription.wanted.topic == request.topic:
                    subscription.pending.append(message)
        return types.PublishResponse(message_ids=ids)

    def pull(self, request: types.PullRequest) -> types.PullResponse:
        return types.PullResponse(received_messages=self.subscription(request.subscription).take(request.max_messages))

    def acknowledge(self, request: types.AcknowledgeRequest) -> Empty:
        leased = self.subscription(request.subscription).leased
        for key in request.ack_ids:
            leased.pop(key, None)
        return Empty()

    def modify_ack_deadline(self, request: types.ModifyAckDeadlineRequest) -> Empty:
        leased = self.subscription(request.subscription).leased
        for key in request.ack_ids:
            if key in leased:
                leased[key] = (time.monotonic() + request.ack_deadline_seconds, leased[key][1])
        return Empty()


def _check(request: types.PublishRequest) -> None:
    """Refuse what Pub/Sub refuses: the whole request, if one of its messages is at fault."""
    reason = None
    if len(types.PublishRequest.serialize(request)) > _REQUEST_BYTES:
        reason = f"The request is larger than {_REQUEST_BYTES} bytes."
    elif not 1 <= len(request.messages) <= _REQUEST_MESSAGES:
        reason = f"The request has {len(request.messages)} messages; 1 to {_REQUEST_MESSAGES} are allowed."
    elif not all(message.data or message.attributes for message in request.messages):
        reason = "Every message must have data or attributes."
    elif any(len(message.attributes) > _ATTRIBUTES for message in request.messages):
        reason = f"A message has more than {_ATTRIBUTES} attributes."
    elif any(
        not 1 <= len(key.encode()) <= _KEY_BYTES or key.startswith("goog") or len(value.encode()) > _VALUE_BYTES
        for message in request.messages
        for key, value in message.attributes.items()
    ):
        reason = "A message has an attribute whose key or value is not allowed."
    elif any(len(message.ordering_key.encode()) > _ORDERING_KEY_BYTES for message in request.messages):
        reason = f"A message has an ordering key of more than {_ORDERING_KEY_BYTES} bytes."
    if reason:
        raise _Refused(grpc.StatusCode.INVALID_ARGUMENT, reason)


def _serialised(message: Any) -> bytes:
    if isinstance(message, Empty):
        return message.SerializeToString()
    return bytes(type(message).serialize(message))
