"""Bench of ``kafka``: a broker with TLS and passwords behind proxies that make faults."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, ClassVar
from unittest.mock import patch

from confluent_kafka.admin import (
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

from tests.destinations.bench import Bench, Received
from tests.servers.kafka import KafkaBroker, kafka_broker
from tests.servers.proxy import Fault, TcpFault

_OF_CONNECTIONS = {Fault.HANG: TcpFault.HANG, Fault.CUT_BEFORE: TcpFault.CUT, Fault.UNAVAILABLE: TcpFault.REFUSE}
_PERIOD = 4.0
"""Seconds from one fault to the next, where it does not last."""
_CUTS = 1.5
"""Seconds from one cut of all connections to the next."""


class KafkaBench(Bench):
    """Topics of two partitions. A receiver drops repeats by ``record_id``, which is each record's delivery id."""

    type: ClassVar[str] = "kafka"
    faults: ClassVar[frozenset[Fault]] = frozenset(
        {*_OF_CONNECTIONS, Fault.CUT_AFTER, Fault.UNAUTHORISED, Fault.FORBIDDEN}
    )
    no_fault: ClassVar[str] = "brokers have no such answer"
    user: ClassVar[str] = "streamer"
    password: ClassVar[str] = "correct-horse-battery-staple"
    wrong_password: ClassVar[str] = "incorrect-horse"
    secret: ClassVar[str] = "KAFKA_PASSWORD"

    def __enter__(self) -> KafkaBench:
        self._opened = kafka_broker(self.user, self.password)
        self.broker: KafkaBroker = self._opened.__enter__()
        self.environment = {self.secret: self.password}
        self._made: set[str] = set()
        return self

    def __exit__(self, *raised: Any) -> None:
        self._opened.__exit__(*raised)

    def topic(self, stream: str, content: str) -> str:
        """The topic of a stream, which is made when it is first asked for."""
        name = f"{stream}-{content}"
        if name not in self._made:
            self.broker.create_topic(name)
            self._made.add(name)
        return name

    def options(self, stream: str, content: str = "events") -> dict[str, Any]:
        return {
            "type": "kafka",
            "bootstrap_servers": self.broker.tls,
            "topic": self.topic(stream, content),
            "username": self.user,
            "password": {"env": self.secret},
            "certificates": str(self.broker.certificates),
            "timeout": 5,
        }

    def received(self, stream: str, content: str = "events") -> list[Received]:
        found = []
        for message in self.broker.read_all(self.topic(stream, content)):
            values = json.loads(message.value)
            number = int(next(values[name] for name in ("event_id", "usage_id", "id") if name in values))
            key = None if message.key is None else message.key.decode()
            found.append(Received(number, values, message.headers["record_id"].decode(), key))
        return found

    @contextmanager
    def fault(self, fault: Fault, percent: float = 100.0) -> Iterator[None]:
        """`percent` is the share of the time, since what goes over a connection are no single requests. CUT_AFTER cuts
        the connections every 1.5 s, whatever is under way.
        """
        with ExitStack() as stack:
            if fault is Fault.UNAUTHORISED:
                stack.enter_context(patch.dict(os.environ, {self.secret: self.wrong_password}))
            elif fault is Fault.FORBIDDEN:
                stack.callback(self._allow_writes)
                self.broker.deny_writes("*")
            else:
                stack.callback(self.broker.inject, TcpFault.NONE)
                stack.enter_context(self._disturbed(fault, percent / 100))
            yield

    @contextmanager
    def _disturbed(self, fault: Fault, share: float) -> Iterator[None]:
        over = threading.Event()
        if fault is Fault.CUT_AFTER:
            disturbing = threading.Thread(target=self._cut, args=(over,))
        else:
            self.broker.inject(_OF_CONNECTIONS[fault])
            disturbing = threading.Thread(target=self._disturb, args=(_OF_CONNECTIONS[fault], share, over))
        disturbing.start()
        try:
            yield
        finally:
            over.set()
            disturbing.join()

    def _cut(self, over: threading.Event) -> None:
        while not over.wait(_CUTS):
            for proxy in self.broker.proxies:
                proxy.cut()

    def _disturb(self, fault: TcpFault, share: float, over: threading.Event) -> None:
        """From the second period on: the first fault is there when this begins."""
        while share < 1 and not over.wait(_PERIOD * share):
            self.broker.inject(TcpFault.NONE)
            if over.wait(_PERIOD * (1 - share)):
                return
            self.broker.inject(fault)

    def _allow_writes(self) -> None:
        rules = AclBindingFilter(
            ResourceType.TOPIC, "*", ResourcePatternType.LITERAL, None, None, AclOperation.ANY, AclPermissionType.ANY
        )
        admin = AdminClient({"bootstrap.servers": self.broker.direct})
        for done in admin.delete_acls([rules]).values():
            done.result(30)
