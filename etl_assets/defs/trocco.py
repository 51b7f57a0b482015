"""`trocco/<name>`: a job of TROCCO run to its end, the tables it writes, and the sensors that wait, start and observe.

What to put here: how Dagster asks for jobs and is told of their ends. What to keep out: everything about TROCCO.
"""

import json
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import dagster as dg
from dagster._core.storage.tags import PARENT_RUN_ID_TAG, RETRY_NUMBER_TAG

from etl_assets.defs import steps
from etl_assets.pipeline import Pipeline
from etl_assets.trocco import arrivals, decide, observe
from etl_assets.trocco.ledger import Record
from etl_assets.trocco.run import SOURCE, Request, Runner, opened
from etl_assets.trocco.spec import ByNothing, Job

log = logging.getLogger(__name__)

LAYER = "trocco"
REPORT_TAG = "etl_assets/trocco_record"  # a run that only tells how a job ended that a sensor waited for
_TICK_SECONDS = 30
_SWEEP_SECONDS = 30.0  # a tick that takes a minute is cut off by Dagster
_MOST_STARTS = 50
_MOST_LOOKS = 1_000  # where the stream file declares no rate
_MOST_REPORTS = 200
_OBSERVED_AT_FIRST_SECONDS = 86_400


def key(job: Job) -> dg.AssetKey:
    """`[trocco, name]`."""
    return dg.AssetKey([LAYER, job.name])


def partitions(job: Job) -> dg.DailyPartitionsDefinition | None:
    """Days in the job's zone, or None."""
    if job.partitions is None:
        return None
    return dg.DailyPartitionsDefinition(job.partitions.start.isoformat(), timezone=job.time_zone, end_offset=1)


def specs(job: Job) -> list[dg.AssetSpec]:
    """The job, and the tables that it writes downstream of it."""
    own = dg.AssetSpec(
        key(job),
        description=job.description or None,
        group_name=LAYER,
        kinds={"trocco", job.kind},
        deps=[name.split("/") for name in job.deps],
        partitions_def=partitions(job),
        skippable=True,
        metadata={"definition": job.definition, "wait": job.wait},
    )
    tables = [
        dg.AssetSpec(
            name.split("/"),
            description=f"Written by trocco/{job.name}.",
            group_name=LAYER,
            deps=[key(job)],
            partitions_def=partitions(job),
            skippable=True,
        )
        for name in job.produces
    ]
    return [own, *tables]


def job_asset(job: Job) -> dg.AssetsDefinition:
    """Starts the job, or attaches to it, and waits for its end unless the sensor does."""

    @dg.multi_asset(
        name=f"{LAYER}__{job.name}",
        specs=specs(job),
        can_subset=True,
        required_resource_keys={"pipeline"},
        retry_policy=steps.retry_policy(),
        pool="trocco_jobs",
    )
    def run(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult]:
        started = time.monotonic()
        with steps.reported(), opened(context.resources.pipeline) as runner:
            if reported := _to_report(context.run):
                record = runner.ledger.by_number(reported)
                record = record if record.is_open and not record.overdue else runner.success(record)
            elif job.arrivals:
                started_now = arrivals.advance(runner, job, most=_MOST_STARTS, seconds=_SWEEP_SECONDS)
                context.log.info("started %d jobs for files that have arrived", started_now)
                return
            else:
                record = _run(context, runner, _request(context, job))
        metadata = _metadata(record, runner, time.monotonic() - started)
        if record.is_open or isinstance(job.completion, ByNothing):
            text = "the sensor waits for its end" if record.is_open else "its end will not be known"
            context.log.info("started: %s", text)
            context.log_event(dg.AssetObservation(key(job), partition=record.partition or None, metadata=metadata))
            return
        for spec in specs(job):  # the job writes all of its tables, whichever the run selected
            if spec.key in context.selected_asset_keys:
                yield dg.MaterializeResult(asset_key=spec.key, metadata=metadata)
            else:
                partition = record.partition if job.partitions else None
                context.log_event(dg.AssetMaterialization(spec.key, partition=partition, metadata=metadata))

    return run


def _run(context: dg.AssetExecutionContext, runner: Runner, request: Request) -> Record:
    try:
        if request.job.wait == "step":
            return runner.run(request)
        record = runner.started(request)
        return record if record.is_open else runner.success(record)
    except (dg.DagsterExecutionInterruptedError, KeyboardInterrupt):
        _cancelled(context, runner, request)
        raise


def _cancelled(context: dg.AssetExecutionContext, runner: Runner, request: Request) -> None:
    """TROCCO's API cannot stop a job: say what becomes of it."""
    record = runner.ledger.latest(request.job.name, request.partition)
    if record is None or not record.is_open:
        return
    link = runner.trocco.link(record.kind, record.job_id)
    if request.job.on_cancel == "hand_over":
        runner.hand_over(record)
        context.log.warning("run cancelled; %s goes on, and the sensor will report its end", link)
    else:
        context.log.warning("run cancelled; %s goes on, its end is not waited for. Materialise to attach", link)


