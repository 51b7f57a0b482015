"""Everything that comes from the environment, read in one place.

Variables of the process win over those of a file, `.env` in the working directory unless ETL_ENV_FILE names another;
an empty variable counts as unset. Each setting is listed with a comment in `.env.example`. The commands of Dagster put
`.env` into the environment of the process themselves, over what is there.
"""

import ipaddress
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, parse_qsl, urlsplit

from dotenv import dotenv_values

from etl_assets import redact
from etl_assets.errors import SettingError
from etl_assets.spec import Rate, Service, Source

Environment = Mapping[str, str]


def environment() -> Environment:
    """The variables of the file and of the process, without the empty ones. Raises SettingError for no such file."""
    named = os.environ.get("ETL_ENV_FILE")
    if named and not Path(named).exists():
        raise SettingError(f"ETL_ENV_FILE: there is no file {named}")
    both = (dotenv_values(named or ".env"), os.environ)
    return {name: value for variables in both for name, value in variables.items() if value}


@dataclass(frozen=True)
class Timeouts:
    """Deadlines of one request in seconds: to connect, between two reads, and for all attempts together."""

    connect: float
    read: float
    total: float


@dataclass(frozen=True)
class GoogleSettings:
    """Cloud Storage and BigQuery: where tables are, what queries may cost, how often a table may be changed.

    `maximum_bytes_billed` is None for no limit; the emulators are base URLs, None for the real services.
    """

    project: str | None
    location: str
    dataset_prefix: str
    maximum_bytes_billed: int | None
    table_rates: tuple[Rate, ...]
    bigquery_emulator: str | None
    storage_emulator: str | None
    retry_base_seconds: float
    total_timeout_seconds: float

    @classmethod
    def read(cls, env: Environment) -> "GoogleSettings":
        """Raises SettingError naming a variable that does not parse."""
        prefix = env.get("BIGQUERY_DATASET_PREFIX", "")
        if not re.fullmatch(r"[A-Za-z0-9_]*", prefix):
            raise SettingError(f"BIGQUERY_DATASET_PREFIX: {prefix!r} has more than letters, digits and underscores")
        most = _number(env, "BIGQUERY_MAXIMUM_BYTES_BILLED", 0)
        rates = env.get("BIGQUERY_TABLE_RATES", "5/10s,1500/86400s")
        try:
            table_rates = tuple(Rate.model_validate(rate.strip()) for rate in rates.split(","))
        except ValueError:
            raise SettingError(f"BIGQUERY_TABLE_RATES: {rates!r} is no list of rates such as 5/10s") from None
        return cls(
            project=env.get("BIGQUERY_PROJECT"),
            location=env.get("BIGQUERY_LOCATION", "asia-northeast1"),
            dataset_prefix=prefix,
            maximum_bytes_billed=int(most) or None,
            table_rates=table_rates,
            bigquery_emulator=_emulator(env, "BIGQUERY_EMULATOR_HOST"),
            storage_emulator=_emulator(env, "STORAGE_EMULATOR_HOST"),
            retry_base_seconds=_number(env, "ETL_RETRY_BASE_SECONDS", 1.0),
            total_timeout_seconds=_positive(env, "ETL_TOTAL_TIMEOUT_SECONDS", 600.0),
        )


def _emulator(env: Environment, name: str) -> str | None:
    """The address of an emulator, with a scheme: credentials are not sent there."""
    address = env.get(name)
    if address is None:
        return None
    url = address if "://" in address else f"http://{address}"
    parts = _split(url)
    if parts is None or not parts.hostname:
        raise SettingError(f"{name}: {address!r} is no address such as http://127.0.0.1:9050")
    return url.rstrip("/")


