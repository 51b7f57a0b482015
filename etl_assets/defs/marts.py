"""Marts as assets: `mart/<name>`, rebuilt as a whole from the warehouse tables that its SELECT reads."""

import time

import dagster as dg

from etl_assets.defs import steps
from etl_assets.defs.assets import warehouse_kind
from etl_assets.mart import SCHEMA, Mart, load_marts

_CRON = "0 8 * * *"


def mart_asset(mart: Mart) -> dg.AssetsDefinition:
    """The table of a mart."""
    spec = dg.AssetSpec(
        [SCHEMA, mart.name],
        description=mart.description,
        group_name=SCHEMA,
        kinds={warehouse_kind(), "sql"},
        deps=[origin(schema, table) for schema, table in mart.tables],
    )

    @dg.multi_asset(
        name=f"{SCHEMA}__{mart.name}",
        specs=[spec],
        required_resource_keys={"pipeline"},
        retry_policy=steps.retry_policy(),
        pool="warehouse",
    )
    def build(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        started = time.monotonic()
        with steps.reported():
            built = context.resources.pipeline.warehouse.build(mart)
        return dg.MaterializeResult(
            metadata={
                "dagster/row_count": built.rows,
                "dagster/table_name": f"{SCHEMA}.{mart.name}",
                "dagster/uri": built.uri,
                "sql": dg.MetadataValue.md(f"```sql\n{mart.sql}\n```"),
                "sample": steps.markdown(built.sample),
                "seconds": time.monotonic() - started,
            }
        )

    return build


def origin(schema: str, table: str) -> dg.AssetKey:
    """The asset that makes a table."""
    return dg.AssetKey([schema, table] if schema == SCHEMA else ["warehouse", schema, table])


def marts() -> dg.Definitions:
    """Every mart, the job that builds them all, and its schedule after the daily loads."""
    assets = [mart_asset(mart) for mart in load_marts()]
    job = dg.define_asset_job("marts", selection=dg.AssetSelection.groups(SCHEMA), description="Builds every mart.")
    schedule = dg.ScheduleDefinition(
        name="marts_schedule", job=job, cron_schedule=_CRON, execution_timezone="Asia/Tokyo"
    )
    return dg.Definitions(assets=assets, jobs=[job], schedules=[schedule])
