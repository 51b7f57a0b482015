"""Tables in every warehouse: the same days give the same table, whatever the order and the repetitions."""

import dataclasses
import json
import random
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import pytest

from etl_assets.errors import FinalError, TableError
from etl_assets.mart import Mart
from etl_assets.warehouse.protocol import Difference
from etl_assets_tests.data import DAY, utc
from etl_assets_tests.warehouse.conftest import Of
from etl_assets_tests.warehouse.material import (
    CONTENT,
    MERGE,
    MODES,
    NEXT,
    REPLACE,
    SNAPSHOT,
    VERSIONED,
    kept,
    redeclared,
    row,
    typed,
)

# Tables and their rows


def test_a_snapshot_replaces_the_whole_table_and_has_no_partition(of: Of) -> None:
    bench = of(SNAPSHOT)
    bench.loaded([row(1, v="a"), row(2, v="b")])
    bench.loaded([row(2, v="c"), row(3, v="d")])
    assert bench.table("id, v") == [{"id": 2, "v": "c"}, {"id": 3, "v": "d"}]
    assert "_partition" not in bench.table()[0]


@pytest.mark.parametrize("stream", [REPLACE, MERGE], ids=["replace", "merge"])
def test_a_day_loaded_again_replaces_that_day_only(of: Of, stream: str) -> None:
    bench = of(stream)
    bench.loaded([row(1, v="a"), row(2, v="b")], day=DAY)
    bench.loaded([row(3, NEXT, v="c")], day=NEXT)
    loaded = bench.loaded([row(2, v="B"), row(4, v="d")], day=DAY)
    assert kept(bench) == [(2, "B", DAY), (3, "c", NEXT), (4, "d", DAY)]
    assert (loaded.rows, loaded.rows_in_table, loaded.changed) == (2, 3, True)


@MODES
def test_an_empty_day_empties_that_day(of: Of, stream: str, day: date | None) -> None:
    bench = of(stream)
    bench.loaded([row(1), row(2)], day=day)
    if day:
        bench.loaded([row(3, NEXT)], day=NEXT)
    loaded = bench.loaded([], day=day)
    assert kept(bench) == ([(3, "x", NEXT)] if day else [])
    assert (loaded.rows, loaded.changed) == (0, True)


@MODES
def test_an_empty_first_load_makes_an_empty_table(of: Of, stream: str, day: date | None) -> None:
    bench = of(stream)
    bench.loaded([], day=day)
    assert bench.table() == []
    assert [found["rows_loaded"] for found in bench.query("FROM ops.loads")] == [0]


@MODES
def test_a_load_that_brings_nothing_new_leaves_the_rows_untouched(of: Of, stream: str, day: date | None) -> None:
    bench = of(stream)
    records = [row(n, v=f"v{n}", extra=n) for n in range(20)]
    bench.loaded(records, day=day, run_id="one")
    before = bench.table()
    loaded = bench.loaded(records[::-1], day=day, run_id="two")
    assert loaded.changed is False
    assert bench.table() == before
    assert {found["_run_id"] for found in before} == {"one"}
    assert [found["run_id"] for found in bench.query("FROM ops.loads ORDER BY loaded_at")] == ["one", "two"]


@MODES
def test_a_load_that_brings_something_new_says_when_and_by_which_run(of: Of, stream: str, day: date | None) -> None:
    bench = of(stream)
    bench.loaded([row(1)], day=day, run_id="one")
    (before,) = bench.table()
    bench.loaded([row(1, v="y")], day=day, run_id="two")
    (after,) = bench.table()
    assert after["_run_id"] == "two"
    assert after["_loaded_at"] > before["_loaded_at"]


@MODES
def test_swapped_undeclared_values_are_something_new(of: Of, stream: str, day: date | None) -> None:
    bench = of(stream)
    bench.loaded([row(1, extra="a"), row(2, extra="b")], day=day)
    assert bench.loaded([row(1, extra="b"), row(2, extra="a")], day=day).changed is True
    assert [json.loads(found["_extra"])["extra"] for found in bench.table()] == ["b", "a"]


HARM = {
    "a value changed": "UPDATE demo.things SET v = 'broken' WHERE id = 1",
    "an undeclared value changed": "UPDATE demo.things SET _extra = NULL WHERE id > 0",
    "a row deleted": "DELETE FROM demo.things WHERE id = 2",
    "a row doubled": "INSERT INTO demo.things SELECT * FROM demo.things WHERE id = 3",
    "a row added": "INSERT INTO demo.things SELECT * REPLACE (99 AS id) FROM demo.things WHERE id = 3",
    "everything deleted": "DELETE FROM demo.things WHERE id > 0",
    "the table dropped": "DROP TABLE demo.things",
    "a key changed": "UPDATE demo.things SET id = 77 WHERE id = 1",
}


