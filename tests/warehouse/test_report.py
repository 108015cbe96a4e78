from __future__ import annotations

import base64
import hashlib
import html
import html.parser
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from schemas.tables import TABLES
from tests.warehouse.synthetic_output import HOSTILE, write_run_file
from warehouse.layout import WarehouseError, part_files
from warehouse.report import write_report


class Page(html.parser.HTMLParser):
    """Elements of a page: scripts with their text, and the text that a reader sees."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.visible: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self._inside: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag in ("script", "style"):
            self._inside.append(tag)
            if tag == "script":
                self.scripts.append((dict(attrs), ""))

    def handle_endtag(self, tag: str) -> None:
        if tag in ("script", "style"):
            self._inside.pop()

    def handle_data(self, data: str) -> None:
        if not self._inside:
            self.visible.append(data)
        elif self._inside[-1] == "script":
            attributes, text = self.scripts[-1]
            self.scripts[-1] = (attributes, text + data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.visible).split())

    @property
    def figures(self) -> dict[str, Any]:
        return {
            str(attributes["id"]): json.loads(text)
            for attributes, text in self.scripts
            if attributes.get("type") == "application/json"
        }

    @property
    def programs(self) -> list[str]:
        return [text for attributes, text in self.scripts if "type" not in attributes]


def read(output: Path) -> Page:
    return Page(write_report(output).read_text(encoding="utf-8"))


def test_the_report_says_what_there_is(output: Path) -> None:
    write_run_file(output)
    text = read(output).text
    assert "Balanced lost 0 of 23 received 0 of 1 streams in error 0 pending" in text
    assert "2026-10-28 10:01 – 2026-10-28 12:01 UTC" in text
    for expected in (
        "2 devices, 1 organisation", "10.25 MB data, 1 SMS", "0.0700 EUR billed in EUR", "0.3300 USD billed in USD",
        "57.1 % of 7 attempts rejected", "4 alerts", "Warnings warnings events → files running 7 0 5 0",
        "quota threshold", "not json malformed, events expected JSON 1", "4711 Brand new 1",
        "Location update rejected, oddly. Update location, connectivity 1",
    ):  # fmt: skip
        assert expected in text, expected
    assert list(read(output).figures) == [
        "figure-severities", "figure-categories", "figure-reasons", "figure-usage", "figure-countries",
    ]  # fmt: skip


def test_a_stream_in_error_shows_error_and_remedy(output: Path) -> None:
    write_run_file(output, state="error", error="bucket <b> refused", remedy="grant access")
    page = read(output)
    assert "1 of 1 streams in error" in page.text
    assert "bucket <b> refused grant access error" in page.text


def test_streams_of_earlier_runs_are_shown_without_a_run_file(output: Path) -> None:
    assert "warnings earlier run 7 0 5 0" in read(output).text


def test_what_is_lost_is_said(output: Path) -> None:
    part = part_files(output, "ledger")[0]
    rows = pq.read_table(part, partitioning=None).to_pylist()
    rows[0]["received"] += 2
    pq.write_table(pa.Table.from_pylist(rows, schema=TABLES["ledger"].schema), part)
    text = read(output).text
    assert "Not balanced lost 2 of 25 received" in text
    assert "feed: received = empty + dead_lettered + decoded" in text


def test_an_output_without_records(empty_output: Path) -> None:
    page = read(empty_output)
    assert "no records Balanced lost 0 of 2 received 0 of 0 streams in error" in page.text
    assert page.figures == {}
    assert page.programs == [], "no chart, no chart library"


def test_hostile_names_are_text(hostile_output: Path) -> None:
    page = read(hostile_output)
    assert len(page.programs) == 2, "the chart library and the page's own program"
    assert HOSTILE in page.text
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]


def test_labels_of_charts_are_never_markup(hostile_output: Path) -> None:
    part = next(path for path in part_files(hostile_output, "device_usage_hourly") if "hh=10" in str(path))
    rows = pq.read_table(part, partitioning=None).to_pylist()
    for row in rows:
        row["country"] = "<b>&x"
    pq.write_table(pa.Table.from_pylist(rows, schema=TABLES["device_usage_hourly"].schema), part)
    labels = json.dumps(read(hostile_output).figures["figure-countries"]["data"])
    assert "&lt;b&gt;&amp;x" in labels
    assert "<b>" not in labels


def test_only_the_two_scripts_can_run_and_nothing_is_loaded(output: Path) -> None:
    text = write_report(output).read_text(encoding="utf-8")
    page = Page(text)
    policy = next(value for tag, _, value in page.attributes if tag == "meta" and value.startswith("default-src"))
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    hashes = set(re.findall(r"'sha256-([^']+)'", policy))
    assert hashes == {base64.b64encode(hashlib.sha256(code.encode()).digest()).decode() for code in page.programs}
    assert not [value for _, name, value in page.attributes if name in ("src", "href")]
    assert text.count("plotly.js v") == 1, "the library is inside once"


def test_no_personal_data(output: Path) -> None:
    part = next(path for path in part_files(output, "events") if "hh=12" in str(path))
    rows = pq.read_table(part, partitioning=None).to_pylist()
    rows[0]["description"] = "Refused for 'Jane Doe', IMSI 901430000000001, ask joe@example.org"
    login = {**rows[0], "event_id": 99, "event_type_id": 6, "category": "platform_authentication", "outcome": "failed",
             "description": "Login of jane refused"}  # fmt: skip
    pq.write_table(pa.Table.from_pylist([*rows, login], schema=TABLES["events"].schema), part)
    text = read(output).text
    assert "Refused for '…', IMSI #, ask …" in text
    assert "(text of a login: not shown)" in text
    for secret in ("jane", "Jane", "Doe", "joe@", "901430000000001"):
        assert secret not in text, secret


def rename_devices(output: Path, name: str) -> None:
    for table in ("device_usage_hourly", "events"):
        for part in part_files(output, table):
            rows = pq.read_table(part, partitioning=None).to_pylist()
            named = [{**row, "endpoint_name": name if row["endpoint_name"] else None} for row in rows]
            pq.write_table(pa.Table.from_pylist(named, schema=TABLES[table].schema), part)


def mask_report(output: Path, *mask: dict[str, Any]) -> None:
    (output / "warehouse" / "_report.json").write_text(json.dumps({"mask": mask}))


def test_a_mask_hides_names_and_ids(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rename_devices(output, "joe@example.org")
    shown = read(output).text
    hidden = ("joe@example.org", "1001", "1002", "Acme")
    assert all(value in shown for value in hidden), "the report shows these without a mask"
    monkeypatch.setenv("MASK_KEY", "0123456789abcdef")
    mask_report(
        output,
        {"fields": ["endpoint_id"], "action": "pseudonymise", "key": {"env": "MASK_KEY"}},
        {"fields": ["device_names", "organisations"], "action": "drop"},
    )
    text = write_report(output).read_text(encoding="utf-8")
    for value in hidden:
        assert value not in Page(text).text, value
    assert "joe@example.org" not in text
    assert Page(text).text.count("meter") == 0


def test_a_mask_of_people_finds_e_mails_in_names(output: Path) -> None:
    rename_devices(output, "meter of joe@example.org")
    mask_report(output, {"fields": ["people"], "action": "drop"})
    text = read(output).text
    assert "meter of ***" in text
    assert "joe@" not in text


def test_a_mask_without_its_key_writes_no_report(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MASK_KEY", raising=False)
    mask_report(output, {"fields": ["endpoint_id"], "action": "pseudonymise", "key": {"env": "MASK_KEY"}})
    with pytest.raises(WarehouseError, match="MASK_KEY is not set"):
        write_report(output)
    assert not (output / "report.html").exists()


@pytest.mark.parametrize("damaged", ["{", "[]", '{"mask": [{"fields": ["imssi"], "action": "drop"}]}'])
def test_a_damaged_mask_writes_no_report(output: Path, damaged: str) -> None:
    (output / "warehouse" / "_report.json").write_text(damaged)
    with pytest.raises(WarehouseError, match=r"_report\.json: no mask of a report"):
        write_report(output)


def test_a_damaged_run_file_is_named(output: Path) -> None:
    (output / "run.json").write_text("{")
    with pytest.raises(WarehouseError, match=r"run\.json: expected JSON"):
        write_report(output)


@pytest.mark.slow
@pytest.mark.parametrize("width", [1400, 500])
def test_a_browser_draws_every_chart(hostile_output: Path, tmp_path: Path, width: int) -> None:
    body = drawn_by_a_browser(hostile_output, tmp_path, width)
    charts = re.findall(r'<div class="chart[^>]*data-figure="([^"]+)"', body)
    assert len(charts) == 5
    assert len(re.findall(r'class="main-svg"', body)) >= len(charts), "each chart has its drawing"
    assert html.escape(HOSTILE, quote=False) in body


@pytest.mark.slow
@pytest.mark.parametrize("width", [1400, 500])
def test_a_browser_draws_a_report_without_records(empty_output: Path, tmp_path: Path, width: int) -> None:
    body = drawn_by_a_browser(empty_output, tmp_path, width)
    assert "Balanced" in body
    assert "NaN" not in body and "undefined" not in body


def drawn_by_a_browser(output: Path, tmp_path: Path, width: int) -> str:
    """The body of the report once a browser has run what is in it."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium here: install `chromium` to see the report drawn")
    path = write_report(output)
    command = [
        browser, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
        "--disable-component-update", "--disable-sync", f"--user-data-dir={tmp_path / 'profile'}",
        f"--window-size={width},2000", "--virtual-time-budget=20000", "--dump-dom", path.as_uri(),
    ]  # fmt: skip
    drawn = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    return drawn[drawn.index("<body") :]
