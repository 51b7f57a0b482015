"""Pushes as assets: `push/<target>/<name>`, behind the tables that their rows come from."""

from collections.abc import Iterable

import dagster as dg

from etl_assets.defs import steps
from etl_assets.mart import SCHEMA, tables_read
from etl_assets.push.ledger import Entry
from etl_assets.push.run import Pushed, push
from etl_assets.push.spec import Push, Target

_CRON = "30 8 * * *"
_CHECK = "no_dead_letters"
_SEVERITY = {"warn": dg.AssetCheckSeverity.WARN, "error": dg.AssetCheckSeverity.ERROR}


def push_asset(target: Target, declared: Push) -> dg.AssetsDefinition:
    """One push: its rows written to the target."""
    key = dg.AssetKey(["push", target.name, declared.name])
    spec = dg.AssetSpec(
        key,
        description=f"{target.title}: {declared.description}" if declared.description else target.title,
        group_name=target.name,
        kinds={"push", "api" if declared.mode == "send" else "json"},
        deps=_origins(declared),
    )

    @dg.multi_asset(
        name="__".join(key.path),
        specs=[spec],
        check_specs=[dg.AssetCheckSpec(_CHECK, asset=key, description="Every record is sent, or will be.")],
        required_resource_keys={"pipeline"},
        retry_policy=steps.retry_policy(),
        pool=target.name,
    )
    def written(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        with steps.reported():
            done = push(context.resources.pipeline, target, declared, context.run.run_id)
        return dg.MaterializeResult(
            metadata={
                "sent": done.written,
                "deleted": done.deleted,
                "unchanged": done.unchanged,
                "rejected": done.refused,
                **{state: done.states.get(state, 0) for state in ("pending", "dead", "unknown", "dropped")},
                "dagster/uri": done.where,
                "requests": done.requests,
                "seconds": round(done.seconds, 3),
                "seconds_waiting_for_limits": round(done.waited_seconds, 3),
                "problems": _problems(done.problems),
            },
            check_results=[_check(key, declared, done)],
        )

    return written


def _check(key: dg.AssetKey, declared: Push, done: Pushed) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        check_name=_CHECK,
        asset_key=key,
        passed=not done.dead,
        severity=_SEVERITY[declared.dead_letters],
        metadata={
            **{state: done.states.get(state, 0) for state in ("dead", "unknown")},
            "next": "etl-assets queue list",
        },
    )


def _problems(entries: list[Entry]) -> dg.MarkdownMetadataValue:
    rows = [(entry.record_id, entry.state, entry.attempts, entry.reason or "") for entry in entries]
    return steps.markdown([("id", "state", "attempts", "reason"), *rows])


def _origins(declared: Push) -> list[dg.AssetKey]:
    """The assets whose tables, or clean files, are read."""
    clean = [dg.AssetKey(["clean", *declared.origin.clean.split(".")])] if declared.origin.clean else []
    names = [declared.origin.table] if declared.origin.table else []
    names += [reference.table for reference in declared.lookups.values()]
    tables = {(schema, table) for schema, table in (name.split(".") for name in names)}
    if declared.origin.sql:
        tables |= set(tables_read(declared.origin.sql))
    return clean + [
        dg.AssetKey([*([] if schema == SCHEMA else ["warehouse"]), schema, table]) for schema, table in sorted(tables)
    ]


def pushes(targets: Iterable[Target]) -> dg.Definitions:
    """Every push; per target the job `<target>_push` that runs them all, and its schedule after the marts."""
    assets, jobs, schedules = [], [], []
    for target in targets:
        own = [push_asset(target, declared) for declared in target.pushes]
        job = dg.define_asset_job(
            f"{target.name}_push",
            selection=dg.AssetSelection.assets(*own),
            description=f"{target.title}: every push.",
        )
        assets += own
        jobs.append(job)
        schedules.append(
            dg.ScheduleDefinition(
                name=f"{target.name}_push_schedule",
                job=job,
                cron_schedule=_CRON,
                execution_timezone=target.timezone,
            )
        )
    return dg.Definitions(assets=assets, jobs=jobs, schedules=schedules)
