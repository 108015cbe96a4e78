"""Each server really answers its real client, fails as it is told to, and is gone when its test is."""

from __future__ import annotations

import dataclasses
import io
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from decimal import Decimal
from pathlib import Path
from typing import Any

import boto3
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import urllib3
from botocore.config import Config
from botocore.exceptions import BotoCoreError
from confluent_kafka import KafkaError, Producer
from google.api_core import exceptions
from google.cloud import bigquery, pubsub_v1, storage
from google.cloud.bigquery_storage_v1 import types
from google.cloud.pubsub_v1.types import PublisherOptions

from tests.servers.aws import aws_emulator
from tests.servers.bigquery import PROJECT, bigquery_emulator
from tests.servers.grpc_proxy import grpc_proxy
from tests.servers.http import Answer, Receiver, Request, always, counting_receiver, receiver
from tests.servers.kafka import Kafka, KafkaBroker, kafka_broker, kafka_mock
from tests.servers.processes import Process, Unavailable, accepts, free_port, made_once, wait_until
from tests.servers.proxy import Fault, TcpFault, http_proxy, tcp_proxy
from tests.servers.pubsub import PubSub, RpcFault, pubsub_emulator, pubsub_servicer
from tests.servers.storage import storage_emulator

ROOT = Path(__file__).resolve().parents[2]
SLEEP = [sys.executable, "-c", "import time; print('here', flush=True); time.sleep(600)"]


def lives(pid: int) -> bool:
    """Whether a process runs; one that ended and that nobody has waited for does not."""
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rsplit(")", 1)[1].split()[0] != "Z"


class TestProcesses:
    def test_a_server_ends_with_a_test_that_fails(self) -> None:
        with pytest.raises(AssertionError), Process("sleeper", SLEEP, lambda: True) as process:
            pid = process.pid
            assert lives(pid)
            raise AssertionError
        assert not lives(pid)

    @pytest.mark.skipif(sys.platform != "linux", reason="asks the kernel of Linux")
    def test_a_server_ends_with_a_run_that_is_killed(self) -> None:
        start = (
            "import time; from tests.servers.processes import Process, wait_until\n"
            f"with Process('sleeper', {SLEEP!r}, lambda: True) as process:\n"
            "    wait_until(lambda: 'here' in process.log(), 'it wrote')\n"
            "    print(process.pid, flush=True)\n"
            "    time.sleep(60)"
        )
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        with subprocess.Popen([sys.executable, "-c", start], stdout=subprocess.PIPE, env=environment) as run:
            assert run.stdout is not None
            pid = int(run.stdout.readline())
            assert lives(pid)
            run.send_signal(signal.SIGKILL)
        wait_until(lambda: not lives(pid), "the server ended", seconds=10)

    def test_a_server_that_does_not_start_says_why(self) -> None:
        command = [sys.executable, "-c", "import sys; sys.exit('port taken')"]
        with (
            pytest.raises(RuntimeError, match="(?s)broken ended with 1.*port taken"),
            Process("broken", command, lambda: False),
        ):
            pass

    def test_a_server_can_be_started_again(self) -> None:
        with Process("sleeper", SLEEP, lambda: True) as process:
            wait_until(lambda: "here" in process.log(), "the first one wrote", seconds=30)
            first = process.pid
            process.kill()
            assert not lives(first)
            process.start()
            wait_until(lambda: process.log().split() == ["here", "here"], "the second one wrote", seconds=30)
            assert process.pid != first


