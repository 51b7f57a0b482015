"""The sensors that tell people: what they find in runs of the lab reaches a chat, once, and without a secret."""

import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from etl_assets.defs import alerts
from etl_assets.sandbox.handle import Sandbox
from etl_assets.sandbox.server import running
from etl_assets_tests.http import answer, serving
from etl_assets_tests.orchestration.lab import Lab, Run, stream_file

DAY = "2026-01-05"
UI = "https://dagster.example"
SHOP = """
source: shop
title: Shop
base_url: {url}
timezone: Asia/Tokyo
streams:
  - {{name: things, path: /things, key: [id], columns: {{id: integer, price: integer}}}}
"""


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    with running(vendors=("webhook",)) as sandbox:
        monkeypatch.setenv("ALERT_WEBHOOK_URL", sandbox.env()["ALERT_WEBHOOK_URL"])
        monkeypatch.setenv("DAGSTER_UI_URL", f"{UI}/")
        yield sandbox


def told(receiver: Sandbox) -> list[dict[str, Any]]:
    return [json.loads(message["body"]) for message in receiver.truth()]


def look(lab: Lab, run: Run) -> Any:
    """The sensor's evaluation of a finished run."""
    (record,) = lab.instance.get_run_records(dg.RunsFilter(run_ids=[run.id]))
    kind = dg.DagsterEventType.RUN_SUCCESS if run.success else dg.DagsterEventType.RUN_FAILURE
    (entry,) = lab.instance.all_logs(run.id, of_type=kind)
    assert entry.dagster_event
    sensor = alerts.checks if run.success else alerts.failed_runs
    context = dg.build_run_status_sensor_context(sensor.name, entry.dagster_event, lab.instance, record.dagster_run)
    return sensor(context if run.success else context.for_run_failure())


def watch(lab: Lab, cursor: str | None = None) -> tuple[str | None, str | None]:
    """What the watching sensor says, and its cursor."""
    context = dg.build_sensor_context(lab.instance, cursor=cursor)
    said = alerts.watcher(context)
    assert isinstance(said, dg.SkipReason)
    return said.skip_message, context.cursor


def test_a_failed_run_is_told_with_its_error_and_a_link(lab: Lab, receiver: Sandbox) -> None:
    lab.sandbox.fault(path="/timeentries", status=403, times=1_000)
    run = lab.run("tmetric/time_entries", day=DAY)
    look(lab, run)
    (alert,) = told(receiver)
    assert alert["severity"] == "error"
    layers = ", ".join(f"{layer}/tmetric/time_entries" for layer in ("clean", "raw", "warehouse"))
    assert alert["title"] == f"{layers} failed for {DAY}"
    assert alert["text"].startswith(f"raw/tmetric/time_entries: tmetric/time_entries {DAY}: page 1 of list 1 of ")
    assert "HTTP 403; rights are missing" in alert["text"]
    assert alert["link"] == f"{UI}/runs/{run.id}"
    assert lab.sandbox.env()["TMETRIC_TOKEN"] not in json.dumps(alert)


def test_runs_that_fail_alike_are_told_once(lab: Lab, receiver: Sandbox) -> None:
    lab.sandbox.fault(path="/", status=401, times=1_000)
    runs = [lab.run("raw/tmetric/time_entries", day=DAY), lab.run("raw/tmetric/projects", "raw/tmetric/clients")]
    for run in runs:
        look(lab, run)
    assert [alert["cause"] for alert in told(receiver)] == [
        "run/tmetric/GET / HTTP #; the credential is wrong, expired or replaced: empty body"
    ]


def test_a_step_that_used_up_its_retries_is_told_with_the_last_error(lab: Lab, receiver: Sandbox) -> None:
    lab.sandbox.fault(path="/projects", status=500, times=1_000)
    look(lab, lab.run("raw/tmetric/projects"))
    assert "gave up after 7 attempts" in told(receiver)[0]["text"]


