"""Kafka: a broker of its own from Maven Central, or the cluster that librdkafka mocks.

The broker also stands for Azure Event Hubs, whose endpoint speaks Kafka over TLS, with SASL PLAIN, the user
``$ConnectionString`` and the connection string as the password.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trustme
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    NewTopic,
    ResourcePatternType,
    ResourceType,
)
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from tests.servers.processes import HOST, JAVA_OPTIONS, Process, Unavailable, accepts, free_port, made_once, run
from tests.servers.proxy import TcpFault, TcpProxy, tcp_proxy

_JARS = Path(__file__).with_name("kafka-broker.xml")
_COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies"

EVENT_HUBS_USER = "$ConnectionString"


@dataclass(frozen=True)
class Message:
    """A record as a consumer got it."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes
    headers: dict[str, bytes]


@dataclass(frozen=True)
class Kafka:
    """A running cluster of one broker.

    Attributes:
      bootstrap: servers of a client without TLS and credentials.
      direct: the same for the test itself, past the proxy that can fail.
    """

    bootstrap: str
    direct: str

    def create_topic(self, topic: str, partitions: int = 2) -> None:
        """A topic, once it is there."""
        admin = AdminClient({"bootstrap.servers": self.direct})
        admin.create_topics([NewTopic(topic, partitions, 1)])[topic].result(30)

    def read_all(self, topic: str) -> list[Message]:
        """All committed records of a topic, each partition in its order; the mock cluster shows aborted ones too."""
        consumer = Consumer(
            {
                "bootstrap.servers": self.direct,
                "group.id": "tests",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "isolation.level": "read_committed",
            }
        )
        try:
            unread = set(consumer.list_topics(topic, timeout=30).topics[topic].partitions)
            consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in unread])
            found: list[Message] = []
            deadline = time.monotonic() + 60
            while unread:
                if time.monotonic() > deadline:
                    raise TimeoutError(f"{topic}: the end of partitions {sorted(unread)} did not come within 60 s")
                for record in consumer.consume(1000, 0.2):
                    error = record.error()
                    if error is None:
                        found.append(_message(record))
                    elif error.code() == KafkaError._PARTITION_EOF:
                        unread.discard(record.partition())
                    else:
                        raise KafkaException(error)
        finally:
            consumer.close()
        return sorted(found, key=lambda one: (one.partition, one.offset))


def _message(record: Any) -> Message:
    headers = dict(record.headers() or [])
    return Message(record.partition(), record.offset(), record.key(), record.value(), headers)


@dataclass(frozen=True)
class KafkaBroker(Kafka):
    """A real broker.

    Attributes:
      sasl: servers of a client with SASL PLAIN without TLS.
      tls: servers of a client with SASL PLAIN over TLS.
      user: of SASL PLAIN.
      password: of SASL PLAIN.
      certificates: file with the authority that a client of ``tls`` must trust.
      process: it keeps its records when it is stopped or killed, and started again.
    """

    sasl: str
    tls: str
    user: str
    password: str
    certificates: Path
    process: Process
    proxies: tuple[TcpProxy, ...]

    def inject(self, fault: TcpFault) -> None:
        """Let all but the test itself meet a fault on their way to the broker."""
        for proxy in self.proxies:
            proxy.fault = fault

    def deny_writes(self, topic: str) -> None:
        """Refuse what the user of SASL PLAIN sends to a topic, which it goes on to see: a read-only target."""
        admin = AdminClient({"bootstrap.servers": self.direct})
        user = f"User:{self.user}"
        rules = [
            AclBinding(ResourceType.TOPIC, topic, ResourcePatternType.LITERAL, user, "*", operation, permission)
            for operation, permission in (
                (AclOperation.WRITE, AclPermissionType.DENY),
                (AclOperation.DESCRIBE, AclPermissionType.ALLOW),
            )
        ]
        for done in admin.create_acls(rules).values():
            done.result(30)


@contextmanager
def kafka_broker(
    user: str = EVENT_HUBS_USER, password: str = "Endpoint=sb://acme/;Key=secret="
) -> Iterator[KafkaBroker]:
    """A broker of Kafka 4.1 that creates no topics by itself.

    Its jars (43 MB) are fetched once per machine by Maven. Skips the test where Java or Maven are not installed, or
    the jars cannot be fetched.
    """
    try:
        installed = made_once("kafka", _JARS, _install)
    except Unavailable as error:
        pytest.skip(f"Kafka broker: {error}")
    direct, plain, sasl, tls, controller = (free_port() for _ in range(5))
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kafka-")))
        proxies = tuple(stack.enter_context(tcp_proxy(port)) for port in (plain, sasl, tls))
        authority = trustme.CA()
        certificates = directory / "authority.pem"
        authority.cert_pem.write_to_path(str(certificates))
        data = shutil.copytree(installed / "formatted", directory / "data")
        properties = directory / "server.properties"
        properties.write_text(
            _properties(
                data, direct, controller, tuple(zip((plain, sasl, tls), (p.port for p in proxies), strict=True))
            )
            + _credentials(user, password, authority)
        )
        quiet = "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"
        command = ["java", *JAVA_OPTIONS, quiet, "-cp", f"{installed}/jars/*", "kafka.Kafka", str(properties)]
        process = stack.enter_context(Process("Kafka broker", command, lambda: _serves(f"{HOST}:{direct}")))
        addresses = [proxy.address for proxy in proxies]
        yield KafkaBroker(
            addresses[0], f"{HOST}:{direct}", addresses[1], addresses[2], user, password, certificates, process, proxies
        )


