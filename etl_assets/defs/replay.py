"""`replay`: clean and load again from the raw files, without asking the API."""

from datetime import date

import dagster as dg

from etl_assets.defs import steps
from etl_assets.defs.assets import key
from etl_assets.errors import FinalError
from etl_assets.replay import plan
from etl_assets.replay import replay as replayed


class ReplayRange(dg.Config):
    """What to replay: days `first` to `last`, both included (`YYYY-MM-DD`); by default all that have raw files."""

    source: str
    stream: str
    first: str | None = None
    last: str | None = None

    def days(self) -> tuple[date | None, date | None]:
        """The range. Raises ValueError for anything but days."""
        first, last = (date.fromisoformat(text) if text else None for text in (self.first, self.last))
        return first, last


def replay_job() -> dg.Definitions:
    """The job. Start it in the launchpad with the stream, and the days if not all."""

    @dg.op(
        name="replay_days",
        description="Cleans and loads the days of a stream again, oldest first, with its child tables.",
        required_resource_keys={"pipeline"},
        retry_policy=steps.retry_policy(),
        pool="warehouse",
    )
    def replay_days(context: dg.OpExecutionContext, config: ReplayRange) -> None:
        pipeline = context.resources.pipeline
        table: list[tuple[object, ...]] = [("day", "table", "rows", "quarantined", "changed")]
        with steps.reported():
            source = pipeline.sources.get(config.source)
            if source is None or config.stream not in {stream.name for stream in source.streams}:
                raise FinalError(f"there is no stream {config.source}/{config.stream}")
            for planned in plan(pipeline, source, source.stream(config.stream), *config.days()):
                partition = planned.day.isoformat() if planned.day else None
                for done in replayed(pipeline, planned, context.run.run_id):
                    table.append((partition, done.table, done.rows, done.quarantined, done.changed))
                    loaded = key("warehouse", source, source.stream(done.table.partition(".")[2]))
                    context.log_event(dg.AssetMaterialization(loaded, partition=partition))
        context.add_output_metadata({"loads": steps.markdown(table)})

    @dg.job(name="replay", description=replay_days.description)
    def job() -> None:
        replay_days()

    return dg.Definitions(jobs=[job])
