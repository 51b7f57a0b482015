"""Alerts: one per cause and window whoever sends them, in the form of each chat, kept until they are taken."""

import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from etl_assets import redact
from etl_assets.alerts import FLUSH_SECONDS, KEPT_DAYS, Alert, Alerts, Store, same_cause
from etl_assets.cli import main
from etl_assets.errors import RetryableError, SettingError
from etl_assets.sandbox.handle import Sandbox
from etl_assets.sandbox.server import running
from etl_assets.settings import AlertSettings, Settings
from etl_assets_tests.http import answer, reset, serving
from etl_assets_tests.orchestration.leaks import Canary, leaks

ROOT = Path(__file__).parents[1]
CHATS = ("slack", "dingtalk", "wecom", "feishu", "json")
FAILED = Alert("run/tmetric/HTTP 401", "error", "tmetric_daily failed", "GET /x: HTTP 401", "https://ui.example/runs/1")
SENDER = """
import sys
from etl_assets.alerts import Alert, Alerts
from etl_assets.settings import AlertSettings, Settings
alerts = Alerts(AlertSettings.read(), Settings.read())
sys.stdin.readline()
for number in range(25):
    alerts.send(Alert("one cause", "error", f"run {number} failed", "the same"))
"""


@pytest.fixture
def receiver() -> Iterator[Sandbox]:
    with running(vendors=("webhook",)) as sandbox:
        yield sandbox


@dataclass(frozen=True)
class Chat:
    """One chat of the receiver, and the environment that points at it."""

    receiver: Sandbox
    name: str
    env: dict[str, str]

    def alerts(self, **more: str) -> Alerts:
        env = {**self.env, **more}
        return Alerts(AlertSettings.read(env), Settings.read(env))

    @property
    def taken(self) -> list[dict[str, Any]]:
        return self.receiver.truth(chat=self.name)


def chat(receiver: Sandbox, name: str, folder: Path, **more: str) -> Chat:
    at = receiver.change("address", chat=name, base_url=receiver.url)
    env = {"ETL_DATA_DIR": str(folder), "ETL_RETRY_BASE_SECONDS": "0.001", **more}
    if name == "slack":
        return Chat(receiver, name, {**env, "SLACK_WEBHOOK_URL": at["url"]})
    signed = {"ALERT_WEBHOOK_SECRET": at["secret"]} if name in ("dingtalk", "feishu") else {}
    return Chat(receiver, name, {**env, "ALERT_WEBHOOK_URL": at["url"], "ALERT_WEBHOOK_FORMAT": name, **signed})


@pytest.fixture
def slack(receiver: Sandbox, tmp_path: Path) -> Chat:
    return chat(receiver, "slack", tmp_path / "data")


@pytest.fixture
def plain(receiver: Sandbox, tmp_path: Path) -> Chat:
    return chat(receiver, "json", tmp_path / "data")


def body_of(chat: Chat) -> dict[str, Any]:
    (message,) = chat.taken
    sent: dict[str, Any] = json.loads(message["body"])
    return sent


# One cause, one alert


def test_a_hundred_failures_of_one_cause_are_one_alert(plain: Chat) -> None:
    for number in range(100):
        plain.alerts().send(replace(FAILED, title=f"run {number} failed"))
    plain.alerts().send(replace(FAILED, cause="another"))
    assert Counter(message["title"] for message in plain.taken) == {FAILED.cause: 1, "another": 1}