@dataclass(frozen=True)
class Settings:
    """The settings that do not belong to one source."""

    data_dir: Path
    landing: str
    warehouse: str
    duckdb_path: Path
    sources_dir: Path | None
    retry_base_seconds: float
    timeouts: Timeouts
    max_response_bytes: int
    duckdb_lock_seconds: float
    duckdb_memory_mb: int
    accept_deletions: frozenset[str]
    backfill_days: int
    google: GoogleSettings

    @classmethod
    def read(cls, env: Environment | None = None) -> "Settings":
        """Settings of the environment. Raises SettingError naming a variable that does not parse."""
        env = environment() if env is None else env
        data_dir = Path(env.get("ETL_DATA_DIR", "./data"))
        sources_dir = env.get("ETL_SOURCES_DIR")
        settings = cls(
            data_dir=data_dir,
            landing=env.get("ETL_LANDING", str(data_dir / "landing")),
            warehouse=env.get("ETL_WAREHOUSE", "duckdb"),
            duckdb_path=Path(env.get("DUCKDB_PATH", str(data_dir / "warehouse.duckdb"))),
            sources_dir=Path(sources_dir) if sources_dir else None,
            retry_base_seconds=_number(env, "ETL_RETRY_BASE_SECONDS", 1.0),
            timeouts=Timeouts(
                connect=_positive(env, "ETL_CONNECT_TIMEOUT_SECONDS", 10.0),
                read=_positive(env, "ETL_READ_TIMEOUT_SECONDS", 60.0),
                total=_positive(env, "ETL_TOTAL_TIMEOUT_SECONDS", 600.0),
            ),
            max_response_bytes=int(_number(env, "ETL_MAX_RESPONSE_MB", 256) * 1_000_000),
            duckdb_lock_seconds=_number(env, "DUCKDB_LOCK_TIMEOUT_SECONDS", 300.0),
            duckdb_memory_mb=int(_number(env, "ETL_DUCKDB_MEMORY_MB", 300)),
            accept_deletions=frozenset(env.get("ETL_ACCEPT_DELETIONS", "").replace(",", " ").split()),
            backfill_days=int(_number(env, "ETL_BACKFILL_DAYS", 1)),
            google=GoogleSettings.read(env),
        )
        if settings.warehouse not in ("duckdb", "bigquery"):
            raise SettingError(f"ETL_WAREHOUSE: {settings.warehouse!r} is not known; use duckdb or bigquery")
        if "://" in settings.landing and not re.match(r"gs://[\w.-]+", settings.landing):
            raise SettingError(f"ETL_LANDING: {settings.landing!r} is neither a local folder nor gs://bucket/prefix")
        if settings.backfill_days < 1:
            raise SettingError("ETL_BACKFILL_DAYS: a run loads one day at least")
        return settings


WEBHOOK_FORMATS = ("slack", "dingtalk", "wecom", "feishu", "json")


@dataclass(frozen=True)
class Webhook:
    """Where alerts go: an address that is itself a secret, the form it takes, and the secret to sign with, if any."""

    name: str
    format: str
    url: SplitResult
    secret: str | None = None


@dataclass(frozen=True)
class AlertSettings:
    """Who is told of failures, and how often: no webhook, no alert. `ui_url` is where runs can be looked at."""

    webhooks: tuple[Webhook, ...]
    window_seconds: float
    ui_url: str | None

    @classmethod
    def read(cls, env: Environment | None = None) -> "AlertSettings":
        """Settings of the environment, secrets registered for redaction. Raises SettingError naming the variable."""
        env = environment() if env is None else env
        form, secret = env.get("ALERT_WEBHOOK_FORMAT", "json"), env.get("ALERT_WEBHOOK_SECRET")
        if form not in WEBHOOK_FORMATS:
            raise SettingError(f"ALERT_WEBHOOK_FORMAT: {form!r} is none of {', '.join(WEBHOOK_FORMATS)}")
        redact.register(secret or "")
        slack, other = (_webhook_url(env, name) for name in ("SLACK_WEBHOOK_URL", "ALERT_WEBHOOK_URL"))
        webhooks = [Webhook("slack", "slack", slack)] if slack else []
        webhooks += [Webhook("webhook", form, other, secret)] if other else []
        ui_url = env.get("DAGSTER_UI_URL", "").rstrip("/")
        if ui_url and not ui_url.startswith(("http://", "https://")):
            raise SettingError("DAGSTER_UI_URL: give the address of the Dagster UI, such as https://dagster.example")
        return cls(tuple(webhooks), 60 * _number(env, "ALERT_WINDOW_MINUTES", 60), ui_url or None)


def _webhook_url(env: Environment, name: str) -> SplitResult | None:
    """The address of a webhook. Whoever knows it can post, so every telling part of it is kept out of texts."""
    if not (text := env.get(name)):
        return None
    url = _split(text)
    if url is None or url.scheme not in ("http", "https") or not url.hostname or "@" in url.netloc:
        raise SettingError(f"{name}: is not the address of a webhook")
    if url.scheme == "http" and not _is_loopback(url.hostname):
        raise SettingError(f"{name}: http:// is accepted for this machine only; use https://")
    telling = [part for part in (*url.path.split("/"), *(value for _, value in parse_qsl(url.query))) if len(part) > 15]
    for secret in (text, f"{url.path}?{url.query}" if url.query else url.path, *telling):
        redact.register(secret if len(secret) > 7 else "")
    return url