def _serves(bootstrap: str) -> bool:
    if not accepts(int(bootstrap.rsplit(":", 1)[1])):
        return False
    try:
        return bool(AdminClient({"bootstrap.servers": bootstrap, "log_level": 0}).list_topics(timeout=5).brokers)
    except KafkaException:
        return False


_LISTENERS = ("PLAINTEXT", "SASL_PLAINTEXT", "SASL_SSL")


def _properties(data: Path, direct: int, controller: int, clients: tuple[tuple[int, int], ...]) -> str:
    """Of a broker that is its own controller; each listener of clients advertises the proxy before it."""
    listeners = [f"DIRECT://{HOST}:{direct}", f"CONTROLLER://{HOST}:{controller}"]
    listeners += [f"{name}://{HOST}:{port}" for name, (port, _) in zip(_LISTENERS, clients, strict=True)]
    advertised = [f"DIRECT://{HOST}:{direct}"]
    advertised += [f"{name}://{HOST}:{proxy}" for name, (_, proxy) in zip(_LISTENERS, clients, strict=True)]
    protocols = ["DIRECT:PLAINTEXT", "CONTROLLER:PLAINTEXT", *(f"{name}:{name}" for name in _LISTENERS)]
    return f"""
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@{HOST}:{controller}
listeners={",".join(listeners)}
advertised.listeners={",".join(advertised)}
listener.security.protocol.map={",".join(protocols)}
inter.broker.listener.name=DIRECT
controller.listener.names=CONTROLLER
log.dirs={data}
broker.heartbeat.interval.ms=300
broker.session.timeout.ms=1500
auto.create.topics.enable=false
offsets.topic.num.partitions=1
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS
allow.everyone.if.no.acl.found=true
"""


def _credentials(user: str, password: str, authority: trustme.CA) -> str:
    """Properties of the listeners that ask for a password, and of the one with TLS."""
    server = authority.issue_cert("localhost", HOST)
    key = load_pem_private_key(server.private_key_pem.bytes(), None)
    # Kafka reads keys as PKCS #8 only.
    key_pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    chain = "".join(blob.bytes().decode() for blob in server.cert_chain_pems)
    login = f'org.apache.kafka.common.security.plain.PlainLoginModule required user_{user}="{password}";'
    return (
        "".join(
            f"""
listener.name.{name}.sasl.enabled.mechanisms=PLAIN
listener.name.{name}.plain.sasl.jaas.config={login}
"""
            for name in ("sasl_plaintext", "sasl_ssl")
        )
        + f"""
ssl.keystore.type=PEM
ssl.keystore.certificate.chain={_one_line(chain)}
ssl.keystore.key={_one_line(key_pem)}
"""
    )


def _one_line(text: str) -> str:
    """As a value of a properties file."""
    return text.strip().replace("\n", "\\n")


def _install(directory: Path) -> None:
    """The jars, and a data directory as a new broker needs it."""
    for program in ("java", "mvn"):
        if shutil.which(program) is None:
            raise Unavailable(f"{program} is not installed; it takes Java 17 and Maven")
    jars = directory / "jars"
    run(
        ["mvn", "--batch-mode", "--quiet", "--file", _JARS, _COPY, f"-DoutputDirectory={jars}"],
        "fetching the jars of Kafka",
        timeout=600,
    )
    properties = directory / "format.properties"
    properties.write_text(_properties(directory / "formatted", 9092, 9093, ((9094, 9094), (9095, 9095), (9096, 9096))))
    command = ["java", *JAVA_OPTIONS, "-cp", f"{jars}/*", "kafka.tools.StorageTool"]
    run(
        [*command, "format", "--cluster-id", "AAAAAAAAAAAAAAAAAAAAAA", "--config", properties],
        "formatting the data directory of Kafka",
    )


@contextmanager
def kafka_mock() -> Iterator[Kafka]:
    """The cluster that librdkafka mocks, within this process: no credentials, no TLS, no restart."""
    # The cluster lives as long as the client that it is configured for.
    owner = Producer({"bootstrap.servers": "", "test.mock.num.brokers": 1})
    (broker,) = owner.list_topics(timeout=30).brokers.values()
    address = f"{broker.host}:{broker.port}"
    yield KafkaMock(address, address)
    owner.flush(1)


class KafkaMock(Kafka):
    def create_topic(self, topic: str, partitions: int = 4) -> None:
        """A topic of four partitions: the mock makes one, always of four, when somebody asks for it."""
        assert partitions == 4, "topics of librdkafka's mock cluster have four partitions"
        AdminClient({"bootstrap.servers": self.direct}).list_topics(topic, timeout=30)
