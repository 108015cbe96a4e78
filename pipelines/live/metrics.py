"""Metrics of a live job for Prometheus."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from pipelines.live.status import Status

_STATES = ("Running", "Paused", "Error", "Pending")


class _Collector(Collector):
    def __init__(self, latest: Callable[[], Status]):
        self._latest = latest

    def collect(self) -> Iterator[Metric]:
        status = self._latest()
        for name, text, value in (
            ("received", "Items received from all subscriptions", status.received),
            ("dead_letters", "Items that are no records", status.dead_letters),
            ("duplicates", "Records that were there already", status.duplicates),
        ):
            yield CounterMetricFamily(f"data_streamer_{name}", text, value)
        for name, text, number in (
            ("journal_segments", "Entries of the journal that are not done", status.segments),
            ("journal_bytes", "Bytes of these entries, unpacked", status.segment_bytes),
            ("cells", "Cells with rows that are in no part yet", status.cells),
            ("ids", "Ids held, to know duplicates by", status.ids),
            ("lag_seconds", "From a message's publication until its records are kept", status.lag),
            ("source_failures", "Subscriptions that cannot be read at present", len(status.source)),
            ("updated_seconds", "When these were measured, seconds since 1970", status.updated),
        ):
            yield GaugeMetricFamily(f"data_streamer_{name}", text, number)
        yield from _streams(status)


def _streams(status: Status) -> Iterator[Metric]:
    delivered = CounterMetricFamily("data_streamer_delivered", "Records delivered", labels=["stream"])
    refused = CounterMetricFamily("data_streamer_refused", "Records that destinations refused", labels=["stream"])
    pending = GaugeMetricFamily("data_streamer_pending", "Records that wait", labels=["stream"])
    oldest = GaugeMetricFamily("data_streamer_oldest_seconds", "Age of the first record that waits", labels=["stream"])
    state = GaugeMetricFamily("data_streamer_state", "1 for the state of a stream", labels=["stream", "state"])
    for stream in status.streams:
        delivered.add_metric([stream.name], stream.delivered)
        refused.add_metric([stream.name], stream.dead_letters)
        pending.add_metric([stream.name], stream.pending)
        oldest.add_metric([stream.name], stream.oldest_seconds or 0.0)
        for name in _STATES:
            state.add_metric([stream.name, name], float(stream.state == name))
    yield from (delivered, refused, pending, oldest, state)


def serve_metrics(port: int, latest: Callable[[], Status]) -> tuple[WSGIServer, threading.Thread]:
    """Serves ``/metrics`` on all addresses of this machine.

    Args:
      port: the port.
      latest: gives how the job stands.

    Returns:
      the server, to be shut down, and its thread.

    Raises:
      OSError: the port is taken.
    """
    registry = CollectorRegistry()
    registry.register(_Collector(latest))
    return start_http_server(port, registry=registry)
