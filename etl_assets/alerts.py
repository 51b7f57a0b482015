"""Alerts: what people are told when something went wrong, once per cause and window, to Slack and other chats.

What belongs here: what an alert is, the store that counts and keeps them, and the forms that the chats take. What is
worth an alert is decided by its callers. An alert is kept until it is delivered: a chat that is down loses none, and
stops no run.
"""

import base64
import contextlib
import hashlib
import hmac
import json
import logging
import re
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qsl

from etl_assets import auth, redact
from etl_assets.client import Client
from etl_assets.errors import EtlError, RetryableError
from etl_assets.limiter import Limiter
from etl_assets.messages import Request
from etl_assets.settings import AlertSettings, Settings, Timeouts, Webhook, register_secrets
from etl_assets.spec import Errors, NoAuth, Rate, Source

log = logging.getLogger(__name__)

Payload = dict[str, Any]
FLUSH_SECONDS = 25.0  # of a sensor's tick, which has 60
KEPT_DAYS = 7
_ATTEMPT_SECONDS = 10.0
_LEASE_SECONDS = 120.0
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 60.0, 3600.0
_STORE_SECONDS = 30.0
_DAY_SECONDS = 86_400.0
_TEXT_BYTES = 2_400  # fits every chat: WeCom takes 4,096 with all that is around it
_SLACK_CHARACTERS = 2_900
_TITLE_CHARACTERS = 140  # Slack's header takes 150
_ICONS = {"error": "🔴", "warning": "🟡"}
_TABLES = """
CREATE TABLE IF NOT EXISTS causes (cause TEXT PRIMARY KEY, told_at REAL NOT NULL, held_back INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS outbox (
    id INTEGER PRIMARY KEY, webhook TEXT NOT NULL, alert TEXT NOT NULL, created_at REAL NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0, error TEXT, free_at REAL NOT NULL);
CREATE TABLE IF NOT EXISTS credentials (digest TEXT PRIMARY KEY, first_seen REAL NOT NULL);
"""


@dataclass(frozen=True)
class Alert:
    """Something that people should know.

    Alerts of the same `cause` are one within the window; those told `once` are not repeated after it either.
    """

    cause: str
    severity: Literal["error", "warning"]
    title: str
    text: str
    link: str | None = None
    once: bool = False
    held_back: int = 0
    held_back_since: str | None = None

    def lines(self) -> str:
        """The text, with how many of the same were held back before."""
        if not self.held_back:
            return self.text
        return f"{self.text}\n{self.held_back} more of the same were held back since {self.held_back_since}."


@dataclass(frozen=True)
class Waiting:
    """An alert that is not delivered yet."""

    webhook: str
    title: str
    created_at: str
    attempts: int
    error: str | None