class TestMadeOnce:
    @pytest.fixture(autouse=True)
    def wanted(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        file = tmp_path / "wanted"
        file.write_text("version 1")
        return file

    def test_many_at_once_make_it_once(self, wanted: Path) -> None:
        made: list[Path] = []
        threads = [threading.Thread(target=made_once, args=("thing", wanted, made.append)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(made) == 1

    def test_another_wish_makes_another(self, wanted: Path) -> None:
        first = made_once("thing", wanted, lambda directory: None)
        wanted.write_text("version 2")
        assert made_once("thing", wanted, lambda directory: None) != first

    def test_what_broke_off_is_made_again(self, wanted: Path) -> None:
        def broken(directory: Path) -> None:
            (directory / "half").touch()
            raise KeyError("broke off")

        with pytest.raises(KeyError):
            made_once("thing", wanted, broken)
        assert list(made_once("thing", wanted, lambda directory: None).iterdir()) == []

    def test_what_cannot_be_had_is_tried_once(self, wanted: Path) -> None:
        tries: list[Path] = []

        def unavailable(directory: Path) -> None:
            tries.append(directory)
            raise Unavailable("no such program")

        for _ in range(2):
            with pytest.raises(Unavailable, match="no such program"):
                made_once("thing", wanted, unavailable)
        assert len(tries) == 1


@pytest.mark.parametrize(
    ("server", "said"), [(kafka_broker, "Kafka broker: java is not installed"), (pubsub_emulator, "Pub/Sub emulator: ")]
)
def test_what_is_missing_is_named(
    server: Callable[[], AbstractContextManager[object]], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(pytest.skip.Exception, match=said), server():
        pass


def test_cloud_storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with storage_emulator("acme-iot", tmp_path) as server:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.address)
        storage.Client.create_anonymous_client().bucket("acme-iot").blob("a/b c.txt").upload_from_string(b"content")
        assert server.objects() == {"a/b c.txt": b"content"}
        assert server.objects("b") == {}
        server.process.stop()
        server.process.start()
        assert server.objects("a/") == {"a/b c.txt": b"content"}


def test_s3_kinesis_and_sts(monkeypatch: pytest.MonkeyPatch) -> None:
    with aws_emulator() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        server.create_bucket("acme-iot")
        boto3.client("s3").put_object(Bucket="acme-iot", Key="a/b c.txt", Body=b"content")
        assert server.objects("acme-iot") == {"a/b c.txt": b"content"}
        server.create_stream("usage", shards=2)
        sent = [{"Data": b"%d" % number, "PartitionKey": str(number % 5)} for number in range(20)]
        boto3.client("kinesis").put_records(StreamName="usage", Records=sent)
        found = server.records("usage")
        assert sorted((one.key, int(one.data)) for one in found) == sorted((str(n % 5), n) for n in range(20))
        role = "arn:aws:iam::123456789012:role/partner"
        assumed = boto3.client("sts").assume_role(RoleArn=role, RoleSessionName="tests", ExternalId="acme")
        assert assumed["Credentials"]["SessionToken"]


@pytest.fixture(params=[pubsub_emulator, pubsub_servicer], ids=["emulator", "servicer"])
def pubsub(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[PubSub]:
    with request.param() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        yield server


def test_pubsub(pubsub: PubSub) -> None:
    topic = pubsub.create_topic("usage", "usage-pulled")
    client = pubsub_v1.PublisherClient(publisher_options=PublisherOptions(enable_message_ordering=True))
    sent = [client.publish(topic, b"%d" % n, ordering_key=f"device-{n % 2}", kind="usage") for n in range(10)]
    assert len({one.result(20) for one in sent}) == 10
    found = pubsub.pull_all("usage-pulled")
    for key in ("device-0", "device-1"):
        assert [int(one.data) % 10 for one in found if one.ordering_key == key] == list(range(int(key[-1]), 10, 2))
    assert {one.attributes["kind"] for one in found} == {"usage"}
    assert pubsub.pull_all("usage-pulled", quiet=0.2) == []
    client.stop()
    with pubsub.publisher() as publisher:
        for wrong, error in (
            ({"topic": topic + "-none", "messages": [{"data": b"x"}]}, exceptions.NotFound),
            ({"topic": topic, "messages": [{"data": b"x"}] * 1001}, exceptions.InvalidArgument),
            ({"topic": topic, "messages": [{"data": b""}]}, exceptions.InvalidArgument),
        ):
            with pytest.raises(error):
                publisher.publish(request=wrong, retry=None, timeout=10)


@pytest.mark.parametrize(
    ("fault", "error", "arrived"),
    [
        (RpcFault.UNAVAILABLE, exceptions.ServiceUnavailable, 0),
        (RpcFault.UNAVAILABLE_AFTER, exceptions.ServiceUnavailable, 1),
        (RpcFault.RESOURCE_EXHAUSTED, exceptions.ResourceExhausted, 0),
        (RpcFault.UNAUTHENTICATED, exceptions.Unauthenticated, 0),
        (RpcFault.PERMISSION_DENIED, exceptions.PermissionDenied, 0),
        (RpcFault.NOT_FOUND, exceptions.NotFound, 0),
        (RpcFault.HANG, exceptions.DeadlineExceeded, 0),
    ],
)
def test_faults_of_pubsub(fault: RpcFault, error: type[Exception], arrived: int) -> None:
    with pubsub_servicer() as server, server.publisher() as publisher:
        topic = server.create_topic("usage", "usage-pulled")
        one = {"topic": topic, "messages": [{"data": b"x"}]}
        server.faults.inject(fault, percent=50)
        publisher.publish(request=one, retry=None, timeout=10)
        with pytest.raises(error):
            publisher.publish(request=one, retry=None, timeout=0.5)
        server.faults.inject(RpcFault.NONE)
        assert len(server.pull_all("usage-pulled", quiet=0.2)) == 1 + arrived


def test_pubsub_delivers_again_what_was_not_acknowledged() -> None:
    with pubsub_servicer() as server, server.publisher() as publisher, server.subscriber() as subscriber:
        topic = server.create_topic("usage", "usage-pulled")
        publisher.publish(request={"topic": topic, "messages": [{"data": b"%d" % n} for n in range(3)]})
        path = f"projects/{PROJECT}/subscriptions/usage-pulled"
        first = subscriber.pull(request={"subscription": path, "max_messages": 2}).received_messages
        assert [int(one.data) for one in server.pull_all("usage-pulled", quiet=0.2)] == [2]
        ids = [one.ack_id for one in first]
        subscriber.modify_ack_deadline(request={"subscription": path, "ack_ids": ids, "ack_deadline_seconds": 0})
        assert [int(one.data) for one in server.pull_all("usage-pulled", quiet=0.2)] == [0, 1]


@pytest.mark.parametrize(
    ("fault", "error", "arrived"),
    [
        (RpcFault.UNAVAILABLE, exceptions.ServiceUnavailable, 0),
        (RpcFault.UNAVAILABLE_AFTER, exceptions.ServiceUnavailable, 1),
        (RpcFault.PERMISSION_DENIED, exceptions.PermissionDenied, 0),
        (RpcFault.HANG, exceptions.DeadlineExceeded, 0),
    ],
)
def test_a_proxy_of_grpc(fault: RpcFault, error: type[Exception], arrived: int) -> None:
    with pubsub_servicer() as server, grpc_proxy(server.address, "Publish") as proxy:
        through = dataclasses.replace(server, address=proxy.address)
        topic = through.create_topic("usage", "usage-pulled")
        one = {"topic": topic, "messages": [{"data": b"x"}]}
        proxy.faults.inject(fault, percent=50)
        with through.publisher() as publisher:
            publisher.publish(request=one, retry=None, timeout=10)
            with pytest.raises(error):
                publisher.publish(request=one, retry=None, timeout=0.5)
            proxy.faults.inject(RpcFault.NONE)
            with pytest.raises(exceptions.NotFound, match="Resource not found"):
                publisher.publish(request={**one, "topic": topic + "-none"}, retry=None, timeout=10)
        assert len(through.pull_all("usage-pulled", quiet=0.2)) == 1 + arrived


@pytest.mark.slow
def test_bigquery() -> None:
    with storage_emulator("acme-iot") as objects, bigquery_emulator(objects.environment) as server:
        server.create_dataset("iot")
        table = f"{PROJECT}.iot.usage"
        schema = [bigquery.SchemaField("device", "INT64"), bigquery.SchemaField("cost", "BIGNUMERIC")]
        client = server.client()
        client.create_table(bigquery.Table(table, schema))
        assert client.insert_rows_json(table, [{"device": 1, "cost": "0.1"}], row_ids=["one"]) == []

        file = io.BytesIO()
        pq.write_table(pa.table({"device": [2], "cost": pa.array(["0.2"]).cast(pa.decimal128(38, 18))}), file)
        objects.client().bucket("acme-iot").blob("usage.parquet").upload_from_string(file.getvalue())
        loading = bigquery.LoadJobConfig(source_format="PARQUET", write_disposition="WRITE_APPEND", schema=schema)
        client.load_table_from_uri("gs://acme-iot/usage.parquet", table, job_config=loading).result(timeout=60)

        rows = pa.record_batch({"device": [3], "cost": ["0.3"]})
        request = types.AppendRowsRequest(
            write_stream=f"projects/{PROJECT}/datasets/iot/tables/usage/streams/_default",
            arrow_rows=types.AppendRowsRequest.ArrowData(
                writer_schema=types.ArrowSchema(serialized_schema=rows.schema.serialize().to_pybytes()),
                rows=types.ArrowRecordBatch(serialized_record_batch=rows.serialize().to_pybytes()),
            ),
        )
        with grpc_proxy(server.write_address, "AppendRows") as proxy:
            proxy.faults.fault = RpcFault.UNAVAILABLE
            with dataclasses.replace(server, write_address=proxy.address).write_client() as writer:
                with pytest.raises(exceptions.ServiceUnavailable):
                    list(writer.append_rows(iter([request]), timeout=60, retry=None))
                proxy.faults.fault = RpcFault.NONE
                (answer,) = writer.append_rows(iter([request]), timeout=60)
        assert not answer.error.message

        wanted = [(1, Decimal("0.1")), (2, Decimal("0.2")), (3, Decimal("0.3"))]
        query = "SELECT device, cost FROM iot.usage ORDER BY device"
        assert server.rows(query) == wanted
        server.process.kill()
        server.process.start()
        assert server.rows(query) == wanted


def send(topic: str, settings: Mapping[str, object], records: int = 5, seconds: float = 30) -> list[KafkaError | None]:
    """The errors of the delivery reports of some records."""
    producer = Producer(
        {"enable.idempotence": True, "delivery.timeout.ms": int(seconds * 1000), "log_level": 0, **settings}
    )
    reported: list[KafkaError | None] = []
    for number in range(records):
        producer.produce(
            topic, b"%d" % number, key=b"device", headers={"kind": b"usage"}, callback=lambda e, _: reported.append(e)
        )
    assert producer.flush(seconds + 10) == 0
    return reported


def check_arrived(kafka: Kafka, topic: str, records: int) -> None:
    found = kafka.read_all(topic)
    assert [one.value for one in found] == [b"%d" % (number % 5) for number in range(records)]
    assert {(one.key, one.headers["kind"]) for one in found} == {(b"device", b"usage")}


def test_kafka_mock() -> None:
    with kafka_mock() as kafka:
        kafka.create_topic("usage", partitions=4)
        assert send("usage", {"bootstrap.servers": kafka.bootstrap}) == [None] * 5
        check_arrived(kafka, "usage", 5)


def secured(kafka: KafkaBroker, **changed: object) -> dict[str, object]:
    return {
        "bootstrap.servers": kafka.tls,
        "security.protocol": "SASL_SSL",
        "ssl.ca.location": str(kafka.certificates),
        "sasl.mechanism": "PLAIN",
        "sasl.username": kafka.user,
        "sasl.password": kafka.password,
        **changed,
    }


@pytest.mark.slow
def test_kafka_broker() -> None:
    with kafka_broker() as kafka:
        plain = {"bootstrap.servers": kafka.bootstrap}
        sasl = {"bootstrap.servers": kafka.sasl, "security.protocol": "SASL_PLAINTEXT"}
        kafka.create_topic("usage")
        for settings in (plain, secured(kafka, **sasl), secured(kafka)):
            assert send("usage", settings) == [None] * 5
        check_arrived(kafka, "usage", 15)

        for refused in ({"sasl.password": "wrong"}, {"ssl.ca.location": ""}):
            assert [error and error.code() for error in send("usage", secured(kafka, **refused), 1, 2)] == [
                KafkaError._MSG_TIMED_OUT
            ]
        kafka.create_topic("read-only")
        kafka.deny_writes("read-only")
        (error,) = send("read-only", secured(kafka), 1)
        assert error is not None
        assert error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED

        for fault in (TcpFault.REFUSE, TcpFault.HANG):
            kafka.inject(fault)
            assert [error and error.code() for error in send("usage", plain, 1, 2)] == [KafkaError._MSG_TIMED_OUT]
            check_arrived(kafka, "usage", 15)
        kafka.inject(TcpFault.NONE)
        kafka.process.kill()
        kafka.process.start()
        assert send("usage", plain) == [None] * 5
        check_arrived(kafka, "usage", 20)


def post(url: str, body: bytes = b"{}", **settings: Any) -> urllib3.BaseHTTPResponse:
    """One attempt on a connection of its own."""
    with urllib3.PoolManager(**settings) as client:
        return client.request("POST", url, body=body, headers={"X-Kind": "usage"}, timeout=2, retries=False)


class TestReceiver:
    def test_what_arrives(self) -> None:
        with receiver() as server:
            assert post(f"{server.address}/a%2Fb?c=d", b"x" * 3_000_000).status == 200
            (request,) = server.accepted()
        assert (request.method, request.path, request.headers["x-kind"]) == ("POST", "/a%2Fb?c=d", "usage")
        assert request.body == b"x" * 3_000_000

    def test_a_script_decides(self) -> None:
        def script(number: int, request: Request) -> Answer:
            return Answer(429, b"slow down", {"Retry-After": "7"}) if number % 2 else Answer(body=request.body)

        with receiver(script) as server:
            first, second = post(server.address), post(server.address, b"mine")
        assert (first.status, first.headers["Retry-After"], first.data) == (429, "7", b"slow down")
        assert (second.status, second.data) == (200, b"mine")
        assert [one.body for one in server.accepted()] == [b"mine"]

    @pytest.mark.parametrize(
        ("answer", "error"),
        [
            (Answer(hang=True), urllib3.exceptions.ReadTimeoutError),
            (Answer(after=5), urllib3.exceptions.ReadTimeoutError),
            (Answer(cut=True), urllib3.exceptions.ProtocolError),
            (Answer(body=b"half of it", cut=True), urllib3.exceptions.ProtocolError),
        ],
    )
    def test_a_receiver_that_fails(self, answer: Answer, error: type[Exception]) -> None:
        with receiver(always(answer)) as server:
            with pytest.raises(error):
                post(server.address)
            assert (len(server.requests), server.accepted()) == (1, [])
            server.script = always(Answer(204))
            assert post(server.address).status == 204

    def test_tls_with_an_authority_of_the_test(self, tmp_path: Path) -> None:
        with receiver(directory=tmp_path) as server:
            assert post(server.address, ca_certs=str(server.certificates)).status == 200
            with pytest.raises(urllib3.exceptions.SSLError):
                post(server.address)

    def test_a_receiver_in_a_process_of_its_own_counts(self) -> None:
        with counting_receiver() as server:
            for _ in range(3):
                assert post(server.address).status == 200
            assert server.requests() == 3


class TestHttpProxy:
    @pytest.fixture
    def server(self) -> Iterator[Receiver]:
        with receiver(always(Answer(201, b"the answer", {"X-Server": "yes"}))) as server:
            yield server

    @pytest.mark.parametrize(
        ("fault", "status"),
        [
            (Fault.ERROR, 500),
            (Fault.UNAVAILABLE, 503),
            (Fault.THROTTLED, 429),
            (Fault.UNAUTHORISED, 401),
            (Fault.FORBIDDEN, 403),
            (Fault.NOT_FOUND, 404),
        ],
    )
    def test_answers_in_place_of_the_server(self, server: Receiver, fault: Fault, status: int) -> None:
        with http_proxy(server.address) as proxy:
            proxy.fault = fault
            answer = post(proxy.address)
        assert (answer.status, len(server.requests)) == (status, 0)
        assert ("Retry-After" in answer.headers) == (status == 429)

    @pytest.mark.parametrize(
        ("fault", "error", "arrived"),
        [
            (Fault.HANG, urllib3.exceptions.ReadTimeoutError, 0),
            (Fault.CUT_BEFORE, urllib3.exceptions.ProtocolError, 0),
            (Fault.CUT_AFTER, urllib3.exceptions.ProtocolError, 1),
        ],
    )
    def test_gives_no_answer(self, server: Receiver, fault: Fault, error: type[Exception], arrived: int) -> None:
        with http_proxy(server.address) as proxy:
            proxy.fault = fault
            with pytest.raises(error):
                post(proxy.address)
            assert len(server.requests) == arrived
            proxy.fault = Fault.NONE
            answer = post(f"{proxy.address}/a%2Fb?c=d")
        assert (answer.status, answer.data, answer.headers["X-Server"]) == (201, b"the answer", "yes")
        assert server.requests[-1].path == "/a%2Fb?c=d"

    def test_a_share_of_the_requests_that_are_chosen(self, server: Receiver) -> None:
        with http_proxy(server.address) as proxy:
            proxy.inject(Fault.ERROR, percent=10, only=lambda method, path: path == "/written")
            statuses = [post(f"{proxy.address}/written").status for _ in range(20)]
            assert post(f"{proxy.address}/read").status == 201
        assert statuses == ([201] * 9 + [500]) * 2
        assert (proxy.requests, proxy.faults) == (21, 2)

    def test_a_server_that_is_down(self) -> None:
        with http_proxy(f"http://127.0.0.1:{free_port()}") as proxy:
            assert post(proxy.address).status == 502

    def test_clients_of_object_stores_and_streams_work_through_it(self) -> None:
        with storage_emulator("acme-iot") as server, http_proxy(server.address) as proxy:
            through = dataclasses.replace(server, address=proxy.address)
            blob = through.client().bucket("acme-iot").blob("a/b c", chunk_size=1 << 18)
            with blob.open("wb") as file:
                file.write(b"x" * 600_000)
            assert through.objects() == {"a/b c": b"x" * 600_000}
            assert proxy.requests > 4, "the upload's parts went past the proxy"
        with aws_emulator() as aws, http_proxy(aws.address) as proxy:
            aws.create_bucket("acme-iot")
            aws.create_stream("usage")
            once = Config(retries={"total_max_attempts": 1})
            session = boto3.Session("test", "test", region_name="eu-central-1")
            s3 = session.client("s3", endpoint_url=proxy.address, config=once)
            s3.put_object(Bucket="acme-iot", Key="a/b c", Body=b"x" * 600_000)
            assert aws.objects("acme-iot") == {"a/b c": b"x" * 600_000}
            kinesis = session.client("kinesis", endpoint_url=proxy.address, config=once)
            proxy.fault = Fault.CUT_AFTER
            # botocore does not notice that half of the answer is missing: it has the status, and no fields.
            answer = kinesis.put_record(StreamName="usage", Data=b"x", PartitionKey="device")
            assert "ShardId" not in answer
            proxy.fault = Fault.CUT_BEFORE
            with pytest.raises(BotoCoreError):
                kinesis.put_record(StreamName="usage", Data=b"x", PartitionKey="device")
            assert [one.data for one in aws.records("usage")] == [b"x"]


class TestTcpProxy:
    def test_faults(self) -> None:
        with receiver() as server, tcp_proxy(int(server.address.rsplit(":", 1)[1])) as proxy:
            url = f"http://{proxy.address}"
            assert post(url).status == 200
            for fault, error in (
                (TcpFault.REFUSE, urllib3.exceptions.NewConnectionError),
                (TcpFault.HANG, urllib3.exceptions.ReadTimeoutError),
                (TcpFault.CUT, urllib3.exceptions.ProtocolError),
            ):
                proxy.fault = fault
                with pytest.raises(error):
                    post(url)
                assert len(server.requests) == 1
            proxy.fault = TcpFault.NONE
            assert post(url).status == 200

    def test_open_connections_meet_a_fault_too(self) -> None:
        with receiver() as server, tcp_proxy(int(server.address.rsplit(":", 1)[1])) as proxy:
            pool = urllib3.HTTPConnectionPool("127.0.0.1", proxy.port, maxsize=1, timeout=1, retries=False)
            assert pool.request("GET", "/").status == 200
            proxy.fault = TcpFault.HANG
            with pytest.raises(urllib3.exceptions.ReadTimeoutError):
                pool.request("GET", "/")
            proxy.fault = TcpFault.NONE
            assert pool.request("GET", "/").status == 200
            before = proxy.connections
            proxy.cut()
            assert pool.request("GET", "/").status == 200
            assert proxy.connections == before + 1

    def test_keeps_its_port_while_it_refuses(self) -> None:
        with tcp_proxy(free_port()) as proxy:
            proxy.fault = TcpFault.REFUSE
            assert not accepts(proxy.port)
            proxy.fault = TcpFault.NONE
            assert accepts(proxy.port)
