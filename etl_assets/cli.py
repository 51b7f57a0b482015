"""The `etl-assets` command: what people do beside Dagster."""

import sys
from collections.abc import Sequence

import click

from etl_assets import redact
from etl_assets.errors import EtlError, SettingError
from etl_assets.extract import check_access
from etl_assets.pipeline import Pipeline
from etl_assets.schema import schema_text
from etl_assets.spec import Source


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """SaaS APIs as trustworthy warehouse tables."""


@main.command()
@click.argument("source", required=False)
def check(source: str | None) -> None:
    """Validate stream files, settings and credentials, with one cheap call per source.

    Exit 0 when everything is ready, 1 when something is missing or refused.
    """
    try:
        pipeline = Pipeline.from_environment()
        sources = _selected(pipeline, source)
    except EtlError as error:
        raise click.ClickException(str(error)) from None
    failed = [one for one in sources if not _checked(pipeline, one)]
    sys.exit(1 if failed else 0)


def _selected(pipeline: Pipeline, name: str | None) -> Sequence[Source]:
    if name is None:
        return list(pipeline.sources.values())
    if name not in pipeline.sources:
        raise click.ClickException(f"no source {name!r}; declared: {', '.join(pipeline.sources)}")
    return [pipeline.sources[name]]


def _checked(pipeline: Pipeline, source: Source) -> bool:
    click.echo(f"{source.source}: {len(source.streams)} streams declared")
    try:
        api = pipeline.api(source)
        check_access(api)
    except SettingError as error:
        click.echo(_indented(f"not ready: {error}"))
        return False
    except EtlError as error:
        click.echo(_indented(f"refused: {redact.scrub(str(error))}"))
        return False
    click.echo(f"  ready at {api.connection.base_url}")
    return True


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())


@main.command()
def schema() -> None:
    """Print the JSON schema of stream files, for editors."""
    click.echo(schema_text(), nl=False)


@main.command(context_settings={"ignore_unknown_options": True})
@click.option("--port", default=0, show_default=True, help="First port; 0 takes free ones.")
@click.option("--seed", default=1, show_default=True, help="Same seed and scale, same data.")
@click.option("--days", default=3, show_default=True, help="Days of data, from 2026-01-05 on.")
@click.option("--scale", default=1.0, show_default=True, help="Size of the data.")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def sandbox(port: int, seed: int, days: int, scale: float, command: tuple[str, ...]) -> None:
    """Run simulators of every vendor on this machine.

    Prints the variables that point at them, then `ready`, and serves until it is stopped. With a COMMAND
    (after `--`), runs that with the variables set instead, and ends with it.
    """
    from etl_assets.sandbox.server import serve

    sys.exit(serve(port, seed, days, scale, command))
