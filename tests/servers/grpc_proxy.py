"""A proxy that injects faults between a client and any server of gRPC without TLS, by status code."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import grpc

from tests.servers.processes import HOST, free_port
from tests.servers.pubsub import RpcFault, RpcFaults

_UNLIMITED = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


@dataclass(frozen=True)
class GrpcProxy:
    """A running proxy of gRPC.

    Attributes:
      address: ``127.0.0.1:PORT``, to be used in place of the server's.
      faults: what happens to calls, counted by call: a stream of requests, such as ``AppendRows``, is one.
    """

    address: str
    faults: RpcFaults


@contextmanager
def grpc_proxy(upstream: str, *methods: str) -> Iterator[GrpcProxy]:
    """A proxy of a server of gRPC.

    Args:
      upstream: ``127.0.0.1:PORT`` of the server.
      methods: that faults happen to at first, such as ``AppendRows``; the others are passed on.
    """
    faults = RpcFaults(methods=methods)
    port = free_port()
    server = grpc.server(futures.ThreadPoolExecutor(64, "grpc-proxy"), options=_UNLIMITED)
    with grpc.insecure_channel(upstream, options=_UNLIMITED) as channel:
        server.add_generic_rpc_handlers([_Handler(channel, faults)])
        server.add_insecure_port(f"{HOST}:{port}")
        server.start()
        try:
            yield GrpcProxy(f"{HOST}:{port}", faults)
        finally:
            server.stop(grace=None).wait()


class _Handler(grpc.GenericRpcHandler):
    """Passes calls of all methods on as streams of bytes, which one message each way is as well."""

    def __init__(self, channel: grpc.Channel, faults: RpcFaults) -> None:
        self._channel, self._faults, self._lock = channel, faults, threading.Lock()

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        method = str(details.method)

        def handle(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
            with self._lock:
                fault = self._faults.next(method.rsplit("/", 1)[1])
            if fault is RpcFault.HANG:
                gone = threading.Event()
                if context.add_callback(gone.set):
                    gone.wait()
                context.abort(grpc.StatusCode.CANCELLED, "the client left")
            if fault not in (RpcFault.NONE, RpcFault.UNAVAILABLE_AFTER):
                context.abort(grpc.StatusCode[fault.name], "injected fault")
            metadata = [
                (key, value)
                for key, value in context.invocation_metadata()
                if key != "user-agent" and not key.startswith("grpc-")
            ]
            call = self._channel.stream_stream(method)(requests, metadata=metadata)
            context.add_callback(call.cancel)
            try:
                for answer in call:
                    if fault is RpcFault.UNAVAILABLE_AFTER:
                        context.abort(grpc.StatusCode.UNAVAILABLE, "injected fault")
                    yield answer
            except grpc.RpcError as error:
                context.set_trailing_metadata(error.trailing_metadata() or ())
                context.abort(error.code(), error.details() or "")

        return grpc.stream_stream_rpc_method_handler(handle)