class Store:
    """What was told when, and what is still to be delivered; shared by all processes of `ETL_DATA_DIR`."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def admit(self, alert: Alert, webhooks: tuple[Webhook, ...], now: float, window: float) -> bool:
        """Put the alert into the outbox, once per webhook, unless its cause was told within the window: then count it.

        `now` is in epoch seconds, `window` in seconds.
        """
        alert = _scrubbed(alert)
        with self._transaction() as db:
            before = db.execute("SELECT told_at, held_back FROM causes WHERE cause = ?", [alert.cause]).fetchone()
            if before and (alert.once or now - before[0] < window):
                db.execute("UPDATE causes SET held_back = held_back + 1 WHERE cause = ?", [alert.cause])
                return False
            if before and before[1]:
                alert = replace(alert, held_back=before[1], held_back_since=_utc(before[0]))
            db.execute("INSERT OR REPLACE INTO causes VALUES (?, ?, 0)", [alert.cause, now])
            db.execute("DELETE FROM causes WHERE told_at < ?", [now - max(window, 30 * _DAY_SECONDS)])
            text = json.dumps(asdict(alert), ensure_ascii=False)
            for webhook in webhooks:
                db.execute(
                    "INSERT INTO outbox (webhook, alert, created_at, free_at) VALUES (?, ?, ?, ?)",
                    [webhook.name, text, now, now],
                )
        return True

    def claim(self, webhooks: tuple[Webhook, ...], now: float) -> tuple[int, Webhook, Alert] | None:
        """The oldest alert that may be delivered now, held for this process for a while; None without one."""
        by_name = {webhook.name: webhook for webhook in webhooks}
        with self._transaction() as db:
            found = db.execute(
                f"""SELECT id, webhook, alert FROM outbox
                    WHERE free_at <= ? AND webhook IN ({", ".join("?" * len(by_name))}) ORDER BY id LIMIT 1""",
                [now, *by_name],
            ).fetchone()
            if found is None:
                return None
            db.execute("UPDATE outbox SET free_at = ? WHERE id = ?", [now + _LEASE_SECONDS, found[0]])
        return found[0], by_name[found[1]], Alert(**json.loads(found[2]))

    def delivered(self, number: int) -> None:
        """Take the alert out of the outbox."""
        with self._transaction() as db:
            db.execute("DELETE FROM outbox WHERE id = ?", [number])

    def failed(self, number: int, error: str, now: float) -> None:
        """Keep the alert for a later attempt: after a minute, and each time twice as long, up to an hour."""
        with self._transaction() as db:
            db.execute(
                "UPDATE outbox SET error = ?, free_at = ? + min(?, ? * (1 << min(attempts, 10))), "
                "attempts = attempts + 1 WHERE id = ?",
                [error, now, _LONGEST_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS, number],
            )

    def give_up(self, now: float) -> list[Waiting]:
        """Take out what could not be delivered for days, and say what that was."""
        with self._transaction() as db:
            old = "created_at < ?"
            lost = _waiting(db, old, now - KEPT_DAYS * _DAY_SECONDS)
            db.execute(f"DELETE FROM outbox WHERE {old}", [now - KEPT_DAYS * _DAY_SECONDS])
        return lost

    def waiting(self) -> list[Waiting]:
        """Every alert that is not delivered yet, oldest first."""
        with self._transaction() as db:
            return _waiting(db, "created_at > ?", 0)

    def first_seen(self, name: str, value: str, now: float) -> float:
        """When this value of a credential was first used here, in epoch seconds. Only a digest of it is kept."""
        digest = hashlib.sha256(f"credential {name} {value}".encode()).hexdigest()
        with self._transaction() as db:
            db.execute("INSERT OR IGNORE INTO credentials VALUES (?, ?)", [digest, now])
            ((seen,),) = db.execute("SELECT first_seen FROM credentials WHERE digest = ?", [digest]).fetchall()
        return float(seen)

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.closing(sqlite3.connect(self._file, _STORE_SECONDS, isolation_level=None)) as db:
                db.execute("BEGIN IMMEDIATE")
                for table in filter(str.strip, _TABLES.split(";")):
                    db.execute(table)
                yield db
                db.execute("COMMIT")
        except (sqlite3.Error, OSError) as error:
            raise RetryableError(f"{self._file}: cannot be used: {error}") from None


class Alerts:
    """Tells people. Without a webhook in the settings it does nothing at all."""

    def __init__(self, alerting: AlertSettings, settings: Settings) -> None:
        self._webhooks = alerting.webhooks
        self._window = alerting.window_seconds
        self._settings = settings
        self.ui_url = alerting.ui_url
        self.store = Store(settings.data_dir / "alerts.sqlite")

    def __bool__(self) -> bool:
        return bool(self._webhooks)

    @property
    def window_minutes(self) -> float:
        """How long a cause is told once."""
        return self._window / 60

    def send(self, *alerts: Alert) -> int:
        """Tell what is due, and keep the rest counted; how many were delivered.

        A chat that does not take an alert raises nothing: the alert stays in the store for the next `send` or
        `flush`, and the log says why. Raises RetryableError when the store itself cannot be used.
        """
        if not self:
            return 0
        for alert in alerts:
            self.store.admit(alert, self._webhooks, time.time(), self._window)
        return self.flush()

    def flush(self) -> int:
        """Deliver what waits, for a limited time; how many were delivered."""
        if not self:
            return 0
        for lost in self.store.give_up(time.time()):
            log.error("alert %r of %s was never delivered to %s: %s", *_facts(lost))
        end, delivered = time.monotonic() + FLUSH_SECONDS, 0
        while time.monotonic() < end and (claimed := self.store.claim(self._webhooks, time.time())):
            number, webhook, alert = claimed
            try:
                self._deliver(webhook, alert, min(_ATTEMPT_SECONDS, end - time.monotonic()))
            except EtlError as error:
                said = redact.scrub(str(error))
                log.warning("alert %r waits for %s: %s", alert.title, webhook.name, said)
                self.store.failed(number, said, time.time())
            else:
                self.store.delivered(number)
                delivered += 1
        return delivered

    def _deliver(self, webhook: Webhook, alert: Alert, seconds: float) -> None:
        form, url = _FORMS[webhook.format], webhook.url
        seconds = max(seconds, 1.0)
        client = Client(
            f"{url.scheme}://{url.netloc}",
            authoriser=auth.authoriser([NoAuth()], {}, self._settings.data_dir / "tokens"),
            limiter=Limiter(
                self._settings.data_dir / "limits", f"webhook {url.geturl()}", parallel=1, rates=form.rates
            ),
            timeouts=Timeouts(connect=seconds, read=seconds, total=seconds),
            retry_base_seconds=self._settings.retry_base_seconds,
            max_response_bytes=1_000_000,
            connections=1,
        )
        with contextlib.closing(client):
            client.send(request(webhook, alert, time.time()))


def open_alerts(sources: Iterable[Source], settings: Settings) -> Alerts:
    """The alerts of the environment. The secrets of all sources are kept out of what they say."""
    register_secrets(sources)
    return Alerts(AlertSettings.read(), settings)


def request(webhook: Webhook, alert: Alert, now: float) -> Request:
    """The request that delivers the alert, in the form and with the signature that the chat wants."""
    form, params = _FORMS[webhook.format], parse_qsl(webhook.url.query, keep_blank_values=True)
    body = form.payload(_fitting(_scrubbed(alert)))
    if webhook.secret:
        more, fields = form.sign(webhook.secret, now)
        params, body = [*params, *more.items()], {**body, **fields}
    return Request(
        "POST",
        webhook.url.path or "/",
        f"POST to {webhook.name}",
        params=tuple(params),
        headers={"Content-Type": "application/json; charset=utf-8"},
        body=json.dumps(body, ensure_ascii=False).encode(),
        errors=form.errors,
        plain=form.errors is None,
    )


def slack(alert: Alert) -> Payload:
    """https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks and Block Kit."""
    title, text = (_slack_escaped(part)[:_SLACK_CHARACTERS] for part in (_headline(alert), alert.lines()))
    link = [_slack_context(f"<{alert.link}|Open in Dagster>")] if alert.link else []
    header = {"type": "header", "text": {"type": "plain_text", "text": _headline(alert), "emoji": True}}
    section = {"type": "section", "text": {"type": "mrkdwn", "text": text or "-"}}
    return {"text": title, "blocks": [header, section, *link]}


def dingtalk(alert: Alert) -> Payload:
    """https://open.dingtalk.com/document/orgapp/custom-robot-access, messages of type markdown."""
    text = "\n\n".join([f"#### {_inert(_headline(alert))}", _inert(alert.lines()).replace("\n", "\n\n"), *_link(alert)])
    return {"msgtype": "markdown", "markdown": {"title": _headline(alert), "text": text}}