@pytest.mark.one_in(5)
@MODES
@pytest.mark.parametrize("sql", HARM.values(), ids=HARM.keys())
def test_damage_by_hand_is_repaired_by_loading_again(of: Of, stream: str, day: date | None, sql: str) -> None:
    bench = of(stream)
    bench.loaded([row(n, v=f"v{n}", more=n) for n in (1, 2, 3)], day=day)
    before = bench.table(CONTENT)
    bench.execute(sql)
    bench.load(day=day)
    assert bench.table(CONTENT) == before


# Merging


def test_a_row_moves_to_the_day_of_its_newest_version(of: Of) -> None:
    bench = of(MERGE)
    bench.loaded([row(1, v="old"), row(2, v="stays")], day=DAY)
    loaded = bench.loaded([row(1, NEXT, v="new")], day=NEXT)
    assert kept(bench) == [(1, "new", NEXT), (2, "stays", DAY)]
    assert loaded.rows_in_table == 2


def test_an_older_day_loaded_again_does_not_overwrite_newer_rows(of: Of) -> None:
    bench = of(MERGE)
    bench.loaded([row(1, v="old"), row(2, v="a")], day=DAY)
    bench.loaded([row(1, NEXT, v="new")], day=NEXT)
    bench.loaded([row(1, v="old"), row(2, v="b"), row(3, v="c")], day=DAY)
    assert kept(bench) == [(1, "new", NEXT), (2, "b", DAY), (3, "c", DAY)]


def test_an_older_day_whose_rows_moved_on_is_left_alone_when_loaded_again(of: Of) -> None:
    bench = of(MERGE)
    bench.loaded([row(1, v="old"), row(2, v="a")], day=DAY, run_id="one")
    bench.loaded([row(1, NEXT, v="new")], day=NEXT, run_id="two")
    before = bench.table()
    assert bench.load(day=DAY, run_id="three").changed is False
    assert bench.table() == before


def test_rows_that_vanished_from_a_day_go_with_the_next_load_of_it(of: Of) -> None:
    bench = of(MERGE)
    bench.loaded([row(1), row(2)], day=DAY)
    bench.loaded([row(3, NEXT)], day=NEXT)
    bench.loaded([row(2)], day=DAY)
    assert kept(bench) == [(2, "x", DAY), (3, "x", NEXT)]


@pytest.mark.one_in(5)
@pytest.mark.parametrize("order", [(DAY, NEXT), (NEXT, DAY), (DAY, NEXT, DAY), (NEXT, DAY, NEXT)])
@pytest.mark.parametrize(
    ("earlier", "later", "winner"),
    [
        (1, 2, "later"),
        (2, 1, "earlier"),
        (1, 1, "later"),
        (None, 1, "later"),
        (1, None, "earlier"),
        (None, None, "later"),
        (-1, 0, "later"),
    ],
)
def test_the_newest_version_wins_and_of_equal_ones_the_later_day(
    of: Of, order: tuple[date, ...], earlier: int | None, later: int | None, winner: str
) -> None:
    bench = of(VERSIONED)
    bench.cleaned([row(1, v="earlier", n=earlier), row(2, v="other", n=1)], day=DAY)
    bench.cleaned([row(1, NEXT, v="later", n=later)], day=NEXT)
    for day in order:
        bench.load(day=day)
    assert kept(bench) == [(1, winner, NEXT if winner == "later" else DAY), (2, "other", DAY)]


def test_a_key_of_several_columns_is_merged_as_a_whole(of: Of) -> None:
    stream = "load: merge\nkey: [id, part]\nwindow: {column: t}\n"
    bench = of(stream + "columns: {id: integer, part: string, t: timestamp, v: string}")
    bench.loaded([row(1, part="a", v="1a"), row(1, part="b", v="1b"), row(2, part="a", v="2a")], day=DAY)
    bench.loaded([row(1, NEXT, part="a", v="1a new"), row(2, NEXT, part="b", v="2b")], day=NEXT)
    bench.load(day=DAY)
    assert [tuple(found.values()) for found in bench.table("id, part, v")] == [
        (1, "a", "1a new"),
        (1, "b", "1b"),
        (2, "a", "2a"),
        (2, "b", "2b"),
    ]


