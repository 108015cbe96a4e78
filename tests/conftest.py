"""What holds for all tests: time does not decide over a property, since machines differ and are shared; and what runs
whole jobs or starts servers of others is slow."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("quick", settings.get_profile("patient"), max_examples=20)
settings.load_profile("patient")

_TESTS = Path(__file__).parent
_SLOW = [
    "benchmarks", "destinations", "end_to_end", "servers", "pipelines/commands/test_command_line.py",
    "pipelines/commands/test_streams_commands.py", "pipelines/commands/test_try_out.py",
    "pipelines/test_extras.py", "transforms/deliver/push/test_http_client.py",
    "transforms/deliver/test_archive.py", "transforms/deliver/test_bigquery.py",
    "transforms/deliver/test_bigquery_writing.py", "transforms/deliver/test_courier.py",
    "transforms/deliver/test_eventhubs.py", "transforms/deliver/test_kafka.py",
    "transforms/deliver/test_kinesis.py", "transforms/deliver/test_pubsub.py",
    "transforms/read/test_subscriber.py", "transforms/test_read_subscriptions.py", "warehouse/test_audit.py",
    "warehouse/test_report.py",
]  # fmt: skip
"""Left out of `make test-fast`, but for the samples, which go through the whole job."""

_FAST = _TESTS / "end_to_end" / "test_samples.py"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks what is slow by where it lies."""
    slow = [_TESTS / place for place in _SLOW]
    for item in items:
        if item.path != _FAST and any(item.path.is_relative_to(place) for place in slow):
            item.add_marker(pytest.mark.slow)
