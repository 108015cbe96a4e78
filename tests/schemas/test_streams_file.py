"""The streams file: every mistake at once, each with its line and column."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Literal

import pytest

from schemas.destinations import DestinationOptions, SecretReference
from schemas.streams import Stream
from schemas.streams_file import StreamsFileError, parse_streams, read_streams_file


class Files(DestinationOptions):
    type: Literal["files"] = "files"
    path: str | None = None


class Webhook(DestinationOptions):
    type: Literal["webhook"] = "webhook"
    url: str
    key: SecretReference | None = None
    size: int = 3000


OPTIONS: dict[str, type[DestinationOptions]] = {"files": Files, "webhook": Webhook}
HEAD = "streams:\n  - name: a\n    content: events\n"
FILES = "    destination: {type: files}\n"


def parse(text: str, **environment: str) -> list[Stream]:
    return parse_streams(text, "streams.yaml", OPTIONS, environment=environment)


def mistakes(text: str, **environment: str) -> list[str]:
    with pytest.raises(StreamsFileError) as caught:
        parse(text, **environment)
    assert str(caught.value) == "\n".join(map(str, caught.value.mistakes))
    return str(caught.value).splitlines()


def test_the_example_of_the_issue() -> None:
    warnings, archive = parse("""\
streams:
  - name: warnings
    content: events
    filter: {any_of: [{min_severity: WARN}, {outcome: rejected}]}
    format: ndjson
    destination: {type: files}            # DIR/streams/warnings/...
  - name: archive
    content: usage
    format: csv
    shape: csv
    destination: {type: files, path: "gs://acme-iot/dt={date}/hh={hour}"}
""")
    assert [each.min_severity or each.outcome for each in warnings.filter.any_of] == [("WARN",), ("rejected",)]
    assert (warnings.format, warnings.shape, warnings.state) == ("ndjson", "table", "running")
    assert archive.filter.takes_all
    assert archive.destination == Files(path="gs://acme-iot/dt={date}/hh={hour}")


def test_every_mistake_at_once_in_the_order_of_the_file() -> None:
    text = """\
streams:
  - name: a
    content: events
    destination: {type: files, path: "x/${X}"}
  - name: a
    content: events
    filter: {min_severity: WARNIGN}
    destination: {type: fils}
    batch: {size: 0}
  - name: Upper
    content: usage
    shape: emnify
    format: csv
    filter: {alert: true, any_of: [{severty: WARN}]}
    destination:
      type: webhook
      ulr: 3
      key: hunter2
    foo: 1
  - nothing