def test_a_hundred_failures_from_four_processes_are_one_alert(plain: Chat) -> None:
    env = {**plain.env, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", SENDER]
    senders = [subprocess.Popen(command, env=env, stdin=subprocess.PIPE, text=True) for _ in range(4)]
    for sender in senders:
        assert sender.stdin
        sender.stdin.write("go\n")
        sender.stdin.flush()
    assert [sender.wait(60) for sender in senders] == [0] * 4
    for sender in senders:
        assert sender.stdin
        sender.stdin.close()
    assert [message["title"] for message in plain.taken] == ["one cause"]
    plain.alerts(ALERT_WINDOW_MINUTES="0").send(Alert("one cause", "error", "again", "the same"))
    assert json.loads(plain.taken[1]["body"])["held_back"] == 99


def test_the_next_alert_says_how_many_were_held_back(slack: Chat) -> None:
    for _ in range(5):
        slack.alerts().send(FAILED)
    slack.alerts(ALERT_WINDOW_MINUTES="0").send(FAILED)
    slack.alerts(ALERT_WINDOW_MINUTES="0").send(FAILED)
    texts = [json.loads(message["body"])["blocks"][1]["text"]["text"] for message in slack.taken]
    assert texts[0] == texts[2] == FAILED.text
    assert texts[1].startswith(f"{FAILED.text}\n4 more of the same were held back since 20")


def test_the_window_is_counted_from_the_alert_that_was_told(tmp_path: Path) -> None:
    store, webhooks = (
        Store(tmp_path / "alerts.sqlite"),
        AlertSettings.read({"ALERT_WEBHOOK_URL": "https://x.example/y"}),
    )
    told = [store.admit(FAILED, webhooks.webhooks, at, 600) for at in (0, 599, 600, 601, 1199.9, 1200)]
    assert told == [True, False, True, False, False, True]


def test_what_is_told_once_is_not_told_after_the_window_either(tmp_path: Path) -> None:
    store, webhooks = (
        Store(tmp_path / "alerts.sqlite"),
        AlertSettings.read({"ALERT_WEBHOOK_URL": "https://x.example/y"}),
    )
    assert [store.admit(replace(FAILED, once=True), webhooks.webhooks, at, 600) for at in (0, 9_999)] == [True, False]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("GET /api/v3/1 userId=7: HTTP 401; wrong", "GET /api/v3/2/x userId=8 day=2026-01-05: HTTP 401; wrong"),
        ("no list at 'a': x", "no list at 'b': x"),
        ("3 of 9 rows do not fit\n  a", "4 of 8 rows do not fit\n  b"),
        ("/tmp/x/part-0001-9f8e7d6c5b4a.zst: size differs", "/tmp/y/part-0002-00aa11bb22cc.zst: size differs"),
    ],
)
def test_errors_that_differ_in_places_and_numbers_are_one_cause(one: str, other: str) -> None:
    assert same_cause(one) == same_cause(other) != same_cause("still locked by process 1")


# The forms


@pytest.mark.parametrize("name", CHATS)
def test_every_chat_takes_its_form_with_title_text_and_link(receiver: Sandbox, tmp_path: Path, name: str) -> None:
    to = chat(receiver, name, tmp_path)
    assert to.alerts().send(FAILED) == 1
    sent = json.dumps(body_of(to), ensure_ascii=False)
    for told in (FAILED.title, FAILED.text, str(FAILED.link)):
        assert told in sent


@pytest.mark.parametrize("name", CHATS)
def test_every_chat_takes_texts_of_any_length_and_content(receiver: Sandbox, tmp_path: Path, name: str) -> None:
    to = chat(receiver, name, tmp_path)
    awkward = '<!channel> <@all> ![x](https://x.example) "\\\n\t&' + "在庫🛍️<" * 3_000
    to.alerts().send(Alert("long", "warning", "長い\n" * 200, awkward))
    to.alerts(ALERT_WINDOW_MINUTES="0").send(Alert("empty", "error", "t", ""))
    assert len(to.taken) == 2
    first = to.taken[0]["body"]
    calling = {"slack": ["<!channel>"], "dingtalk": ["![x]("], "wecom": ["<@all>", "![x]("]}
    assert not [text for text in calling.get(name, ()) if text in first]


@pytest.mark.parametrize("name", ["dingtalk", "feishu"])
def test_a_wrong_signature_is_refused_and_the_alert_is_kept(receiver: Sandbox, tmp_path: Path, name: str) -> None:
    alerts = chat(receiver, name, tmp_path).alerts(ALERT_WEBHOOK_SECRET="a-wrong-secret")
    assert alerts.send(FAILED) == 0
    (kept,) = alerts.store.waiting()
    assert (kept.title, kept.attempts) == (FAILED.title, 1)
    assert "sign" in str(kept.error)


def test_both_webhooks_are_told(slack: Chat, plain: Chat) -> None:
    assert slack.alerts(**plain.env).send(FAILED) == 2
    assert (len(slack.taken), len(plain.taken)) == (1, 1)


# Chats that do not answer