def register_secrets(sources: Iterable[Source], env: Environment | None = None) -> None:
    """Keep every secret of the environment out of the texts of this process, also of sources that it does not ask."""
    env = environment() if env is None else env
    for source in sources:
        for name, declared in source.settings.items():
            if declared.secret:
                redact.register(env.get(name, ""))


def lifetimes(source: Source, env: Environment | None = None) -> list[tuple[str, str]]:
    """(name, value) of the source's settings that are set and whose lifetime is known."""
    env = environment() if env is None else env
    return [(name, env[name]) for name, declared in source.settings.items() if declared.lifetime and name in env]


def plain_values(source: Source, env: Environment | None = None) -> dict[str, str]:
    """The source's settings that are no secrets and have a value: steps without the API need only these."""
    env = environment() if env is None else env
    values = {name: env.get(name, declared.default) for name, declared in source.settings.items()}
    return {n: value for n, value in values.items() if value is not None and not source.settings[n].secret}


@dataclass(frozen=True)
class Connection:
    """What a client needs to know to reach one service: where, and with which values."""

    base_url: str
    values: Mapping[str, str]
    parallel: int


def connection(source: Service, env: Environment | None = None) -> Connection:
    """Address and values of a source or target, its secrets registered for redaction.

    Raises SettingError that names every missing variable and says where to get it.
    """
    env = environment() if env is None else env
    values = {name: env.get(name, declared.default) for name, declared in source.settings.items()}
    for name, declared in source.settings.items():
        if declared.secret and (value := values[name]):
            if not value.isprintable():
                raise SettingError(f"{name}: the value holds a control character, such as a line break")
            if not value.isascii() and max(value) > "\xff":
                raise SettingError(f"{name}: the value holds a character that no HTTP header can carry")
            redact.register(value)
    _refuse_missing(source, {name for name, value in values.items() if value is not None})
    parallel = int(_number(env, f"{source.name.upper()}_PARALLEL", source.limits.parallel))
    return Connection(
        base_url=_base_url(source, env),
        values={name: value for name, value in values.items() if value is not None},
        parallel=min(max(parallel, 1), 64),
    )


def _refuse_missing(source: Service, known: set[str]) -> None:
    """Raises SettingError unless all mandatory settings, and all of one way to authorise, have a value."""
    needed = [name for name, declared in source.settings.items() if not declared.optional]
    ways = [way.settings() for way in source.auth]
    if not any(known.issuperset(way) for way in ways):
        needed += [name for name in ways[0] if name not in needed]
    missing = [name for name in needed if name not in known]
    if not missing:
        return
    hints = "\n".join(f"  {name}: {source.settings[name].help}" for name in missing)
    others = "".join(f"\n  or instead of them: {', '.join(way)}" for way in ways[1:] if not known.issuperset(way))
    raise SettingError(f"{source.title} needs variables that are not set (see .env.example):\n{hints}{others}")


def reload_days(source: Source, env: Environment | None = None) -> int:
    """Days that each daily run of the source loads again."""
    env = environment() if env is None else env
    return max(int(_number(env, f"{source.source.upper()}_RELOAD_DAYS", source.reload_days)), 1)


def _base_url(source: Service, env: Environment) -> str:
    name = source.base_url_variable
    parts = _split(env.get(name, source.base_url))
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
        raise SettingError(f"{name}: give scheme and host, such as {source.base_url}")
    if "@" in parts.netloc or parts.query or parts.fragment or parts.path not in ("", "/"):
        raise SettingError(f"{name}: give scheme and host only, such as {source.base_url}")
    if parts.scheme == "http" and not _is_loopback(parts.hostname):
        raise SettingError(f"{name}: http:// is accepted for this machine only; use https://")
    return f"{parts.scheme}://{parts.netloc}"


def _split(url: str) -> SplitResult | None:
    """The parts of an address; None where it is none. The error would show a password in it."""
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - reading it checks it
    except ValueError:
        return None
    return None if " " in parts.netloc else parts


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _positive(env: Environment, name: str, default: float) -> float:
    value = _number(env, name, default)
    if value == 0:
        raise SettingError(f"{name}: {env[name]!r} is out of range")
    return value


def _number(env: Environment, name: str, default: float) -> float:
    text = env.get(name)
    if text is None:
        return default
    try:
        value = float(text)
    except ValueError:
        raise SettingError(f"{name}: {text!r} is not a number") from None
    if not 0 <= value < float("inf"):
        raise SettingError(f"{name}: {text!r} is out of range")
    return value
