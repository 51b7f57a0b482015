"""What reads tables and writes files: copies, exports, traces, replays and pushes, the same on both warehouses."""

import os
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import pyarrow
import pytest
from google.cloud.bigquery import Table

from etl_assets.errors import FinalError
from etl_assets.export import Export, Exported
from etl_assets.landing import Folder, days, pages
from etl_assets.mart import load_marts
from etl_assets.pipeline import Pipeline
from etl_assets.replay import plan
from etl_assets.sandbox.server import running
from etl_assets.settings import Settings
from etl_assets.trace import set_aside, trace
from etl_assets.trocco.run import probed
from etl_assets.warehouse import spooling
from etl_assets.warehouse.bigquery import BigQueryWarehouse
from etl_assets.warehouse.bigquery_schema import table_schema
from etl_assets_tests.data import DAY, Bench, fetch
from etl_assets_tests.push.place import Place, document, things
from etl_assets_tests.warehouse.conftest import Of
from etl_assets_tests.warehouse.material import NEXT, REPLACE, SNAPSHOT, row

TYPES = """
local: [l]
window: {column: t}
columns:
  {id: integer, t: timestamp, l: timestamp, d: date, n: "decimal(18,4)",
   f: number, b: boolean, j: json, v: string}
"""
VALUES = {
    "l": "2026-01-05T09:00:00.5Z",
    "d": "2026-01-05",
    "n": "-12.5",
    "f": -0.1,
    "b": True,
    "j": {"é": [1, None]},
    "v": "a\n'b\\",
}


def reading(bench: Bench) -> Pipeline:
    """A pipeline that knows the bench's stream file."""
    here = {"ETL_DATA_DIR": str(bench.root), "ETL_SOURCES_DIR": str(bench.root)}
    return Pipeline(Settings.read({**dict(bench.google), **here}))


def spooled(bench: Bench, **selects: str) -> dict[str, tuple[list[tuple[str, str]], list[dict[str, Any]]]]:
    """Columns with their types, and rows, of each table of a copy."""
    file = bench.root / "spool.duckdb"
    reading(bench).warehouse.spool(selects, file)
    with duckdb.connect(str(file)) as db:
        return {
            name: (
                [tuple(column[:2]) for column in db.execute(f"DESCRIBE {name}").fetchall()],
                fetch(db, f"FROM {name}"),
            )
            for name in selects
        }


def test_a_copy_has_the_types_and_values_of_the_table(of: Of) -> None:
    bench = of(TYPES)
    bench.loaded([row(1, **{**VALUES, "more": "x"}), {"id": 2, "t": f"{DAY}T09:00:00"}], day=DAY)
    copied = spooled(
        bench, rows="FROM demo.things ORDER BY id", total="SELECT sum(n) AS n, count(*) AS c FROM demo.things"
    )
    columns, rows = copied["rows"]
    assert dict(columns) == {
        "id": "BIGINT",
        "t": "TIMESTAMP WITH TIME ZONE",
        **{name: kind for name, kind in bench.stream.table_columns() if name not in ("id", "t")},
        "_partition": "DATE",
        "_loaded_at": "TIMESTAMP WITH TIME ZONE",
        "_run_id": "VARCHAR",
        "_extra": "JSON",
    }
    assert (dict(columns)["n"], dict(columns)["j"]) == ("DECIMAL(18,4)", "JSON")
    assert [found["id"] for found in rows] == [1, 2]
    taken = {name: rows[0][name] for name in ("d", "n", "f", "b", "v", "_partition")}
    assert taken == {
        "d": date(2026, 1, 5),
        "n": Decimal("-12.5000"),
        "f": -0.1,
        "b": True,
        "v": VALUES["v"],
        "_partition": DAY,
    }
    assert msgspec.json.decode(rows[0]["j"]) == VALUES["j"]
    assert msgspec.json.decode(rows[0]["_extra"]) == {"more": "x"}
    assert {rows[1][name] for name in ("d", "n", "f", "b", "j", "v", "_extra")} == {None}
    assert copied["total"] == ([("n", "DECIMAL(38,4)"), ("c", "BIGINT")], [{"n": Decimal("-12.5"), "c": 2}])


