"""Commands for whoever looks after the runs: replay, request, trace, alert.

What belongs here: reading the command line and printing. The work is done by the module of the feature.
"""

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date, datetime

import click

from etl_assets import redact
from etl_assets.errors import EtlError, FinalError
from etl_assets.pipeline import Pipeline
from etl_assets.spec import Source, Stream
from etl_assets.window import Window

_Day = click.DateTime(["%Y-%m-%d"])


@contextmanager
def _told() -> Iterator[None]:
    """Errors of the library as those of a command, without secrets."""
    try:
        yield
    except EtlError as error:
        raise click.ClickException(redact.scrub(str(error))) from None


def _date(moment: datetime | None) -> date | None:
    return moment.date() if moment else None


def _stream(pipeline: Pipeline, source: str, stream: str) -> tuple[Source, Stream]:
    if source not in pipeline.sources:
        raise FinalError(f"no source {source!r}; declared: {', '.join(pipeline.sources)}")
    declared = pipeline.sources[source]
    names = [one.name for one in declared.streams]
    if stream not in names:
        raise FinalError(f"{source} has no stream {stream!r}; declared: {', '.join(names)}")
    return declared, declared.stream(stream)


def _partition(text: str = "The day.") -> Callable[..., Callable[..., None]]:
    return click.option("--partition", type=_Day, metavar="DAY", help=text)


@click.command()
@click.argument("source")
@click.argument("stream")
@_partition("The day; by default every day that has raw files.")
@click.option("--from", "first", type=_Day, metavar="DAY", help="First day.")
@click.option("--to", "last", type=_Day, metavar="DAY", help="Last day, included.")
@click.option("--dry-run", is_flag=True, help="Only say what would be cleaned and loaded.")
def replay(
    source: str, stream: str, partition: datetime | None, first: datetime | None, last: datetime | None, dry_run: bool
) -> None:
    """Clean and load again from the raw files, without asking the API.

    For a stream whose columns were changed. Child tables come with their parent. Loads that change nothing leave the
    table alone. The first day that fails ends it; those before are done.
    """
    from etl_assets.replay import plan
    from etl_assets.replay import replay as replayed

    if partition and (first or last):
        raise click.UsageError("give --partition, or --from and --to")
    run_id = f"replay-{uuid.uuid4()}"
    with _told():
        pipeline = Pipeline.from_environment()
        declared, one = _stream(pipeline, source, stream)
        days = (_date(partition or first), _date(partition or last))
        for planned in plan(pipeline, declared, one, *days):
            at = planned.day or "snapshot"
            if dry_run:
                changed = "read under another declaration" if planned.outdated else "read under this declaration"
                click.echo(f"{at}: {planned.raw.rows} rows of {planned.raw.created_at:.16}, {changed}")
                continue
            for done in replayed(pipeline, planned, run_id):
                what = "loaded" if done.changed else "already there"
                aside = f", {done.quarantined} in quarantine" if done.quarantined else ""
                click.echo(f"{at}: {done.table}: {done.rows} rows {what}{aside}")


@click.command()
@click.argument("source")
@click.argument("stream")
@_partition()
def request(source: str, stream: str, partition: datetime | None) -> None:
    """Show the first request that a stream would send. Nothing is sent.

    Names of headers, never their values; of the body what the stream file says, and the names of what the
    authorisation adds.
    """
    from etl_assets.preview import described

    with _told():
        pipeline = Pipeline.from_environment()
        declared, one = _stream(pipeline, source, stream)
        if one.of:
            raise FinalError(f"{one.name} sends no request: its rows come with those of {one.of.stream}")
        if bool(one.window) != bool(partition):
            raise FinalError(f"{one.name} " + ("is read by the day: give --partition" if one.window else "has no days"))
        window = Window.of_day(partition.date(), declared.timezone) if partition else None
        api = pipeline.api(declared)
        try:
            click.echo("\n\n".join(described(api, pipeline.settings, one, window)))
        finally:
            api.client.close()


@click.command()
@click.argument("table", metavar="SOURCE.STREAM")
@click.argument("key", nargs=-1, required=True)
def trace(table: str, key: tuple[str, ...]) -> None:
    """Say where a row came from: run, day, raw file, and the page and line in it.

    KEY is the row's key: its values in the order of the stream's `key`, or `column=value` pairs.
    """
    from etl_assets.settings import AlertSettings
    from etl_assets.trace import key_of, set_aside, told
    from etl_assets.trace import trace as traced

    with _told():
        pipeline = Pipeline.from_environment()
        source, _, stream = table.partition(".")
        declared, one = _stream(pipeline, source, stream)
        sought, ui_url = key_of(one, key), AlertSettings.read().ui_url
        rows = traced(pipeline, declared, one, sought)
        for row in rows:
            click.echo("\n".join(f"{name:10} {value}" for name, value in told(row, ui_url)) + "\n")
        if rows:
            return
        shown = ", ".join(f"{name}={value}" for name, value in sought.items())
        for aside in set_aside(pipeline, declared, one, sought):
            click.echo(f"{shown} is in ops.quarantine: {aside.reason} (day {aside.day}, run {aside.run_id})")
        raise FinalError(f"{table} has no row with {shown}")


@click.command()
@click.argument("title")
@click.option("--text", default="", help="What happened.")
@click.option("--severity", type=click.Choice(["error", "warning"]), default="error", show_default=True)
def alert(title: str, text: str, severity: str) -> None:
    """Send an alert to the webhooks of the settings, as runs do when they fail.

    To try a webhook, or where no Dagster daemon looks at runs: `dagster asset materialize … || etl-assets alert "…"`.
    """
    from etl_assets.alerts import Alert, open_alerts

    with _told():
        pipeline = Pipeline.from_environment()
        alerts = open_alerts(pipeline.sources.values(), pipeline.settings)
        if not alerts:
            raise FinalError("nobody to tell: set SLACK_WEBHOOK_URL or ALERT_WEBHOOK_URL")
        sent = alerts.send(Alert(f"command/{title}", "error" if severity == "error" else "warning", title, text))
        waiting = alerts.store.waiting()
    for one in waiting:
        click.echo(f"{one.title!r} waits for {one.webhook} since {one.created_at}: {one.error or 'another process'}")
    if waiting:
        raise SystemExit(1)
    click.echo("delivered" if sent else f"held back: told within the last {alerts.window_minutes:g} minutes")
