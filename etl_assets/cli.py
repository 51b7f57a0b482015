"""The `etl-assets` command: what people do beside Dagster."""

import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import click

from etl_assets import commands, redact
from etl_assets.errors import EtlError, SettingError
from etl_assets.export import load_exports
from etl_assets.extract import check_access
from etl_assets.pipeline import Pipeline
from etl_assets.push.files import load_targets
from etl_assets.push.queue import queue
from etl_assets.push.send import try_target
from etl_assets.schema import push_schema_text, schema_text
from etl_assets.settings import AlertSettings, Settings
from etl_assets.spec import Source
from etl_assets.sql.cli import explain, sql
from etl_assets.trocco.cli import trocco
from etl_assets.trocco.spec import load_jobs


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """SaaS APIs as trustworthy warehouse tables."""


for _command in (commands.replay, commands.request, commands.trace, commands.alert):
    main.add_command(_command)
main.add_command(queue)
main.add_command(trocco)
main.add_command(sql)
main.add_command(explain)


@main.command()
@click.argument("source", required=False)
def check(source: str | None) -> None:
    """Validate all declarations, settings and credentials, with one cheap call per source.

    Without SOURCE, all sources. The name of a push target checks that. With BigQuery also bucket and project, and what
    looking at the tables would bill.

    Exit 0 when everything is ready, 1 when something is missing or refused.
    """
    try:
        pipeline = Pipeline.from_environment()
        targets = load_targets(pipeline.settings.sources_dir)
        load_exports(pipeline.settings.sources_dir)
        load_jobs(pipeline.settings.sources_dir)
        AlertSettings.read()
        if source in targets and source not in pipeline.sources:
            click.echo(f"{source}: {len(targets[source].pushes)} pushes declared")
            sys.exit(0 if _ready(lambda: try_target(targets[source], pipeline.settings)) else 1)
        sources = _selected(pipeline, source)
    except EtlError as error:
        raise click.ClickException(str(error)) from None
    ready = [_checked(pipeline, one) for one in sources]
    if pipeline.settings.warehouse == "bigquery":
        ready.append(_checked_google(pipeline, sources))
    sys.exit(0 if all(ready) else 1)


def _selected(pipeline: Pipeline, name: str | None) -> Sequence[Source]:
    if name is None:
        return list(pipeline.sources.values())
    if name not in pipeline.sources:
        raise click.ClickException(f"no source {name!r}; declared: {', '.join(pipeline.sources)}")
    return [pipeline.sources[name]]


def _checked(pipeline: Pipeline, source: Source) -> bool:
    def tried() -> str:
        api = pipeline.api(source)
        check_access(api)
        return api.connection.base_url

    click.echo(f"{source.source}: {len(source.streams)} streams declared")
    return _ready(tried)


def _ready(tried: Callable[[], str]) -> bool:
    """Try a service, whose address `tried` gives, and say how it went."""
    try:
        address = tried()
    except SettingError as error:
        click.echo(_indented(f"not ready: {error}"))
        return False
    except EtlError as error:
        click.echo(_indented(f"refused: {redact.scrub(str(error))}"))
        return False
    click.echo(f"  ready at {address}")
    return True


def _checked_google(pipeline: Pipeline, sources: Sequence[Source]) -> bool:
    """Whether bucket and project answer; says what one look at each source's tables would bill, by dry runs."""
    from etl_assets.warehouse.bigquery import readiness

    click.echo("bigquery:")
    try:
        for line in readiness(pipeline.warehouse, sources):
            click.echo(f"  {line}")
    except EtlError as error:
        click.echo(_indented(f"not ready: {redact.scrub(str(error))}"))
        return False
    return True


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())


@main.command()
@click.argument("kind", type=click.Choice(["streams", "push"]), default="streams")
def schema(kind: str) -> None:
    """Print the JSON schema of stream files or push files, for editors."""
    click.echo(push_schema_text() if kind == "push" else schema_text(), nl=False)


@main.command("import-qeasy")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--source", help="Name of the source; by default qeasy_ and the vendor's.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="File to write instead of printing.")
def import_qeasy(file: Path, source: str | None, out: Path | None) -> None:
    """Turn Qeasy scheme metadata (JSON) into a stream file.

    What a stream file cannot carry is told as warnings, here and at the head of the file.
    """
    from etl_assets.qeasy.convert import convert
    from etl_assets.scaffold import write_text

    try:
        imported = convert(file.read_text("utf-8-sig"), name=source, origin=file.name)
        if out:
            write_text(imported.text, out)
    except (EtlError, OSError, UnicodeDecodeError) as error:
        raise click.ClickException(str(error)) from None
    _warn(imported.warnings)
    if not out:
        click.echo(imported.text, nl=False)


@main.command()
@click.argument("source", type=click.Choice(["fxiaoke"]))
@click.argument("object_name", metavar="OBJECT_API_NAME")
@click.option("--name", help="Name of the stream; by default that of the object.")
def scaffold(source: str, object_name: str, name: str | None) -> None:
    """Print the lines of a stream for an object of Fxiaoke, out of its describe.

    They stand below `streams:` in a copy of the packaged file, in the folder that ETL_SOURCES_DIR names.
    """
    from etl_assets.scaffold import scaffold as scaffolded

    try:
        pipeline = Pipeline.from_environment()
        api = pipeline.api(pipeline.sources[source])
        try:
            made = scaffolded(api, object_name, name)
        finally:
            api.client.close()
    except EtlError as error:
        raise click.ClickException(redact.scrub(str(error))) from None
    _warn(made.warnings)
    click.echo(made.text, nl=False)


def _warn(warnings: Sequence[str]) -> None:
    for warning in warnings:
        click.echo(f"warning: {warning}", err=True)


@main.command(context_settings={"ignore_unknown_options": True})
@click.option("--port", type=click.IntRange(0, 65_500), default=0, show_default=True, help="First port; 0: free ones.")
@click.option("--seed", default=1, show_default=True, help="Same seed, days and scale: same data.")
@click.option("--days", type=click.IntRange(1), default=3, show_default=True, help="Days of data, from 2026-01-05 on.")
@click.option(
    "--scale", type=click.FloatRange(0, min_open=True), default=1.0, show_default=True, help="Size of the data."
)
@click.option("--google", is_flag=True, help="Emulators of BigQuery and Cloud Storage as well (test dependencies).")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def sandbox(port: int, seed: int, days: int, scale: float, google: bool, command: tuple[str, ...]) -> None:
    """Run simulators of every vendor on this machine.

    Prints the variables that point at them, then `ready`, and serves until it is stopped. With a COMMAND
    (after `--`), runs that with the variables set instead, and ends with it.
    """
    from etl_assets.sandbox.server import serve

    with ExitStack() as stack:
        more = {}
        if google:
            from etl_assets.sandbox.google.handle import running

            more = stack.enter_context(running(Settings.read().data_dir / "google")).env()
        sys.exit(serve(port, seed, days, scale, command, more))