def wecom(alert: Alert) -> Payload:
    """https://developer.work.weixin.qq.com/document/path/91770, messages of type markdown."""
    text = "\n".join([f"#### {_inert(_headline(alert))}", _inert(alert.lines()), *_link(alert)])
    return {"msgtype": "markdown", "markdown": {"content": text}}


def feishu(alert: Alert) -> Payload:
    """https://open.feishu.cn/document/client-docs/bot-v3/add-custom-bot, an interactive card."""
    button = {"tag": "button", "type": "primary", "text": {"tag": "plain_text", "content": "Open in Dagster"}}
    link = [{"tag": "action", "actions": [{**button, "url": alert.link}]}] if alert.link else []
    colour = {"error": "red", "warning": "orange"}[alert.severity]
    return {
        "msg_type": "interactive",
        "card": {
            "config": {"wide_screen_mode": True},
            "header": {"template": colour, "title": {"tag": "plain_text", "content": _headline(alert)}},
            "elements": [{"tag": "div", "text": {"tag": "plain_text", "content": alert.lines()}}, *link],
        },
    }


def plain(alert: Alert) -> Payload:
    """Every field by its name, for programs."""
    return {name: value for name, value in asdict(alert).items() if name != "once"}


def _unsigned(secret: str, now: float) -> tuple[dict[str, str], Payload]:
    return {}, {}


def _dingtalk_sign(secret: str, now: float) -> tuple[dict[str, str], Payload]:
    moment = str(int(now * 1000))
    return {"timestamp": moment, "sign": _hmac(secret, f"{moment}\n{secret}")}, {}