"""
    found = mistakes(text)
    starts = [line.split(": ")[0] for line in found]
    assert starts == [
        "streams.yaml:4:41 streams[0].destination.path",
        "streams.yaml:5:11 streams[1].name",
        "streams.yaml:7:28 streams[1].filter.min_severity",
        "streams.yaml:8:25 streams[1].destination.type",
        "streams.yaml:9:19 streams[1].batch.size",
        "streams.yaml:10:11 streams[2].name",
        "streams.yaml:12:12 streams[2].shape",
        "streams.yaml:14:14 streams[2].filter.alert",
        "streams.yaml:14:37 streams[2].filter.any_of[0].severty",
        "streams.yaml:16:7 streams[2].destination.url",
        "streams.yaml:17:7 streams[2].destination.ulr",
        "streams.yaml:18:12 streams[2].destination.key",
        "streams.yaml:19:5 streams[2].foo",
        "streams.yaml:20:5 streams[3]",
    ]
    assert found[2].endswith("'WARNIGN' is none of INFO, WARN, CRITICAL (did you mean WARN?)")
    assert found[3].endswith("'fils' is none of files, webhook (did you mean files?)")
    assert "X of ${X} is not set" in found[0]
    assert "hunter2" not in "\n".join(found)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "streams.yaml:1:1: is empty"),
        ("# only a comment\n", "streams.yaml:1:1: is empty"),
        ("streams: []\nmore: 1\n", "streams.yaml:2:1 more: 'more' is not a key here"),
        ("streams: {}\n", "streams.yaml:1:10 streams: must be a list"),
        ("- name: a\n", "streams.yaml:1:1: must be a mapping of keys to values"),
        ("streams:\n  - [\n", "streams.yaml:3:1: not YAML: "),
        ("streams: \x07\n", "streams.yaml:1:10: not YAML: "),
        ("a: 1\n---\nb: 2\n", "streams.yaml:2:1: not YAML: "),
        ("[" * 5000, "streams.yaml:1:1: nested too deeply"),
        ("streams:\n  - &a [*a]\n", "streams.yaml:2:5 streams[0]"),
        (HEAD + FILES + "    name: b\n", "streams.yaml:5:5 streams[0].name: 'name' is given twice, first in line 2"),
        (HEAD, "streams.yaml:2:5 streams[0].destination: 'destination' is missing"),
        (HEAD + "    destination: {}\n", "streams.yaml:4:18 streams[0].destination.type: 'type' is missing"),
        (HEAD + "    destination: {type: webhook, url: x, size: y}\n", "streams.yaml:4:48 streams[0].destination.size"),
        (HEAD + FILES + "    title: 3\n", "streams.yaml:5:12 streams[0].title: must be a text"),
        (HEAD + FILES + "    state: stopped\n", "streams.yaml:5:12 streams[0].state: 'stopped' is none of running"),
        (HEAD + FILES + "    shape: emnify\n    format: avro\n",
         "streams.yaml:5:12 streams[0].shape: 'emnify' needs format ndjson or json, not avro"),
        (HEAD + FILES + "    filter:\n      - field: alert\n        value: maybe\n",
         "streams.yaml:7:16 streams[0].filter[0].value: 'maybe' is none of true, false"),
        (HEAD + FILES + "    title: >\n      text\n      ${NAME} ${\n",
         "streams.yaml:7:7 streams[0].title: the environment variable NAME of ${NAME} is not set"),
        ("streams:\n  - name: a\n    content: device_usage_hourly\n    shape: emnify\n" + FILES,
         "streams.yaml:4:12 streams[0].shape: 'emnify' is for events, usage; use table"),
        ("streams:\n  - name: a\n    content: dead_letters\n" + FILES,
         "streams.yaml:3:14 streams[0].content: 'dead_letters' is none of events, usage"),
    ],
)  # fmt: skip
def test_a_mistake_stands_at_its_place(text: str, expected: str) -> None:
    assert mistakes(text)[0].startswith(expected)


@pytest.mark.parametrize("name", ["", "A", "a b", "-a", "a-", "a/b", "..", "a" * 64, "7\n"])
def test_a_name_is_a_slug(name: str) -> None:
    (found,) = mistakes(f"streams:\n  - name: {name!r}\n    content: events\n{FILES}".replace("'7\\n'", '"7\\n"'))
    assert found.startswith("streams.yaml:2:11 streams[0].name: must be 1 to 63 lower-case letters")


def test_environment_variables_are_filled_in_and_never_shown() -> None:
    text = HEAD + '    destination: {type: files, path: "${ROOT}/x/$${literal}"}\n    state: ${STATE}\n'
    (stream,) = parse(text, ROOT="/data", STATE="paused")
    assert stream.destination == Files(path="/data/x/${literal}")
    assert stream.state == "paused"
    (found,) = mistakes(text, ROOT="/data", STATE="hunter2")
    assert found == "streams.yaml:5:12 streams[0].state: '${STATE}' is none of running, paused"


def test_an_environment_variable_may_have_something_to_take_instead() -> None:
    text = HEAD + "    destination: {type: files, path: '${ROOT:-/data/a b}/x'}\n    title: '${TITLE:-}'\n"
    (stream,) = parse(text)
    assert stream.destination == Files(path="/data/a b/x") and stream.title == ""
    (stream,) = parse(text, ROOT="/mnt", TITLE="t")
    assert stream.destination == Files(path="/mnt/x") and stream.title == "t"


@pytest.mark.parametrize("written", ["${", "${ROOT", "${a-b}", "${ROOT-x}", "${}", "${:-x}"])
def test_what_is_no_reference_is_told_with_the_environment_of_the_process(written: str) -> None:
    with pytest.raises(StreamsFileError, match="does not begin a reference"):
        parse_streams(HEAD + f"    title: '{written}'\n" + FILES, "streams.yaml", OPTIONS)


def test_yaml_words_that_look_like_something_else_stay_texts() -> None:
    text = HEAD + FILES + "    filter: {country: [NO, DE], endpoint: [0012, 1_2, 2024-01-01, 12]}\n"
    (stream,) = parse(text)
    assert stream.filter.country == ("NO", "DE")
    assert stream.filter.endpoint == ("0012", "1_2", "2024-01-01", 12)


def test_a_check_of_destinations_also_runs_beside_other_mistakes() -> None:
    text = HEAD + "    bad: 1\n" + FILES + "  - name: b\n    content: usage\n    destination: {type: files, path: p}\n"

    def check(streams: object) -> list[tuple[int, str, str]]:
        assert [stream.name for stream in streams] == ["b"]  # type: ignore[attr-defined]
        return [(0, "destination.path", "is taken"), (0, "batch", "is not for files")]

    with pytest.raises(StreamsFileError) as caught:
        parse_streams(text, "streams.yaml", OPTIONS, check=check, environment={})
    assert str(caught.value).splitlines()[1:] == [
        "streams.yaml:6:5 streams[1].batch: is not for files",
        "streams.yaml:8:38 streams[1].destination.path: is taken",
    ]


def test_streams_are_plain_data_without_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY", "hunter2")
    streams = parse(HEAD + "    destination: {type: webhook, url: 'https://x', key: {env: KEY}}\n", KEY="hunter2")
    assert pickle.loads(pickle.dumps(streams)) == streams
    assert type(streams[0]) is Stream
    assert streams[0].model_dump()["destination"]["url"] == "https://x"
    for rendering in (repr(streams), streams[0].model_dump_json(), str(pickle.dumps(streams))):
        assert "hunter2" not in rendering


def test_a_file_that_cannot_be_read_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(StreamsFileError, match=r"none\.yaml:1:1: cannot be read: No such file"):
        read_streams_file(str(tmp_path / "none.yaml"), OPTIONS)
    (tmp_path / "latin.yaml").write_bytes(HEAD.encode() + b"    title: \xe9\n")
    with pytest.raises(StreamsFileError, match="is not UTF-8"):
        read_streams_file(str(tmp_path / "latin.yaml"), OPTIONS)
    (tmp_path / "marked.yaml").write_text(HEAD + FILES, encoding="utf-8-sig")
    assert len(read_streams_file(str(tmp_path / "marked.yaml"), OPTIONS)) == 1


def test_fifty_streams_in_one_file() -> None:
    one = "  - {{name: s{0}, content: events, filter: {{event_type: {0}}}, destination: {{type: files}}}}\n"
    streams = parse("streams:\n" + "".join(one.format(number) for number in range(50)))
    assert [stream.filter.event_type for stream in streams] == [(number,) for number in range(50)]
