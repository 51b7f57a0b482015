"""What is worth an alert: failed runs, failed checks, quarantined rows, late tables, credentials about to end.

What belongs here: from plain facts to an alert, its cause and its words. Where the facts come from is orchestration's
business, how an alert travels that of `alerts`.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

from etl_assets.alerts import Alert, same_cause
from etl_assets.spec import Source

ENDING = timedelta(days=14)
_SHOWN = 5


def run_failed(
    job: str, partition: str | None, failures: Sequence[tuple[str, str]], message: str, link: str | None
) -> Alert:
    """A failed run. `failures` are (asset, error) of its steps in order; `message` is what the run itself says.

    The cause is the first error and its source: further days and streams that fail alike are not told again.
    """
    title = f"{job} failed{f' for {partition}' if partition else ''}"
    asset, error = failures[0] if failures else (job, message)
    lines = [f"{name}: {text.strip()}" for name, text in failures[:_SHOWN]] or [message]
    if len(failures) > _SHOWN:
        lines.append(f"and {len(failures) - _SHOWN} more failed steps")
    return Alert(f"run/{_source(asset)}/{same_cause(error)}", "error", title, "\n".join(lines), link)


def check_failed(
    asset: str,
    check: str,
    severity: Literal["error", "warning"],
    details: Sequence[tuple[str, object]],
    link: str | None,
) -> Alert:
    """A check that did not pass, with what it found."""
    found = "\n".join(f"{name}: {value}" for name, value in details)
    return Alert(f"check/{asset}/{check}", severity, f"{asset}: the check {check} did not pass", found, link)


def quarantined(asset: str, partition: str | None, rows: int, link: str | None) -> Alert:
    """Rows that were set aside because they do not fit the stream file."""
    of = f" of {partition}" if partition else ""
    text = f"{rows} rows{of} do not fit the stream file; the reasons are in ops.quarantine."
    return Alert(f"quarantine/{asset}", "warning", f"{asset}: rows in quarantine", text, link)


def last_deadline(now: datetime, zone: str, hour: int) -> datetime:
    """The last time that it was `hour` o'clock in the zone."""
    local = now.astimezone(ZoneInfo(zone))
    today = local.replace(hour=hour, minute=0, second=0, microsecond=0)
    return today if today <= local else today - timedelta(days=1)


def late(source: Source, loaded: Sequence[tuple[str, datetime]], deadline: datetime, slack: timedelta) -> Alert | None:
    """The tables of a source that were not loaded in the `slack` before the deadline; None when all were.

    `loaded` are (table, last load) of the tables that were ever loaded.
    """
    missed = [f"{table}: last loaded {_minute(at)}" for table, at in loaded if at < deadline - slack]
    if not missed:
        return None
    shown = [*missed[:_SHOWN], *([f"and {len(missed) - _SHOWN} more"] if len(missed) > _SHOWN else [])]
    title = f"{source.title}: {len(missed)} tables are late"
    cause = f"late/{source.source}/{deadline.date()}"
    return Alert(cause, "warning", title, "\n".join([f"Due by {deadline:%Y-%m-%d %H:%M %Z}.", *shown]), once=True)


def ending(source: Source, name: str, first_seen: datetime, now: datetime) -> Alert | None:
    """A credential with a known lifetime that will soon be over, once a day; None while there is time."""
    setting = source.settings[name]
    if setting.lifetime is None or (ends := first_seen + setting.lifetime) - now > ENDING:
        return None
    days = (ends - now).days
    when = f"ends in {days} days" if days >= 0 else "should be over"
    text = (
        f"It was first used here on {first_seen:%Y-%m-%d} and is good for {setting.lifetime.days} days.\n{setting.help}"
    )
    severity: Literal["error", "warning"] = "warning" if days > 2 else "error"
    return Alert(f"credential/{name}/{now.date()}", severity, f"{source.title}: {name} {when}", text, once=True)


def _source(asset: str) -> str:
    """`tmetric` of `raw/tmetric/time_entries`; of anything else the name itself."""
    parts = asset.split("/")
    return parts[1] if len(parts) > 2 else asset


def _minute(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
