"""Commands for whoever looks after the runs: alert.

What belongs here: reading the command line and printing. The work is done by the module of the feature.
"""

import click

from etl_assets import redact
from etl_assets.errors import EtlError
from etl_assets.pipeline import Pipeline


@click.command()
@click.argument("title")
@click.option("--text", default="", help="What happened.")
@click.option("--severity", type=click.Choice(["error", "warning"]), default="error", show_default=True)
def alert(title: str, text: str, severity: str) -> None:
    """Send an alert to the webhooks of the settings, as runs do when they fail.

    To try a webhook, or where no Dagster daemon looks at runs: `dagster asset materialize … || etl-assets alert "…"`.
    """
    from etl_assets.alerts import Alert, open_alerts

    try:
        pipeline = Pipeline.from_environment()
        alerts = open_alerts(pipeline.sources.values(), pipeline.settings)
        if not alerts:
            raise click.ClickException("nobody to tell: set SLACK_WEBHOOK_URL or ALERT_WEBHOOK_URL")
        told = alerts.send(Alert(f"command/{title}", "error" if severity == "error" else "warning", title, text))
        waiting = alerts.store.waiting()
    except EtlError as error:
        raise click.ClickException(redact.scrub(str(error))) from None
    for one in waiting:
        click.echo(f"{one.title!r} waits for {one.webhook} since {one.created_at}: {one.error or 'another process'}")
    if waiting:
        raise SystemExit(1)
    click.echo("delivered" if told else f"held back: told within the last {alerts.window_minutes:g} minutes")
