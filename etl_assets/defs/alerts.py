"""Sensors that tell people: of failed runs, of checks in any run, of late tables and credentials about to end.

They are on from the start, and do nothing while no webhook is set. What they find becomes an alert in `watch`.
"""

import json
from collections.abc import Collection, Iterator
from datetime import UTC, datetime

import dagster as dg
from dagster_shared.error import SerializableErrorInfo

from etl_assets import watch
from etl_assets.alerts import Alert, Alerts, open_alerts
from etl_assets.defs.assets import DEADLINE_HOUR, DEADLINE_SLACK, key
from etl_assets.pipeline import Pipeline
from etl_assets.settings import lifetimes
from etl_assets.spec import Source

_OFTEN_SECONDS, _SELDOM_SECONDS = 30, 300
_NOBODY = "nobody to tell: set SLACK_WEBHOOK_URL or ALERT_WEBHOOK_URL"
_TOLD_OF = {dg.DagsterEventType.ASSET_CHECK_EVALUATION, dg.DagsterEventType.ASSET_MATERIALIZATION}


def _opened() -> Alerts:
    pipeline = Pipeline.from_environment()
    return open_alerts(pipeline.sources.values(), pipeline.settings)


def _link(alerts: Alerts, run: dg.DagsterRun) -> str | None:
    return f"{alerts.ui_url}/runs/{run.run_id}" if alerts.ui_url else None


def _asset(step: str | None) -> str:
    return (step or "").replace("__", "/")


def _cause(error: SerializableErrorInfo) -> str:
    """What a step says: where its retries were used up, what the last of them said."""
    message = _cause(error.cause) if error.cause else error.message
    return message.partition("events.Failure: ")[2] or message


def findings(instance: dg.DagsterInstance, run: dg.DagsterRun, link: str | None) -> Iterator[Alert]:
    """What the steps of a run noticed without failing: checks that did not pass, rows in quarantine."""
    for entry in instance.all_logs(run.run_id, of_type=_TOLD_OF):
        event = entry.dagster_event
        if event is None:
            continue
        if event.event_type == dg.DagsterEventType.ASSET_CHECK_EVALUATION:
            check = event.asset_check_evaluation_data
            if not check.passed:
                severity = "error" if check.severity == dg.AssetCheckSeverity.ERROR else "warning"
                details = [(name, value.value) for name, value in check.metadata.items()]
                asset = check.asset_key.to_user_string()
                yield watch.check_failed(asset, check.check_name, severity, details, link)  # type: ignore[arg-type]
        elif event.asset_key:
            rows = event.step_materialization_data.materialization.metadata.get("rows_quarantined")
            if rows is not None and rows.value:
                yield watch.quarantined(event.asset_key.to_user_string(), event.partition, int(str(rows.value)), link)


@dg.run_failure_sensor(
    name="alert_failed_runs",
    minimum_interval_seconds=_OFTEN_SECONDS,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Tells of every failed run, once per cause.",
)
def failed_runs(context: dg.RunFailureSensorContext) -> dg.SkipReason | None:
    """An alert for the run, and one for each thing that its steps noticed."""
    alerts, run = _opened(), context.dagster_run
    if not alerts:
        return dg.SkipReason(_NOBODY)
    failures = [
        (_asset(event.step_key), _cause(event.step_failure_data.error))
        for event in context.get_step_failure_events()
        if event.step_failure_data.error
    ]
    link, partition = _link(alerts, run), run.tags.get("dagster/partition")
    failed = watch.run_failed(_named(run), partition, failures, context.failure_event.message or "", link)
    alerts.send(failed, *findings(context.instance, run, link))
    return None


@dg.run_status_sensor(
    run_status=dg.DagsterRunStatus.SUCCESS,
    name="alert_checks",
    minimum_interval_seconds=_OFTEN_SECONDS,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Tells of checks that did not pass and of rows in quarantine, in runs that succeeded.",
)
def checks(context: dg.RunStatusSensorContext) -> dg.SkipReason | None:
    """An alert for each thing that the steps of the run noticed."""
    alerts = _opened()
    if not alerts:
        return dg.SkipReason(_NOBODY)
    run = context.dagster_run
    alerts.send(*findings(context.instance, run, _link(alerts, run)))
    return None


@dg.sensor(
    name="alert_watch",
    minimum_interval_seconds=_SELDOM_SECONDS,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Tells of tables that are late and of credentials about to end, and delivers what waited.",
)
def watcher(context: dg.SensorEvaluationContext) -> dg.SkipReason:
    """Looks at the tables of each source once after its deadline, and at credentials each time."""
    pipeline = Pipeline.from_environment()
    sources = pipeline.sources.values()
    alerts, now = open_alerts(sources, pipeline.settings), datetime.now(UTC)
    if not alerts:
        return dg.SkipReason(_NOBODY)
    seen: dict[str, str] = json.loads(context.cursor or "{}")
    due = {}
    for source in sources:
        deadline = watch.last_deadline(now, source.timezone, DEADLINE_HOUR)
        if seen.get(source.source) != deadline.isoformat():
            due[source.source] = (source, deadline)
    found = [
        watch.late(source, list(_loaded(context.instance, source)), deadline, DEADLINE_SLACK)
        for source, deadline in due.values()
    ]
    found += list(_credentials(alerts, sources, now))
    delivered = alerts.send(*(alert for alert in found if alert))
    context.update_cursor(json.dumps({**seen, **{name: deadline.isoformat() for name, (_, deadline) in due.items()}}))
    return dg.SkipReason(f"{delivered} alerts delivered, {len(alerts.store.waiting())} wait")


def _loaded(instance: dg.DagsterInstance, source: Source) -> Iterator[tuple[str, datetime]]:
    """Each table of the source that was ever loaded, and when it was last."""
    for stream in source.streams:
        event = instance.get_latest_materialization_event(key("warehouse", source, stream))
        if event:
            yield f"{source.source}.{stream.name}", datetime.fromtimestamp(event.timestamp, UTC)


def _credentials(alerts: Alerts, sources: Collection[Source], now: datetime) -> Iterator[Alert | None]:
    for source in sources:
        for name, value in lifetimes(source):
            seen = alerts.store.first_seen(name, value, now.timestamp())
            yield watch.ending(source, name, datetime.fromtimestamp(seen, UTC), now)


def _named(run: dg.DagsterRun) -> str:
    """The job, or the assets of a run that was started without one."""
    if run.job_name.startswith("__"):
        return ", ".join(sorted(asset.to_user_string() for asset in run.asset_selection or ())[:3]) or "a run"
    return run.job_name


def alert_sensors() -> dg.Definitions:
    """The three sensors."""
    return dg.Definitions(sensors=[failed_runs, checks, watcher])