def test_checks_and_quarantined_rows_are_told_although_the_run_succeeded(
    lab: Lab, receiver: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"id": 1, "price": 2}, {"id": 2, "price": "two"}, {"id": 3, "price": 3, "colour": "red"}]
    with serving(lambda _: answer(json.dumps(rows).encode())) as server:
        monkeypatch.setenv("ETL_SOURCES_DIR", str(stream_file(tmp_path / "sources", SHOP.format(url=server.url))))
        run = lab.run("shop/things")
    assert run.success
    for _ in range(2):
        look(lab, run)
    found = {alert["cause"]: alert for alert in told(receiver)}
    assert found.keys() == {"check/clean/shop/things/drift", "quarantine/clean/shop/things"}
    assert {(alert["severity"], alert["link"]) for alert in found.values()} == {("warning", f"{UI}/runs/{run.id}")}
    assert "undeclared_fields: {'colour': 'VARCHAR'}" in found["check/clean/shop/things/drift"]["text"]
    assert "1 rows do not fit the stream file" in found["quarantine/clean/shop/things"]["text"]


def test_a_run_without_findings_tells_nothing(lab: Lab, receiver: Sandbox) -> None:
    look(lab, lab.run("raw/tmetric/tags", "clean/tmetric/tags"))
    assert told(receiver) == []


def test_without_a_webhook_the_sensors_say_so_and_do_nothing(lab: Lab) -> None:
    said = look(lab, lab.run("raw/tmetric/tags"))
    assert "set SLACK_WEBHOOK_URL" in said.skip_message
    assert "set SLACK_WEBHOOK_URL" in str(watch(lab)[0])
    assert not (lab.data / "alerts.sqlite").exists()


def test_a_late_table_is_told_once_per_deadline(lab: Lab, receiver: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.run("tmetric/projects", "tmetric/tags")
    assert watch(lab)[0] == "0 alerts delivered, 0 wait"

    class Later(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return datetime.now(tz) + timedelta(days=2)

    monkeypatch.setattr(alerts, "datetime", Later)
    said, cursor = watch(lab)
    assert said == "1 alerts delivered, 0 wait"
    assert watch(lab, cursor)[0] == watch(lab)[0] == "0 alerts delivered, 0 wait"
    (alert,) = told(receiver)
    assert alert["title"] == "TMetric: 2 tables are late"
    assert "tmetric.projects: last loaded 20" in alert["text"]
    assert "tmetric.clients" not in alert["text"]  # never loaded, so nobody waits for it


def test_a_credential_about_to_end_is_told_once_a_day(
    lab: Lab, receiver: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    ahead = timedelta()

    class Later(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return datetime.now(tz) + ahead

    monkeypatch.setattr(alerts, "datetime", Later)
    titles = []
    for days in (0, 350, 352, 352, 353, 364, 366):
        ahead = timedelta(days=days)
        watch(lab)
        titles = [alert["title"] for alert in told(receiver)]
    assert titles == [
        f"TMetric: TMETRIC_TOKEN {when}"
        for when in ("ends in 12 days", "ends in 11 days", "ends in 0 days", "should be over")
    ]
    severities = [alert["severity"] for alert in told(receiver)]
    assert severities == ["warning", "warning", "error", "error"]
    monkeypatch.setenv("TMETRIC_TOKEN", "a-new-token-of-the-test")
    watch(lab)
    assert len(told(receiver)) == 4
    assert os.environ["TMETRIC_TOKEN"] not in json.dumps(told(receiver))


def test_what_could_not_be_delivered_is_delivered_by_the_next_look(
    lab: Lab, receiver: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.sandbox.fault(path="/projects", status=403, times=1_000)
    receiver.fault(path="/alerts", status=404)
    run = lab.run("raw/tmetric/projects")
    look(lab, run)  # raises nothing
    assert watch(lab)[0] == "0 alerts delivered, 1 wait"
    later = datetime.now(UTC).timestamp() + 100
    monkeypatch.setattr("etl_assets.alerts.time.time", lambda: later)
    assert watch(lab)[0] == "1 alerts delivered, 0 wait"
    assert [alert["link"] for alert in told(receiver)] == [f"{UI}/runs/{run.id}"]
