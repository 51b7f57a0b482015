"""`etl-assets trocco`: what a person decides, sees, and sets up around TROCCO's jobs."""

from datetime import UTC, datetime

import click

from etl_assets import redact
from etl_assets.errors import EtlError


@click.group()
def trocco() -> None:
    """Jobs of TROCCO: what is open, and what only a person can decide."""


@trocco.command()
def status() -> None:
    """List the jobs whose end is not known yet."""
    from etl_assets.pipeline import Pipeline
    from etl_assets.trocco.run import ledger_of

    try:
        records = ledger_of(Pipeline.from_environment()).open_runs()
    except EtlError as error:
        raise click.ClickException(str(error)) from None
    for one in records:
        at = datetime.fromtimestamp(one.intended_at, UTC).isoformat(timespec="seconds")
        number = one.job_id or "its answer is lost"
        click.echo(f"trocco/{one.job} {one.partition or '-'}: {one.kind} {number}, {one.status or '?'}, from {at}")
    click.echo(f"{len(records)} open")


@trocco.command()
@click.argument("name")
@click.option("--partition", default="", help="Day, or number of the batch of files.")
@click.option("--job-id", type=int, help="It was started: the number in the address of its page.")
@click.option("--not-started", is_flag=True, help="It was not started.")
def resolve(name: str, partition: str, job_id: int | None, not_started: bool) -> None:
    """Say what became of a trigger whose answer was lost, where the API cannot tell."""
    from etl_assets.pipeline import Pipeline
    from etl_assets.trocco.run import ledger_of, resolve_lost

    if (job_id is None) != not_started:
        raise click.UsageError("give either --job-id or --not-started")
    try:
        resolve_lost(ledger_of(Pipeline.from_environment()), name, partition, job_id)
    except EtlError as error:
        raise click.ClickException(str(error)) from None
    click.echo(f"trocco/{name}: noted; materialise it again")


@trocco.command()
@click.argument("name")
@click.option("--partition", default="", help="Day, or number of the batch of files.")
def again(name: str, partition: str) -> None:
    """Let a job that has ended be started again by whoever asks next, such as the sensor of a batch of files."""
    from etl_assets.pipeline import Pipeline
    from etl_assets.trocco.run import ledger_of, start_again

    try:
        start_again(ledger_of(Pipeline.from_environment()), name, partition)
    except EtlError as error:
        raise click.ClickException(str(error)) from None
    click.echo(f"trocco/{name}: will be started again")


@trocco.command()
@click.argument("workflow", type=int)
def parts(workflow: int) -> None:
    """Print the parts of a workflow as jobs of their own, which take variables."""
    from etl_assets.pipeline import Pipeline
    from etl_assets.trocco.parts import parts_text
    from etl_assets.trocco.run import opened

    try:
        with opened(Pipeline.from_environment()) as runner:
            made = parts_text(runner.trocco.pipeline_definitions.get(workflow))
    except EtlError as error:
        raise click.ClickException(redact.scrub(str(error))) from None
    for warning in made.warnings:
        click.echo(f"warning: {warning}", err=True)
    click.echo(made.text, nl=False)


@trocco.command()
@click.option("--port", default=8765, show_default=True, help="Port on 127.0.0.1; 0 takes a free one.")
def listen(port: int) -> None:
    """Receive TROCCO's HTTP notifications, for datamarts with `completion: {by: notification}`."""
    from etl_assets.pipeline import Pipeline
    from etl_assets.trocco.listen import receiver

    try:
        server = receiver(Pipeline.from_environment(), port)
    except EtlError as error:
        raise click.ClickException(str(error)) from None
    click.echo(f"listening on http://127.0.0.1:{server.server_port}")
    with server:
        server.serve_forever()
