"""Pub/Sub for the demonstration: Google's emulator where it is installed, else a small server in memory.

The server in memory speaks Google's own protocol, and knows what the demonstration needs: topics, pull subscriptions,
acknowledgements with a deadline.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.empty_pb2 import Empty
from google.pubsub_v1 import types

HOST = "127.0.0.1"
_START = 60.0
_DEADLINE = 60.0
_LONGEST_MESSAGE = 20_000_000


@contextmanager
def pubsub(heap: str = "256m") -> Iterator[str]:
    """Runs a server; yields its address.

    Args:
      heap: most memory of Google's emulator, which keeps all messages in it.
    """
    jar = _emulator()
    with _emulated(jar, heap) if jar is not None else _in_memory() as address:
        yield address


def _emulator() -> Path | None:
    """Where the Google Cloud CLI keeps the emulator; None where it or Java is missing."""
    command = shutil.which("gcloud")
    roots = [Path(command).resolve().parents[1]] if command else []
    for root in [*roots, Path("/usr/lib/google-cloud-sdk"), Path.home() / "google-cloud-sdk"]:
        for jar in sorted((root / "platform/pubsub-emulator/lib").glob("cloud-pubsub-emulator-*-all.jar")):
            return jar if shutil.which("java") else None
    return None


@contextmanager
def _emulated(jar: Path, heap: str) -> Iterator[str]:
    with socket.socket() as found:
        found.bind((HOST, 0))
        port = found.getsockname()[1]
    # A session of its own: Ctrl-C is for the job, which then acknowledges what it has taken.
    process = subprocess.Popen(
        ["java", f"-Xmx{heap}", "-XX:+UseSerialGC", "-jar", str(jar), f"--host={HOST}", f"--port={port}"],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        until = time.monotonic() + _START
        while not _accepts(port):
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"the Pub/Sub emulator {jar} does not start; try it by itself: java -jar {jar}")
            time.sleep(0.1)
        yield f"{HOST}:{port}"
    finally:
        process.terminate()
        process.wait(10)


def _accepts(port: int) -> bool:
    try:
        socket.create_connection((HOST, port), timeout=1).close()
    except OSError:
        return False
    return True


@contextmanager
def _in_memory() -> Iterator[str]:
    server = grpc.server(
        futures.ThreadPoolExecutor(32), options=[("grpc.max_receive_message_length", _LONGEST_MESSAGE)]
    )
    _Server().register(server)
    port = server.add_insecure_port(f"{HOST}:0")
    server.start()
    try:
        yield f"{HOST}:{port}"
    finally:
        server.stop(grace=None).wait()


class _Server:
    """The methods of Publisher and Subscriber, by their names in Google's API."""

    def __init__(self) -> None:
        self._lock, self._published = threading.Lock(), 0
        self._topics: dict[str, list[str]] = {}
        self._waiting: dict[str, deque[types.PubsubMessage]] = {}
        self._leased: dict[str, dict[str, tuple[float, types.PubsubMessage]]] = {}

    def register(self, server: grpc.Server) -> None:
        services: dict[str, dict[str, tuple[Any, Callable[[Any], Any]]]] = {
            "google.pubsub.v1.Publisher": {
                "CreateTopic": (types.Topic, self.create_topic),
                "Publish": (types.PublishRequest, self.publish),
            },
            "google.pubsub.v1.Subscriber": {
                "CreateSubscription": (types.Subscription, self.create_subscription),
                "Pull": (types.PullRequest, self.pull),
                "Acknowledge": (types.AcknowledgeRequest, self.acknowledge),
            },
        }
        for service, methods in services.items():
            handlers = {
                name: grpc.unary_unary_rpc_method_handler(
                    self._locked(method), request_deserializer=kind.deserialize, response_serializer=_serialised
                )
                for name, (kind, method) in methods.items()
            }
            server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(service, handlers)])

    def _locked(self, method: Callable[[Any], Any]) -> Callable[[Any, grpc.ServicerContext], Any]:
        def handle(request: Any, context: grpc.ServicerContext) -> Any:
            with self._lock:
                try:
                    return method(request)
                except KeyError as missing:
                    context.abort(grpc.StatusCode.NOT_FOUND, f"Resource not found (resource={missing.args[0]}).")

        return handle

    def create_topic(self, topic: types.Topic) -> types.Topic:
        self._topics.setdefault(topic.name, [])
        return topic

    def create_subscription(self, wanted: types.Subscription) -> types.Subscription:
        self._topics[wanted.topic].append(wanted.name)
        self._waiting[wanted.name], self._leased[wanted.name] = deque(), {}
        return wanted

    def publish(self, request: types.PublishRequest) -> types.PublishResponse:
        ids = []
        for message in request.messages:
            self._published += 1
            message.message_id, message.publish_time = str(self._published), _now()
            ids.append(message.message_id)
        for subscription in self._topics[request.topic]:
            self._waiting[subscription].extend(request.messages)
        return types.PublishResponse(message_ids=ids)

    def pull(self, request: types.PullRequest) -> types.PullResponse:
        waiting, leased = self._waiting[request.subscription], self._leased[request.subscription]
        now = time.monotonic()
        for key in [key for key, (deadline, _) in leased.items() if deadline < now]:
            waiting.appendleft(leased.pop(key)[1])
        taken = [waiting.popleft() for _ in range(min(request.max_messages, len(waiting)))]
        leased.update((message.message_id, (now + _DEADLINE, message)) for message in taken)
        received = [types.ReceivedMessage(ack_id=message.message_id, message=message) for message in taken]
        return types.PullResponse(received_messages=received)

    def acknowledge(self, request: types.AcknowledgeRequest) -> Empty:
        for key in request.ack_ids:
            self._leased[request.subscription].pop(key, None)
        return Empty()


def _now() -> Any:
    from google.protobuf.timestamp_pb2 import Timestamp

    now = Timestamp()
    now.GetCurrentTime()
    return now


def _serialised(message: Any) -> bytes:
    return message.SerializeToString() if isinstance(message, Empty) else bytes(type(message).serialize(message))