@pytest.mark.one_in(2)
@pytest.mark.parametrize("seed", range(2))
def test_days_in_any_order_and_number_give_the_same_table(of: Of, seed: int) -> None:
    chance = random.Random(seed)
    bench = of(VERSIONED)
    days = [DAY + timedelta(days=n) for n in range(4)]
    newest: dict[int, tuple[Any, ...]] = {}
    for day in days:
        records = [
            row(key, day, v=f"{key} of {day}", n=chance.choice([None, 1, 2, 3]), hour=chance.randrange(24))
            for key in chance.sample(range(10), chance.randrange(8))
        ]
        bench.cleaned(records, day=day)
        for record in records:
            rank = (record["n"] is not None, record["n"] or 0, day)
            newest[record["id"]] = max(newest.get(record["id"], ()), (*rank, record["v"]))
    expected = [(key, v, day) for key, (*_, day, v) in sorted(newest.items())]
    for attempt in range(3):
        order = [*days, *chance.choices(days, k=3)]
        chance.shuffle(order)
        table = dataclasses.replace(bench, file=f"{attempt}.duckdb")
        if bench.google:
            bench.execute("DROP TABLE IF EXISTS demo.things")
        for day in order:
            table.load(day=day)
        assert kept(table) == expected, order


@pytest.mark.one_in(2)
@pytest.mark.parametrize("seed", range(2))
def test_a_table_follows_an_api_whose_rows_move_and_vanish(of: Of, seed: int) -> None:
    chance = random.Random(seed)
    bench = of(MERGE)
    days = [DAY + timedelta(days=n) for n in range(4)]
    api = {key: row(key, chance.choice(days), v="first") for key in range(15)}

    def run(day: date) -> None:
        bench.loaded([record for record in api.values() if record["t"].startswith(str(day))], day=day)

    for step in range(9):
        for key in chance.sample(sorted(api), 3):
            later = [day for day in days if str(day) >= api[key]["t"][:10]]
            api[key] = row(key, chance.choice(later), v=f"step {step}", hour=10 + step)
        if step % 3 == 2:
            del api[chance.choice(sorted(api))]
        run(chance.choice(days))
        keys = [found["id"] for found in bench.table("id")]
        assert len(keys) == len(set(keys))
    for day in chance.sample(days, len(days)):
        run(day)
    assert kept(bench) == [(key, api[key]["v"], date.fromisoformat(api[key]["t"][:10])) for key in sorted(api)]


# Columns that change


def test_a_new_column_is_added_and_empty_in_older_rows(of: Of) -> None:
    bench = of(REPLACE)
    bench.loaded([row(1, w=5)], day=DAY)
    bench = redeclared(bench, REPLACE.replace("v: string", "w: integer, v: string"))
    bench.loaded([row(2, NEXT, w=6)], day=NEXT)
    assert bench.table("id, w, v") == [{"id": 1, "w": None, "v": "x"}, {"id": 2, "w": 6, "v": "x"}]
    bench.loaded([row(1, w=5)], day=DAY)
    assert bench.table("id, w, _extra") == [{"id": 1, "w": 5, "_extra": None}, {"id": 2, "w": 6, "_extra": None}]


def test_a_column_that_is_no_longer_declared_stays_for_older_rows(of: Of) -> None:
    bench = of(REPLACE)
    bench.loaded([row(1, v="a")], day=DAY)
    bench = redeclared(bench, REPLACE.replace(", v: string", ""))
    bench.loaded([row(2, NEXT, v="b")], day=NEXT)
    assert bench.table("id, v, _extra") == [
        {"id": 1, "v": "a", "_extra": None},
        {"id": 2, "v": None, "_extra": '{"v":"b"}'},
    ]


