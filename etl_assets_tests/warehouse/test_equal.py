"""The same streams in both warehouses: equal content, by a hash per table."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path

import pytest

from etl_assets.mart import load_marts
from etl_assets.pipeline import Pipeline
from etl_assets.sandbox.server import running
from etl_assets.spec import Source, Stream
from etl_assets.warehouse import sql
from etl_assets.warehouse.bigquery import BigQueryWarehouse
from etl_assets.warehouse.duckdb import DIALECT, DuckDbWarehouse
from etl_assets.window import Window

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

DAYS = (date(2026, 1, 5), date(2026, 1, 6))
STREAMS = {
    "tmetric": ["time_entries", "members", "projects", "clients", "tags", "tasks"],
    "backlog": ["issues", "issue_comments", "issue_custom_fields", "deleted_issues", "issue_keys", "projects", "users"],
    "jushuitan": ["orders", "order_items", "refunds", "refund_items", "shops", "skus"],
    "fxiaoke": ["inventory_reports", "accounts", "personnel"],
}


@contextmanager
def loaded(
    env: dict[str, str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Pipeline, DuckDbWarehouse]]:
    """Every stream extracted and cleaned once, in the bucket, and loaded into both warehouses."""
    duckdb = DuckDbWarehouse(folder / "warehouse.duckdb", 60, 300)
    with running(vendors=tuple(STREAMS), days=2) as sandbox:
        sandbox.vendor("jushuitan").change("settings", per_second=0, per_minute=0)
        for name, value in {
            **env,
            **sandbox.env(),
            "ETL_DATA_DIR": str(folder),
            "BIGQUERY_TABLE_RATES": "1000/1s",
        }.items():
            monkeypatch.setenv(name, value)
        pipeline = Pipeline.from_environment()
        for name, streams in STREAMS.items():
            source = pipeline.sources[name]
            api = pipeline.api(source)
            for stream in map(source.stream, streams):
                for day in [Window.of_day(on, source.timezone) for on in DAYS] if stream.window else [None]:
                    if not stream.of:
                        pipeline.extract(api, stream, day, "run")
                    pipeline.clean(source, stream, day, "run")
                    done = pipeline.load(source, stream, day, "run")
                    clean = pipeline.folder("clean", source, stream, day)
                    other = duckdb.load(source, stream, day.day if day else None, clean, "run")
                    assert (done.rows, done.rows_in_table) == (other.rows, other.rows_in_table)
            api.client.close()
        yield pipeline, duckdb


def hashes(pipeline: Pipeline, duckdb: DuckDbWarehouse, source: Source, stream: Stream) -> list[tuple[int, ...]]:
    """Count and hash of the table in DuckDB and in BigQuery."""
    warehouse = pipeline.warehouse
    assert isinstance(warehouse, BigQueryWarehouse)
    with duckdb.reader() as db:
        here = db.execute(sql.content_digest(DIALECT, stream, DIALECT.table(source.source, stream.name))).fetchall()
    there = warehouse.dialect.table(source.source, stream.name)
    return [*here, *warehouse.runner({}).query(sql.content_digest(warehouse.dialect, stream, there))]


def test_twenty_streams_have_equal_content_in_both_warehouses(
    env: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert sum(map(len, STREAMS.values())) >= 20
    with loaded(env, tmp_path, monkeypatch) as (pipeline, duckdb):
        rows = 0
        for name, streams in STREAMS.items():
            source = pipeline.sources[name]
            for stream in map(source.stream, streams):
                here, there = hashes(pipeline, duckdb, source, stream)
                assert here == there, stream.name
                rows += here[0]
        assert rows > 1000
        for mart in load_marts():
            one, other = duckdb.build(mart), pipeline.warehouse.build(mart)
            assert one.rows == other.rows > 0, mart.name
            assert other.sample[0] == one.sample[0]
            query = f"SELECT * FROM mart.{mart.name}"
            found = [sorted(map(repr, map(rounded, w.select(query).rows))) for w in (duckdb, pipeline.warehouse)]
            assert found[0] == found[1], mart.name


def rounded(row: tuple[object, ...]) -> tuple[object, ...]:
    """Sums of floats depend on their order."""
    return tuple(
        round(float(value), 6) if isinstance(value, float) or type(value).__name__ == "Decimal" else value
        for value in row
    )