def test_a_chat_that_is_down_loses_no_alert(plain: Chat, caplog: pytest.LogCaptureFixture) -> None:
    plain.receiver.fault(path="/alerts", status=500, times=1_000)
    assert plain.alerts().send(FAILED) == 0
    asked = plain.receiver.count("/alerts")
    assert plain.alerts().flush() == 0
    assert plain.receiver.count("/alerts") == asked > 1  # asked again at once, and then not before a pause is over
    (kept,) = plain.alerts().store.waiting()
    assert (kept.webhook, kept.title, kept.attempts) == ("webhook", FAILED.title, 1)
    assert "HTTP 500; gave up after" in str(kept.error)
    assert "waits for webhook" in caplog.text


def test_an_alert_is_delivered_when_its_pause_is_over(plain: Chat, monkeypatch: pytest.MonkeyPatch) -> None:
    plain.receiver.fault(path="/alerts", status=404)
    assert plain.alerts().send(FAILED) == 0
    later = time.time() + 61
    monkeypatch.setattr("etl_assets.alerts.time.time", lambda: later)
    assert plain.alerts().flush() == 1
    assert plain.alerts().store.waiting() == []
    assert [message["title"] for message in plain.taken] == [FAILED.cause]


def test_an_alert_that_a_dying_process_held_is_delivered_by_another(tmp_path: Path, slack: Chat) -> None:
    alerts, webhooks = slack.alerts(), AlertSettings.read(slack.env).webhooks
    now = time.time()
    alerts.store.admit(FAILED, webhooks, now, 60)
    assert alerts.store.claim(webhooks, now)  # and it dies
    assert alerts.store.claim(webhooks, now + 100) is None
    assert alerts.store.claim(webhooks, now + 121)


def test_pauses_grow_to_an_hour_and_after_days_the_alert_is_given_up_aloud(tmp_path: Path) -> None:
    store, now = Store(tmp_path / "alerts.sqlite"), 1_000_000.0
    webhooks = AlertSettings.read({"ALERT_WEBHOOK_URL": "https://x.example/y"}).webhooks
    store.admit(FAILED, webhooks, now, 60)
    pauses = []
    for _ in range(9):
        claimed = store.claim(webhooks, now)
        assert claimed
        store.failed(claimed[0], "down", now)
        pause = next(seconds for seconds in (60, 120, 240, 480, 960, 1920, 3600) if _free(store, now + seconds))
        pauses.append(pause)
        now += 7_200
    assert pauses == [60, 120, 240, 480, 960, 1920, 3600, 3600, 3600]
    assert store.give_up(now) == []
    (lost,) = store.give_up(now + KEPT_DAYS * 86_400)
    assert (lost.title, lost.error) == (FAILED.title, "down")
    assert store.waiting() == []


def _free(store: Store, at: float) -> bool:
    """Whether the alert could be claimed at that time; looking changes nothing."""
    import sqlite3

    with sqlite3.connect(store._file) as db:
        return bool(db.execute("SELECT 1 FROM outbox WHERE free_at <= ?", [at]).fetchone())


def test_a_chat_that_hangs_up_is_asked_again(tmp_path: Path) -> None:
    with serving([reset, answer(b"ok", headers={"Content-Type": "text/html"})]) as server:
        env = {"ETL_DATA_DIR": str(tmp_path), "ETL_RETRY_BASE_SECONDS": "0.001", "SLACK_WEBHOOK_URL": f"{server.url}/s"}
        assert Alerts(AlertSettings.read(env), Settings.read(env)).send(FAILED) == 1
        assert len(server.seen) == 2


def test_a_store_that_cannot_be_written_is_an_error(tmp_path: Path, slack: Chat) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RetryableError, match=r"alerts\.sqlite: cannot be used"):
        slack.alerts(ETL_DATA_DIR=str(tmp_path / "file")).send(FAILED)


def test_a_flush_ends_within_the_tick_of_a_sensor() -> None:
    assert FLUSH_SECONDS + 10 < 60


def test_without_a_webhook_nothing_happens(tmp_path: Path) -> None:
    env = {"ETL_DATA_DIR": str(tmp_path / "data")}
    alerts = Alerts(AlertSettings.read(env), Settings.read(env))
    assert (bool(alerts), alerts.send(FAILED), alerts.flush()) == (False, 0, 0)
    assert list(tmp_path.iterdir()) == []


# Secrets and settings