@pytest.mark.one_in(5)
@pytest.mark.parametrize(
    ("before", "after", "value", "then"),
    [
        ("integer", "string", 7, "7"),
        ("integer", "number", 7, "7.0"),
        ("integer", "decimal(20,2)", 7, "7.00"),
        ("boolean", "string", True, "true"),
        ("number", "string", 1.5, "1.5"),
        ("date", "string", "2026-01-05", "2026-01-05"),
        ("date", "timestamp", "2026-01-05", "2026-01-05 00:00:00+00"),
        ("json", "string", {"a": 1}, '{"a":1}'),
        ("decimal(10,2)", "decimal(12,2)", "1.25", "1.25"),
        ("decimal(10,2)", "decimal(12,4)", "1.25", "1.2500"),
        ("decimal(10,2)", "string", "1.25", "1.25"),
    ],
)
def test_a_column_widens_without_losing_values(of: Of, before: str, after: str, value: Any, then: str) -> None:
    bench = of(typed(before))
    bench.loaded([row(1, v=value)], day=DAY)
    bench = redeclared(bench, typed(after))
    bench.loaded([], day=NEXT)
    ((number, text),) = (found.values() for found in bench.table("id, CAST(v AS VARCHAR) AS v"))
    assert number == 1
    if after in ("string", "timestamp") and not before.startswith("decimal"):
        assert text == then
    else:
        assert Decimal(text) == Decimal(then)


# The record of loads


def test_every_load_is_recorded(of: Of) -> None:
    bench = of(REPLACE)
    cleaned = bench.cleaned([row(1), row(1, hour=8), row(2), row(None, v="bad"), row(9, NEXT)], day=DAY)
    bench.load(day=DAY, run_id="the run")
    (found,) = bench.query("FROM ops.loads")
    assert found.pop("loaded_at") >= bench.table()[0]["_loaded_at"] > found.pop("read_at")
    assert found == {
        "source": "demo",
        "stream": "things",
        "partition": DAY,
        "window_start": utc("2026-01-04 15:00"),
        "window_end": utc("2026-01-05 15:00"),
        "rows_raw": 4,
        "rows_loaded": 2,
        "rows_quarantined": 1,
        "rows_duplicate": 1,
        "content_hash": cleaned.manifest.details["content_hash"],
        "landing_uri": bench.folder("clean", DAY).uri,
        "run_id": "the run",
        "code_version": cleaned.manifest.code_version,
    }


def test_a_snapshot_is_recorded_without_day_and_window(of: Of) -> None:
    bench = of(SNAPSHOT)
    bench.loaded([row(1), {"id": "?"}])
    (found,) = bench.query('SELECT "partition", window_start, window_end, rows_raw, rows_quarantined FROM ops.loads')
    assert list(found.values()) == [None, None, None, 2, 1]
    assert [found["partition"] for found in bench.query("FROM ops.quarantine")] == [None]


def test_the_quarantine_holds_what_the_last_load_of_each_day_left_out(of: Of) -> None:
    bench = of(REPLACE.replace("v: string", "v: integer"))
    bench.loaded([row(1, v="one"), row(2, v="1")], day=DAY, run_id="first")
    bench.loaded([row(3, NEXT, v="three"), row(4, NEXT, v="1")], day=NEXT, run_id="second")
    seen = bench.query('SELECT * EXCLUDE (quarantined_at) FROM ops.quarantine ORDER BY "partition"')
    assert [found["record_key"] for found in seen] == ["1", "3"]
    assert {**seen[0], "record": json.loads(seen[0]["record"])} == {
        "source": "demo",
        "stream": "things",
        "partition": DAY,
        "record_key": "1",
        "reason": "v: not a integer: one",
        "record": row(1, v="one"),
        "run_id": "first",
    }
    bench.loaded([row(2, v="1"), row(5, v="five")], day=DAY, run_id="third")
    quarantined = bench.query('SELECT record_key, run_id FROM ops.quarantine ORDER BY "partition"')
    assert [tuple(found.values()) for found in quarantined] == [("5", "third"), ("3", "second")]
    bench.loaded([row(2, v="1")], day=DAY)
    assert [found["record_key"] for found in bench.query("FROM ops.quarantine")] == ["3"]


@pytest.mark.parametrize(
    ("loads", "usual"),
    [
        ([], None),
        ([(-7, 1), (-14, 2)], None),
        ([(-7, 1), (-14, 2), (-21, 9), (-6, 30), (0, 30)], 2.0),
        ([(-7, 1), (-14, 2), (-21, 9), (-14, 5)], 5.0),
    ],
)
def test_the_usual_number_of_rows_is_that_of_the_same_weekday(
    of: Of, loads: list[tuple[int, int]], usual: float | None
) -> None:
    bench = of(REPLACE)
    for shift, count in loads:
        day = DAY + timedelta(days=shift)
        bench.loaded([row(n, day) for n in range(count)], day=day)
    assert bench.loaded([row(1)], day=DAY).usual_rows == usual


# Comparing