@pytest.mark.parametrize(
    "select", ["SELECT * FROM demo.nothing", "SELECT nothing FROM demo.things", "DROP TABLE demo.things"]
)
def test_what_cannot_be_answered_is_an_error_in_duckdbs_words(of: Of, select: str) -> None:
    bench = of(SNAPSHOT)
    bench.loaded([row(1)])
    with pytest.raises(FinalError, match="the SELECT cannot be answered: .*"):
        spooled(bench, rows=select)
    assert len(bench.table()) == 1


def test_a_copy_of_a_mart_has_the_types_that_its_select_gives_in_duckdb(on_bigquery: Of) -> None:
    pipeline = reading(on_bigquery(SNAPSHOT))
    warehouse = pipeline.warehouse
    assert isinstance(warehouse, BigQueryWarehouse)
    (mart,) = [mart for mart in load_marts() if mart.name == "sales_daily"]
    for schema, name in mart.tables:
        stream = pipeline.sources[schema].stream(name)
        warehouse.ensure_dataset(schema)
        columns = table_schema(stream, "partition_date", marks=bool(stream.deletes or stream.sweep))
        warehouse.client.create_table(Table(f"{warehouse.dataset(schema)}.{name}", schema=columns))
    assert warehouse.build(mart).rows == 0
    file = pipeline.settings.data_dir / "mart.duckdb"
    warehouse.spool({"rows": "FROM mart.sales_daily"}, file)
    with duckdb.connect(str(file)) as db:
        kinds = {name: kind for name, kind, *_ in db.execute("DESCRIBE rows").fetchall()}
    assert (kinds["day"], kinds["orders"], kinds["paid_amount"]) == ("DATE", "BIGINT", "DECIMAL(38,4)")


def test_a_copy_takes_decimals_that_are_wider_than_duckdbs(tmp_path: Path) -> None:
    value = Decimal("123456789012345678.00000000000000000001")
    with spooling.opened(tmp_path / "spool.duckdb", 100) as spool:
        spool.outline("demo", "things", columns={"w": "DECIMAL(38,20)"})
        spool.table("rows", "FROM demo.things")
        spool.add("rows", pyarrow.record_batch({"w": pyarrow.array([value, None], pyarrow.decimal256(76, 38))}))
    with duckdb.connect(str(tmp_path / "spool.duckdb")) as db:
        assert db.execute("FROM rows").fetchall() == [(value,), (None,)]


def written(bench: Bench, day: date | None = None, **declared: Any) -> tuple[Exported, bytes]:
    """An export, and the bytes that lie in the landing."""
    pipeline = reading(bench)
    done = pipeline.export(Export.model_validate({"name": "things", "description": "Things.", **declared}), day)
    folder, _, name = done.uri.rpartition("/")
    assert folder == pipeline.landing.folder("export/things").uri
    return done, pipeline.landing.folder("export/things").read(name)[0]


def test_an_export_of_a_day_lies_in_the_landing_and_replaces_the_one_before(of: Of) -> None:
    bench = of(TYPES)
    bench.loaded([row(2, n="1.5"), row(1, v='said "so"', d="2026-01-05")], day=DAY)
    bench.loaded([row(3, NEXT)], day=NEXT)
    declared = {"table": "demo.things", "columns": ["id", "d", "n", "v"], "sort": ["id"], "days_of": "demo"}
    done, file = written(bench, DAY, **declared)
    assert done.uri.endswith("export/things/2026-01-05.csv")
    assert done.uri.startswith("gs://") == bool(bench.google)
    assert file == b'id,d,n,v\r\n1,2026-01-05,,"said ""so"""\r\n2,,1.5000,x\r\n'
    assert (done.rows, done.bytes) == (2, len(file))
    bench.loaded([row(2)], day=DAY)
    assert written(bench, DAY, **declared)[1] == b"id,d,n,v\r\n2,,,x\r\n"
    assert written(bench, NEXT, **declared)[1] == b"id,d,n,v\r\n3,,,x\r\n"


