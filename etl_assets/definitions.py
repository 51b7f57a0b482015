"""Entry point of the Dagster project."""

import functools

import dagster as dg

from etl_assets.defs.assets import stream_assets
from etl_assets.defs.jobs import jobs_and_schedules
from etl_assets.defs.marts import marts
from etl_assets.defs.reconcile import reconcile_jobs
from etl_assets.defs.resources import resources
from etl_assets.pipeline import Pipeline


@dg.definitions
@functools.cache  # a single run asks for them seven times; a code location is reloaded in a new process
def defs() -> dg.Definitions:
    """Everything in `etl_assets/defs`, for every declared source.

    The steps of a run share one process: starting a process for each costs more than most steps do.
    """
    sources = Pipeline.from_environment().sources.values()
    return dg.Definitions.merge(
        stream_assets(sources),
        jobs_and_schedules(sources),
        resources(sources),
        marts(),
        reconcile_jobs(sources),
        dg.Definitions(executor=dg.in_process_executor),
    )
