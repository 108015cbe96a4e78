"""Bench of ``pubsub``: Google's emulator, else the server in memory, behind a proxy that makes faults."""

from __future__ import annotations

import json
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent import futures
from contextlib import ExitStack, contextmanager
from typing import Any, ClassVar

import grpc
import pytest

from tests.destinations.bench import Bench, Received
from tests.destinations.benches.kinesis import record_id_of
from tests.servers.processes import HOST, free_port
from tests.servers.proxy import Fault
from tests.servers.pubsub import PROJECT, pubsub_emulator, pubsub_servicer


class PubSubBench(Bench):
    """Topics with a subscription that keeps the order of each key; a message for each record."""

    type: ClassVar[str] = "pubsub"
    faults: ClassVar[frozenset[Fault]] = frozenset(Fault) - {Fault.NONE}

    def __enter__(self) -> PubSubBench:
        with ExitStack() as stack:
            try:
                self._server = stack.enter_context(pubsub_emulator())
            except pytest.skip.Exception:
                self._server = stack.enter_context(pubsub_servicer())
            self._proxy = stack.enter_context(rpc_proxy(self._server.address))
            self._opened = stack.pop_all()
        self.environment = {"PUBSUB_EMULATOR_HOST": self._proxy.address}
        self._received: dict[str, list[Received]] = defaultdict(list)
        self._made: set[str] = set()
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def options(self, stream: str, content: str = "events") -> dict[str, Any]:
        topic = f"of-{stream}-{content}"
        if topic not in self._made:
            self._server.create_topic(topic, topic)
            self._made.add(topic)
        return {"type": "pubsub", "project": PROJECT, "topic": topic, "ordering": True, "timeout": 3}

    def received(self, stream: str, content: str = "events") -> list[Received]:
        topic = f"of-{stream}-{content}"
        for message in self._server.pull_all(topic):
            values = json.loads(message.data)
            delivery_id = message.attributes["record_id"]
            self._received[topic].append(Received(record_id_of(values), values, delivery_id, message.ordering_key))
        return list(self._received[topic])

    @contextmanager
    def fault(self, fault: Fault, percent: float = 100.0) -> Iterator[None]:
        self._proxy.inject(fault, percent)
        try:
            yield
        finally:
            self._proxy.inject(Fault.NONE, 100.0)


_CODES = {
    Fault.ERROR: grpc.StatusCode.INTERNAL,
    Fault.UNAVAILABLE: grpc.StatusCode.UNAVAILABLE,
    Fault.THROTTLED: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Fault.UNAUTHORISED: grpc.StatusCode.UNAUTHENTICATED,
    Fault.FORBIDDEN: grpc.StatusCode.PERMISSION_DENIED,
    Fault.NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    Fault.CUT_BEFORE: grpc.StatusCode.UNAVAILABLE,
}
"""The status with which Google's APIs stand for one of HTTP, and gRPC for a connection that is cut."""


class RpcProxy(grpc.GenericRpcHandler):
    """Passes calls of gRPC on, of any service, or makes a fault of them, evenly spread, by counting."""

    def __init__(self, address: str, upstream: grpc.Channel) -> None:
        self.address, self._upstream = address, upstream
        self._lock = threading.Lock()
        self.inject(Fault.NONE, 100.0)

    def inject(self, fault: Fault, percent: float) -> None:
        self._fault, self._percent, self._calls = fault, percent, 0

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        call = self._upstream.unary_unary(handler_call_details.method)

        def handle(request: bytes, context: grpc.ServicerContext) -> bytes:
            fault = self._next()
            if fault is Fault.HANG:
                gone = threading.Event()
                if context.add_callback(gone.set):
                    gone.wait()
                context.abort(grpc.StatusCode.CANCELLED, "the client left")
            elif fault in _CODES:
                context.abort(_CODES[fault], "injected fault")
            elif fault is Fault.SLOW:
                time.sleep(1)
            try:
                answer = bytes(call(request, timeout=30))
            except grpc.RpcError as error:
                context.abort(error.code(), error.details())
            if fault is Fault.CUT_AFTER:
                context.abort(grpc.StatusCode.UNAVAILABLE, "injected fault")
            return answer

        return grpc.unary_unary_rpc_method_handler(handle)

    def _next(self) -> Fault:
        with self._lock:
            before, self._calls = self._calls, self._calls + 1
            met = int(self._calls * self._percent / 100) > int(before * self._percent / 100)
            return self._fault if met else Fault.NONE


@contextmanager
def rpc_proxy(upstream: str) -> Iterator[RpcProxy]:
    """A proxy of a server of gRPC without TLS, for calls of one message each way."""
    size = [("grpc.max_receive_message_length", 20_000_000), ("grpc.max_send_message_length", 20_000_000)]
    port = free_port()
    with grpc.insecure_channel(upstream, size) as channel:
        proxy = RpcProxy(f"{HOST}:{port}", channel)
        server = grpc.server(futures.ThreadPoolExecutor(32, "rpc-proxy"), [proxy], options=size)
        server.add_insecure_port(proxy.address)
        server.start()
        try:
            yield proxy
        finally:
            server.stop(grace=None).wait()