def _request(context: dg.AssetExecutionContext, job: Job) -> Request:
    """The request of the run that asked first: an automatic retry asks for the run that it retries."""
    run = context.run
    while RETRY_NUMBER_TAG in run.tags and PARENT_RUN_ID_TAG in run.tags:
        parent = context.instance.get_run_by_id(run.tags[PARENT_RUN_ID_TAG])
        if parent is None:
            break
        run = parent
    record = context.instance.get_run_record_by_id(run.run_id)
    asked_at = record.create_timestamp.timestamp() if record else time.time()
    partition = context.partition_key if job.partitions else ""
    return Request(job, partition, run.run_id, asked_at, handed_over=job.wait == "sensor")


def _to_report(run: dg.DagsterRun) -> int | None:
    """The record that the run tells the end of. A person who runs it again wants the job run again."""
    by_hand = PARENT_RUN_ID_TAG in run.tags and RETRY_NUMBER_TAG not in run.tags
    return None if by_hand or REPORT_TAG not in run.tags else int(run.tags[REPORT_TAG])


def _metadata(record: Record, runner: Runner, seconds: float) -> dict[str, dg.MetadataValue]:
    """What is known of the job. Seconds are TROCCO's own where it tells, else between two looks."""
    facts = record.facts
    moments = {
        name: datetime.fromisoformat(str(facts[name])).timestamp()
        for name in ("created_at", "started_at", "finished_at")
        if name in facts
    }
    created = moments.get("created_at", record.intended_at)
    ended = moments.get("finished_at", record.ended_at)
    seen = record.left_queue_at if record.left_queue_at != record.ended_at else None  # else seen at the end only
    begun = moments.get("started_at", seen)
    found: dict[str, dg.MetadataValue] = {
        "job_id": dg.MetadataValue.int(record.job_id or 0),
        "job": dg.MetadataValue.url(runner.trocco.link(record.kind, record.job_id)),
        "outcome": dg.MetadataValue.text(record.outcome or "started"),
        "seconds": dg.MetadataValue.float(round(seconds, 3)),
    }
    if begun is not None:
        found["queue_seconds"] = dg.MetadataValue.float(round(begun - created, 3))
        if ended is not None:
            found["run_seconds"] = dg.MetadataValue.float(round(ended - begun, 3))
    for name, shown in (("transfer_records", "records"), ("transfer_bytes", "bytes"), ("skipped_records",) * 2):
        if name in facts:
            found[shown] = dg.MetadataValue.int(int(facts[name]))
    return found