@pytest.mark.parametrize("stream", [REPLACE, MERGE], ids=["replace", "merge"])
def test_a_comparison_counts_what_differs_and_changes_nothing(of: Of, stream: str) -> None:
    bench = of(stream)
    bench.cleaned([row(1), row(2)], day=DAY)
    compare = bench.warehouse.compare
    assert compare(bench.source, bench.stream, DAY, bench.folder("clean", DAY)) == Difference(2, 0, 0)
    bench.load(day=DAY)
    before = bench.table()
    assert not compare(bench.source, bench.stream, DAY, bench.folder("clean", DAY))
    bench.cleaned([row(2, v="changed"), row(3), row(4)], day=DAY)
    assert compare(bench.source, bench.stream, DAY, bench.folder("clean", DAY)) == Difference(2, 1, 1)
    assert bench.table() == before


def test_a_newer_version_of_another_day_is_no_difference(of: Of) -> None:
    bench = of(MERGE)
    bench.loaded([row(1, v="old"), row(2)], day=DAY)
    bench.loaded([row(1, NEXT, v="new")], day=NEXT)
    assert not bench.warehouse.compare(bench.source, bench.stream, DAY, bench.folder("clean", DAY))


# Schema and marts


def test_a_change_of_a_column_that_could_lose_values_is_refused_before_anything_is_written(of: Of) -> None:
    bench = of(typed("number"))
    bench.loaded([row(1, v=1.5)], day=DAY)
    before, loads = bench.table(), bench.query("FROM ops.loads")
    bench = redeclared(bench, "description: changed\n" + typed("integer").replace("  v:", "  added: string\n  v:"))
    bench.cleaned([row(2, NEXT, v=1)], day=NEXT)
    with pytest.raises(TableError, match=r"demo\.things\.v is .* and cannot become .*; give the column another name"):
        bench.load(day=NEXT)
    assert (bench.table(), bench.query("FROM ops.loads")) == (before, loads)


def test_a_table_of_bigquery_is_partitioned_clustered_described_and_labelled(on_bigquery: Of) -> None:
    stream = """
    description: "It's 日本"
    window: {column: t}
    key: [id, part, n]
    columns:
      id: {type: integer, description: "The id; \\"so\\""}
      part: string
      n: number
      t: timestamp
      m: "decimal(12,2)"
      j: json
      w: datetime
    """
    bench = on_bigquery(stream)
    bench.loaded([row(1, part="a", n=0.5, m="1.25", j=[1], w="2026-01-05T09:00:00")], day=DAY, run_id="Run 1")
    table = bench.warehouse.table("demo", "things")
    assert (table.time_partitioning.field, table.time_partitioning.type_) == ("partition_date", "DAY")
    assert table.clustering_fields == ["id", "part"]
    assert table.description == "It's 日本"
    assert table.labels == {"source": "demo", "stream": "things", "run": "run_1"}
    fields = {field.name: field for field in table.schema}
    assert fields["id"].description == 'The id; "so"'
    kinds = {name: field.field_type for name, field in fields.items()}
    assert [kinds[name] for name in ("id", "n", "t", "m", "j", "w", "_extra")] == [
        *("INT64", "FLOAT64", "TIMESTAMP", "NUMERIC", "STRING", "DATETIME", "STRING")
    ]
    assert kinds.keys() >= {"_loaded_at", "_run_id", "partition_date"}


def test_a_mart_is_built_from_the_same_sql(of: Of) -> None:
    bench = of(REPLACE)
    bench.loaded([row(1, v="a"), row(2, v="b", hour=23)], day=DAY)
    text = """SELECT _partition AS day, CAST(date_trunc('week', _partition) AS DATE) AS week,
              count(*) FILTER (v = 'a') AS a_rows,
              sum(id) FILTER (v = 'b') AS total, any_value(v) AS v,
              max(CAST(timezone('Asia/Tokyo', t) AS DATE)) AS local FROM demo.things GROUP BY ALL"""
    mart = Mart("m", "It's a mart.", text, (("demo", "things"),))
    for _ in range(2):
        built = bench.warehouse.build(mart)
        assert built.rows == 1
    (found,) = bench.query("SELECT day, week, a_rows, total, local FROM mart.m")
    assert list(found.values()) == [DAY, date(2026, 1, 5), 1, 2, DAY]
    missing = Mart("n", "", "SELECT 1 FROM demo.nothing", (("demo", "nothing"),))
    with pytest.raises(FinalError, match=r"reads tables that are not loaded yet: demo\.nothing"):
        bench.warehouse.build(missing)