def test_a_row_is_followed_to_its_page_and_a_quarantined_one_to_its_reason(of: Of) -> None:
    bench = of(REPLACE.replace("v: string", "v: integer"))
    bench.loaded([row(1, v="1"), row(2, v="2"), row(3, v="three")], day=DAY, run_id="the run")
    pipeline = reading(bench)
    (found,) = trace(pipeline, bench.source, bench.stream, {"id": "2"})
    window = bench.window(DAY)
    assert window is not None
    assert (found.key, found.day, found.run_id) == ({"id": "2"}, DAY, "the run")
    assert (found.window, found.gaps) == ((window.start, window.end), ())
    assert found.code_version is not None
    assert [(place.line, place.page, place.row, place.used) for place in found.found] == [(1, 1, 2, True)]
    assert trace(pipeline, bench.source, bench.stream, {"id": "4"}) == []
    (aside,) = set_aside(pipeline, bench.source, bench.stream, {"id": "3"})
    assert (aside.day, aside.reason, aside.run_id) == (DAY, "v: not a integer: three", "the run")


def test_a_snapshot_is_traced_without_a_day(of: Of) -> None:
    bench = of(SNAPSHOT)
    bench.loaded([row(1)])
    (found,) = trace(reading(bench), bench.source, bench.stream, {"id": "1"})
    assert (found.day, found.window, [place.row for place in found.found]) == (None, None, [1])


def test_the_days_that_can_be_replayed_are_those_of_the_landing(of: Of) -> None:
    bench = of(REPLACE)
    for day in (NEXT, DAY):
        bench.cleaned([row(1, day)], day=day)
    pipeline = reading(bench)
    assert days(pipeline.landing, "raw", "demo", "things") == [DAY, NEXT]
    assert days(pipeline.landing, "raw", "demo", "thing") == []
    planned = plan(pipeline, bench.source, bench.stream, first=NEXT)
    assert [one.day for one in planned] == [NEXT]


def test_a_probe_is_answered(of: Of) -> None:
    bench = of(SNAPSHOT)
    bench.loaded([row(1)])
    pipeline = reading(bench)
    assert probed(pipeline, "SELECT count(*) = 1 FROM demo.things")
    assert not probed(pipeline, "SELECT count(*) = 2 FROM demo.things")
    with pytest.raises(FinalError, match="a probe gives one boolean"):
        probed(pipeline, "SELECT id FROM demo.things")


@pytest.mark.parametrize("mode", ["send", "land_only"])
def test_a_push_reads_bigquery_and_lands_in_the_bucket(
    on_bigquery: Of, tmp_path: Path, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = things(5)
    bench = on_bigquery("columns: {id: string, name: string, qty: integer}")
    bench.loaded(rows)
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    with running(vendors=("depot",)) as sandbox:
        place = Place(tmp_path, sandbox)
        for name, value in {**place.env, **dict(bench.google)}.items():
            monkeypatch.setenv(name, value)
        place.declare(**({"mode": mode, "write": None, "delete": None} if mode == "land_only" else {}))
        done = place.run()
        assert (done.written, set(place.states().values())) == (5, {"sent"})
        wanted = [document(one) for one in rows]
        if mode == "send":
            assert place.contents() == {one["id"]: one for one in wanted}
            return
        folder = Folder(Pipeline.from_environment().landing, "push", "depot", "things", None)
        found = [
            one
            for file in folder.files(folder.manifest())
            for _, body in pages(file)
            for one in msgspec.json.decode(body)
        ]
        assert (found, done.where[:5]) == (wanted, "gs://")
        assert place.sandbox.count() == 0