def waiting_sensor(jobs: Mapping[str, Job]) -> dg.SensorDefinition:
    """Waits for every job that a run has handed over, and tells how it ended."""
    afterwards = {path for job in jobs.values() for path in job.then}
    targets = [key(job) for job in jobs.values()] + [dg.AssetKey(path.split("/")) for path in sorted(afterwards)]

    @dg.sensor(
        name="trocco_open_jobs",
        asset_selection=dg.AssetSelection.assets(*targets),
        minimum_interval_seconds=_TICK_SECONDS,
        description="Looks at all open jobs within the rate limit, and materialises or fails their assets.",
    )
    def sensor(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        cursor = json.loads(context.cursor or '{"ended": 0, "at": 0}')
        pipeline = Pipeline.from_environment()
        rates = pipeline.sources[SOURCE].limits.rates.get("default", ())
        now = time.time()
        with steps.reported(), opened(pipeline, hurried=True) as runner:
            since = now - cursor["at"]
            most = min((decide.allowance(rate.count, rate.seconds, since) for rate in rates), default=_MOST_LOOKS)
            looked = runner.sweep(jobs, most=most, seconds=_SWEEP_SECONDS)
            ends = runner.ledger.ended_after(cursor["ended"], _MOST_REPORTS)
            told = [record for record in ends if record.handed_over and record.job in jobs]
            reports = [_report(jobs[record.job], record, runner, context) for record in told]
        last = ends[-1].ended if ends else cursor["ended"]
        return dg.SensorResult(
            asset_events=[event for events, _ in reports for event in events],
            run_requests=[request for _, requests in reports for request in requests],
            cursor=json.dumps({"ended": last, "at": now}),
            skip_reason=None if told else f"looked at {looked} jobs, none has ended",
        )

    return sensor


def _report(
    job: Job, record: Record, runner: Runner, context: dg.SensorEvaluationContext
) -> tuple[list[dg.AssetMaterialization], list[dg.RunRequest]]:
    """Success as materialisations, and a run of what comes then; anything else as a run of the asset that fails."""
    name = f"{key(job).to_user_string()}/{record.partition}/{record.id}"
    day = record.partition if job.partitions else None
    if record.outcome != "succeeded":
        request = dg.RunRequest(
            run_key=f"{name}/{record.ended}",
            asset_selection=[key(job)],
            partition_key=day,
            tags={REPORT_TAG: str(record.id)},
        )
        return [], [request]
    metadata = _metadata(record, runner, (record.ended_at or 0) - record.intended_at)
    if job.arrivals:
        metadata["files"] = dg.MetadataValue.json(list(runner.ledger.files(job.name, int(record.partition))))
    paths = [key(job).path, *(path.split("/") for path in job.produces)]
    events = [dg.AssetMaterialization(path, partition=day, metadata=metadata) for path in paths]
    if not job.then:
        return events, []
    return events, [
        dg.RunRequest(
            run_key=f"then/{name}",
            asset_selection=[dg.AssetKey(path.split("/")) for path in job.then],
            partition_key=day,
        )
    ]


def arrivals_sensor(jobs: Sequence[Job]) -> dg.SensorDefinition:
    """Starts a job for every file that arrives. The ledger is its cursor."""

    @dg.sensor(
        name="trocco_arrivals",
        asset_selection=dg.AssetSelection.assets(*map(key, jobs)),
        minimum_interval_seconds=_TICK_SECONDS,
        description="Lists the folders that jobs wait for, and starts a job per file or batch, each once.",
    )
    def sensor(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        with steps.reported(), opened(Pipeline.from_environment(), hurried=True) as runner:
            share = _SWEEP_SECONDS / len(jobs)
            started = sum(arrivals.advance(runner, job, most=_MOST_STARTS, seconds=share) for job in jobs)
        return dg.SkipReason(f"started {started} jobs; no run is needed")

    return sensor


def observer_sensor(jobs: Sequence[Job]) -> dg.SensorDefinition:
    """Shows the runs that TROCCO starts by itself."""

    @dg.sensor(
        name="trocco_observer",
        asset_selection=dg.AssetSelection.assets(*map(key, jobs)),
        minimum_interval_seconds=2 * _TICK_SECONDS,
        description="Reads the history of transfers that TROCCO's own schedule starts.",
    )
    def sensor(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        marks = json.loads(context.cursor or "{}")
        events: list[dg.AssetMaterialization | dg.AssetObservation | dg.AssetCheckEvaluation] = []
        with steps.reported(), opened(Pipeline.from_environment(), hurried=True) as runner:
            for job in jobs:
                first = {"since": time.time() - _OBSERVED_AT_FIRST_SECONDS, "seen": []}
                mark = marks.get(job.name, first)
                mark = observe.Mark(mark["since"], tuple(mark["seen"]))
                found, mark = observe.news(runner.trocco.history(job.definition, mark.since), mark)
                marks[job.name] = asdict(mark)
                for state in found:
                    metadata = {
                        "job_id": state.id,
                        "job": dg.MetadataValue.url(runner.trocco.link(job.kind, state.id)),
                        "outcome": state.status,
                        **state.facts,
                    }
                    if state.status != "succeeded":
                        events.append(dg.AssetObservation(key(job), metadata=metadata))
                        continue
                    for path in [key(job).path, *(path.split("/") for path in job.produces)]:
                        events.append(dg.AssetMaterialization(path, metadata=metadata))
        return dg.SensorResult(asset_events=events, cursor=json.dumps(marks))

    return sensor


def schedule(job: Job) -> dg.ScheduleDefinition:
    """The job's own cron: yesterday of a daily job, else the job. Delivered stopped, as all schedules are."""

    @dg.schedule(
        name=f"{LAYER}_{job.name}_schedule",
        cron_schedule=str(job.cron),
        execution_timezone=job.time_zone,
        target=dg.AssetSelection.assets(*(spec.key for spec in specs(job))),
    )
    def at(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
        tick = context.scheduled_execution_time.astimezone(ZoneInfo(job.time_zone))
        day = (tick.date() - timedelta(days=1)).isoformat() if job.partitions else None
        return dg.RunRequest(run_key=tick.astimezone(UTC).isoformat(), partition_key=day)

    return at


def trocco_jobs(jobs: Mapping[str, Job]) -> dg.Definitions:
    """The assets, sensors and schedules of all declared jobs."""
    here = {name: job for name, job in jobs.items() if job.started == "here"}
    elsewhere = [job for job in jobs.values() if job.started == "elsewhere"]
    arriving = [job for job in here.values() if job.arrivals]
    sensors = [waiting_sensor(here)] if here else []
    sensors += [arrivals_sensor(arriving)] if arriving else []
    sensors += [observer_sensor(elsewhere)] if elsewhere else []
    return dg.Definitions(
        assets=[*map(job_asset, here.values()), *(spec for job in elsewhere for spec in specs(job))],
        sensors=sensors,
        schedules=[schedule(job) for job in here.values() if job.cron],
    )