@pytest.mark.one_in(5)
@pytest.mark.parametrize("name", CHATS)
def test_no_secret_is_in_any_byte_sent_or_kept(
    receiver: Sandbox, tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    to, canary = chat(receiver, name, tmp_path / "data"), Canary()
    redact.register(canary.value)
    told = Alert(f"x {canary.value}", "error", f"t {canary.value}", f"{canary.value}: {json.dumps(canary.value)}")
    address = str(to.env.get("ALERT_WEBHOOK_URL") or to.env["SLACK_WEBHOOK_URL"])
    token = address.rsplit("/", 1)[-1].rsplit("=", 1)[-1]
    assert to.alerts().send(told) == 1
    receiver.fault(path="/", status=404)
    to.alerts().send(replace(told, cause="refused", text=f"see {address}"))
    receiver.clear_faults()
    to.alerts(ALERT_WINDOW_MINUTES="0").send(replace(told, cause="refused", text=f"see {address}"))
    texts = {"sent": json.dumps(to.taken, ensure_ascii=False), "log": caplog.text}
    assert len(to.taken) == 2
    assert leaks(canary, tmp_path / "data", texts=texts) == []
    secrets = [token, to.env.get("ALERT_WEBHOOK_SECRET", token)]
    written = [*texts.values(), *(path.read_text("latin-1") for path in tmp_path.rglob("*") if path.is_file())]
    assert not [text for text in written for secret in secrets if secret in text]


@pytest.mark.parametrize(
    ("env", "says"),
    [
        ({"SLACK_WEBHOOK_URL": "hooks.slack.example/x"}, "SLACK_WEBHOOK_URL: is not the address of a webhook"),
        ({"ALERT_WEBHOOK_URL": "http://10.0.0.1/x"}, "ALERT_WEBHOOK_URL: http:// is accepted for this machine only"),
        ({"ALERT_WEBHOOK_URL": "https://a:b@x.example/"}, "ALERT_WEBHOOK_URL: is not the address of a webhook"),
        ({"ALERT_WEBHOOK_FORMAT": "teams"}, "ALERT_WEBHOOK_FORMAT: 'teams' is none of slack, dingtalk"),
        ({"ALERT_WINDOW_MINUTES": "soon"}, "ALERT_WINDOW_MINUTES: 'soon' is not a number"),
        ({"DAGSTER_UI_URL": "dagster"}, "DAGSTER_UI_URL: give the address of the Dagster UI"),
    ],
)
def test_a_wrong_setting_is_named_and_its_value_kept_secret(env: dict[str, str], says: str) -> None:
    with pytest.raises(SettingError) as refused:
        AlertSettings.read(env)
    assert says in str(refused.value)
    assert "a:b" not in str(refused.value)


def test_the_first_use_of_a_credential_is_remembered_without_the_value(tmp_path: Path) -> None:
    store = Store(tmp_path / "alerts.sqlite")
    assert store.first_seen("TOKEN", "the-value-of-the-token", 100.0) == 100.0
    assert store.first_seen("TOKEN", "the-value-of-the-token", 200.0) == 100.0
    assert store.first_seen("TOKEN", "another-value", 200.0) == 200.0
    assert b"the-value" not in (tmp_path / "alerts.sqlite").read_bytes()


# The command


def run(env: dict[str, str], *line: str) -> Result:
    return CliRunner().invoke(main, ["alert", *line], env=env)


def test_the_command_sends_an_alert(slack: Chat) -> None:
    done = run(slack.env, "nightly load failed", "--text", "see the log")
    assert (done.exit_code, done.output) == (0, "delivered\n")
    assert "see the log" in slack.taken[0]["body"]
    again = run(slack.env, "nightly load failed")
    assert (again.exit_code, again.output) == (0, "held back: told within the last 60 minutes\n")


def test_the_command_says_what_waits_and_why(slack: Chat) -> None:
    slack.receiver.fault(path="/services", status=404)
    done = run(slack.env, "nightly load failed")
    assert done.exit_code == 1
    assert "waits for slack since" in done.output
    assert "HTTP 404" in done.output


def test_the_command_without_a_webhook_says_what_to_set(tmp_path: Path) -> None:
    done = run({"ETL_DATA_DIR": str(tmp_path)}, "anything")
    assert done.exit_code == 1
    assert "set SLACK_WEBHOOK_URL or ALERT_WEBHOOK_URL" in done.output
