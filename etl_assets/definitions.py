"""Entry point of the Dagster project."""

import functools

import dagster as dg

from etl_assets.defs.alerts import alert_sensors
from etl_assets.defs.assets import stream_assets
from etl_assets.defs.exports import exports
from etl_assets.defs.jobs import jobs_and_schedules
from etl_assets.defs.marts import marts
from etl_assets.defs.reconcile import reconcile_jobs
from etl_assets.defs.replay import replay_job
from etl_assets.defs.resources import resources
from etl_assets.pipeline import Pipeline


@dg.definitions
@functools.cache  # a single run asks for them seven times; a code location is reloaded in a new process
def defs() -> dg.Definitions:
    """Everything in `etl_assets/defs`, for every declared source.

    The steps of a run share one process: starting a process for each costs more than most steps do.
    """
    pipeline = Pipeline.from_environment()
    sources = pipeline.sources.values()
    return dg.Definitions.merge(
        stream_assets(sources),
        jobs_and_schedules(sources),
        resources(sources),
        marts(),
        exports(pipeline.sources, pipeline.settings.sources_dir),
        reconcile_jobs(sources),
        replay_job(),
        alert_sensors(),
        dg.Definitions(executor=dg.in_process_executor),
    )