def _feishu_sign(secret: str, now: float) -> tuple[dict[str, str], Payload]:
    moment = str(int(now))
    return {}, {"timestamp": moment, "sign": _hmac(f"{moment}\n{secret}", "")}


def _hmac(key: str, text: str) -> str:
    return base64.b64encode(hmac.new(key.encode(), text.encode(), hashlib.sha256).digest()).decode()


@dataclass(frozen=True)
class _Form:
    """What one chat takes: the body, how it is signed, where its errors stand (None: in the status), how often."""

    payload: Callable[[Alert], Payload]
    rates: dict[str, list[Rate]]
    errors: Errors | None = None
    sign: Callable[[str, float], tuple[dict[str, str], Payload]] = _unsigned


def _rate(*rates: tuple[int, int]) -> dict[str, list[Rate]]:
    return {"default": [Rate(count=count, seconds=seconds) for count, seconds in rates]}


_FORMS = {
    "slack": _Form(slack, _rate((1, 1))),
    "dingtalk": _Form(
        dingtalk,
        _rate((20, 60)),
        Errors(code="errcode", ok=[0], message="errmsg", retry=[130101]),
        _dingtalk_sign,
    ),
    "wecom": _Form(wecom, _rate((20, 60)), Errors(code="errcode", ok=[0], message="errmsg", retry=[45009])),
    "feishu": _Form(
        feishu, _rate((5, 1), (100, 60)), Errors(code="code", ok=[0], message="msg", retry=[11232]), _feishu_sign
    ),
    "json": _Form(plain, _rate((5, 1))),
}


# As `errors.named` says it: stream and day, the list that was read for it, the page.
_PLACE = re.compile(r"^(?:(?:\w+/\w+(?: [\d-]+)?|reading \w+ for it|page \d+(?: of list \d+ of \d+)?): )+")


def same_cause(error: str) -> str:
    """What errors of one cause have in common: the first line without its place, parameters, quotes, paths, numbers."""
    line = _PLACE.sub("", next(iter(error.strip().splitlines()), ""))
    for varying, kept in (
        (r"'[^']*'|\"[^\"]*\"", "…"),
        (r"\w+=\S*", ""),
        (r"\S*/\S*", "/"),
        (r"[0-9a-f]{8,}|\d+", "#"),
    ):
        line = re.sub(varying, kept, line)
    return " ".join(line.split())[:200]


def _scrubbed(alert: Alert) -> Alert:
    """The alert without secrets: each text by itself, as encoding them together would hide some."""
    texts = {name: redact.scrub(value) for name, value in asdict(alert).items() if isinstance(value, str)}
    return replace(alert, **texts)  # type: ignore[arg-type]


def _headline(alert: Alert) -> str:
    return f"{_ICONS[alert.severity]} {alert.title}"


def _fitting(alert: Alert) -> Alert:
    """The alert without what no chat would take."""
    title = " ".join(alert.title.split())
    if len(title) > _TITLE_CHARACTERS:
        title = f"{title[: _TITLE_CHARACTERS - 1]}…"
    text = alert.text.encode()
    if len(text) > _TEXT_BYTES:
        text = text[: _TEXT_BYTES - 3] + "…".encode()
    return replace(alert, title=title, text=text.decode("utf-8", "ignore"))


def _slack_escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _slack_context(text: str) -> Payload:
    return {"type": "context", "elements": [{"type": "mrkdwn", "text": text}]}


def _inert(text: str) -> str:
    """Text that calls nobody and fetches nothing where it is taken for Markdown: errors hold what APIs say."""
    return text.replace("<", "＜").replace("](", "] (")


def _link(alert: Alert) -> list[str]:
    return [f"[Open in Dagster]({alert.link})"] if alert.link else []


def _waiting(db: sqlite3.Connection, where: str, value: float) -> list[Waiting]:
    rows = db.execute(
        f"SELECT webhook, alert, created_at, attempts, error FROM outbox WHERE {where} ORDER BY id", [value]
    ).fetchall()
    return [
        Waiting(webhook, json.loads(alert)["title"], _utc(at), attempts, error)
        for webhook, alert, at, attempts, error in rows
    ]


def _facts(waiting: Waiting) -> tuple[str, str, str, str | None]:
    return waiting.title, waiting.created_at, waiting.webhook, waiting.error


def _utc(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d %H:%M UTC")
