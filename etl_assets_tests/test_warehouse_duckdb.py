"""Tables in DuckDB: the same days give the same table, whatever the order, the repetitions and the company."""

import contextlib
import dataclasses
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import duckdb
import pytest

from etl_assets.errors import FinalError, LandingError, LockedError, RetryableError, TableError
from etl_assets.warehouse import duckdb as warehouse
from etl_assets.warehouse.duckdb import DuckDbWarehouse
from etl_assets_tests.data import DAY, MEMORY_MB, Bench, Page, fetch, utc

ROOT = Path(__file__).parents[1]
SNAPSHOT = "columns: {id: integer, v: string}\n"
REPLACE = "window: {column: t}\ncolumns: {id: integer, t: timestamp, v: string}\n"
MERGE = "load: merge\n" + REPLACE
VERSIONED = "newest: n\nload: merge\nwindow: {column: t}\ncolumns: {id: integer, t: timestamp, n: integer, v: string}\n"
MODES = pytest.mark.parametrize(
    ("stream", "day"), [(SNAPSHOT, None), (REPLACE, DAY), (MERGE, DAY)], ids=["snapshot", "replace", "merge"]
)
NEXT = DAY + timedelta(days=1)
CONTENT = "* EXCLUDE (_loaded_at, _run_id)"


def row(key: int | None, day: date | None = DAY, v: str = "x", hour: int = 9, **more: Any) -> dict[str, Any]:
    return {"id": key, "v": v, "t": f"{day or DAY}T{hour:02}:00:00", **more}


def kept(bench: Bench) -> list[tuple[Any, ...]]:
    """(id, v, partition) of the table's rows."""
    partition = "_partition" if bench.stream.window else "NULL AS _partition"
    return [tuple(found.values()) for found in bench.table(f"id, v, {partition}")]


# Tables and their rows


def test_the_first_load_creates_the_table_with_the_declared_and_the_system_columns(tmp_path: Path) -> None:
    bench = Bench.of(
        tmp_path,
        """
        window: {column: t}
        local: [t]
        columns: {id: integer, t: timestamp, a.b: "decimal(10,2)", j: json, d: date, w: datetime, n: number, f: boolean}
        derived: {x: {type: string, sql: "'x'"}}
        """,
    )
    loaded = bench.loaded([{"id": 1, "t": "2026-01-05T09:00:00", "a": {"b": 1.5}, "j": [1], "new": 1}], day=DAY)
    described = bench.query("SELECT column_name, data_type FROM duckdb_columns() WHERE table_name = 'things'")
    assert {found["column_name"]: found["data_type"] for found in described} == {
        "id": "BIGINT",
        "t": "TIMESTAMP WITH TIME ZONE",
        "a_b": "DECIMAL(10,2)",
        "j": "JSON",
        "d": "DATE",
        "w": "TIMESTAMP",
        "n": "DOUBLE",
        "f": "BOOLEAN",
        "x": "VARCHAR",
        "t_local": "TIMESTAMP",
        "_partition": "DATE",
        "_loaded_at": "TIMESTAMP WITH TIME ZONE",
        "_run_id": "VARCHAR",
        "_extra": "JSON",
    }
    (found,) = bench.table()
    assert (found["t"], found["j"], found["_extra"]) == (utc("2026-01-05"), "[1]", '{"new":1}')
    assert (found["_partition"], found["_run_id"]) == (DAY, "run")
    assert (loaded.table, loaded.rows, loaded.rows_in_table, loaded.changed) == ("demo.things", 1, 1, True)
    assert loaded.uri == str(tmp_path / "warehouse.duckdb")


def test_a_snapshot_replaces_the_whole_table_and_has_no_partition(tmp_path: Path) -> None:
    bench = Bench.of(tmp_path, SNAPSHOT)
    bench.loaded([row(1, v="a"), row(2, v="b")])
    bench.loaded([row(2, v="c"), row(3, v="d")])
    assert bench.table("id, v") == [{"id": 2, "v": "c"}, {"id": 3, "v": "d"}]
    assert "_partition" not in bench.table()[0]


@pytest.mark.parametrize("stream", [REPLACE, MERGE], ids=["replace", "merge"])
def test_a_day_loaded_again_replaces_that_day_only(tmp_path: Path, stream: str) -> None:
    bench = Bench.of(tmp_path, stream)
    bench.loaded([row(1, v="a"), row(2, v="b")], day=DAY)
    bench.loaded([row(3, NEXT, v="c")], day=NEXT)
    loaded = bench.loaded([row(2, v="B"), row(4, v="d")], day=DAY)
    assert kept(bench) == [(2, "B", DAY), (3, "c", NEXT), (4, "d", DAY)]
    assert (loaded.rows, loaded.rows_in_table, loaded.changed) == (2, 3, True)


@MODES
def test_an_empty_day_empties_that_day(tmp_path: Path, stream: str, day: date | None) -> None:
    bench = Bench.of(tmp_path, stream)
    bench.loaded([row(1), row(2)], day=day)
    if day:
        bench.loaded([row(3, NEXT)], day=NEXT)
    loaded = bench.loaded([], day=day)
    assert kept(bench) == ([(3, "x", NEXT)] if day else [])
    assert (loaded.rows, loaded.changed) == (0, True)


@MODES
def test_an_empty_first_load_makes_an_empty_table(tmp_path: Path, stream: str, day: date | None) -> None:
    bench = Bench.of(tmp_path, stream)
    bench.loaded([], day=day)
    assert bench.table() == []
    assert [found["rows_loaded"] for found in bench.query("FROM ops.loads")] == [0]


@MODES
def test_a_load_that_brings_nothing_new_leaves_the_rows_untouched(
    tmp_path: Path, stream: str, day: date | None
) -> None:
    bench = Bench.of(tmp_path, stream)
    records = [row(n, v=f"v{n}", extra=n) for n in range(20)]
    bench.loaded(records, day=day, run_id="one")
    before = bench.table()
    loaded = bench.loaded(records[::-1], day=day, run_id="two")
    assert loaded.changed is False
    assert bench.table() == before
    assert {found["_run_id"] for found in before} == {"one"}
    assert [found["run_id"] for found in bench.query("FROM ops.loads ORDER BY loaded_at")] == ["one", "two"]


@MODES
def test_a_load_that_brings_something_new_says_when_and_by_which_run(
    tmp_path: Path, stream: str, day: date | None
) -> None:
    bench = Bench.of(tmp_path, stream)
    bench.loaded([row(1)], day=day, run_id="one")
    (before,) = bench.table()
    bench.loaded([row(1, v="y")], day=day, run_id="two")
    (after,) = bench.table()
    assert after["_run_id"] == "two"
    assert after["_loaded_at"] > before["_loaded_at"]


@MODES
def test_swapped_undeclared_values_are_something_new(tmp_path: Path, stream: str, day: date | None) -> None:
    bench = Bench.of(tmp_path, stream)
    bench.loaded([row(1, extra="a"), row(2, extra="b")], day=day)
    assert bench.loaded([row(1, extra="b"), row(2, extra="a")], day=day).changed is True
    assert [json.loads(found["_extra"])["extra"] for found in bench.table()] == ["b", "a"]


HARM = {
    "a value changed": "UPDATE demo.things SET v = 'broken' WHERE id = 1",
    "an undeclared value changed": "UPDATE demo.things SET _extra = NULL",
    "a row deleted": "DELETE FROM demo.things WHERE id = 2",
    "a row doubled": "INSERT INTO demo.things FROM demo.things WHERE id = 3",
    "a row added": "INSERT INTO demo.things BY NAME SELECT * REPLACE (99 AS id) FROM demo.things WHERE id = 3",
    "everything deleted": "DELETE FROM demo.things",
    "the table dropped": "DROP TABLE demo.things",
    "a key changed": "UPDATE demo.things SET id = 77 WHERE id = 1",
}


@MODES
@pytest.mark.parametrize("sql", HARM.values(), ids=HARM.keys())
def test_damage_by_hand_is_repaired_by_loading_again(tmp_path: Path, stream: str, day: date | None, sql: str) -> None:
    bench = Bench.of(tmp_path, stream)
    bench.loaded([row(n, v=f"v{n}", more=n) for n in (1, 2, 3)], day=day)
    before = bench.table(CONTENT)
    bench.execute(sql)
    bench.load(day=day)
    assert bench.table(CONTENT) == before


# Merging


def test_a_row_moves_to_the_day_of_its_newest_version(tmp_path: Path) -> None:
    bench = Bench.of(tmp_path, MERGE)
    bench.loaded([row(1, v="old"), row(2, v="stays")], day=DAY)
    loaded = bench.loaded([row(1, NEXT, v="new")], day=NEXT)
    assert kept(bench) == [(1, "new", NEXT), (2, "stays", DAY)]
    assert loaded.rows_in_table == 2


def test_an_older_day_loaded_again_does_not_overwrite_newer_rows(tmp_path: Path) -> None:
    bench = Bench.of(tmp_path, MERGE)
    bench.loaded([row(1, v="old"), row(2, v="a")], day=DAY)
    bench.loaded([row(1, NEXT, v="new")], day=NEXT)
    bench.loaded([row(1, v="old"), row(2, v="b"), row(3, v="c")], day=DAY)
    assert kept(bench) == [(1, "new", NEXT), (2, "b", DAY), (3, "c", DAY)]


def test_an_older_day_whose_rows_moved_on_is_left_alone_when_loaded_again(tmp_path: Path) -> None:
    bench = Bench.of(tmp_path, MERGE)
    bench.loaded([row(1, v="old"), row(2, v="a")], day=DAY, run_id="one")
    bench.loaded([row(1, NEXT, v="new")], day=NEXT, run_id="two")
    before = bench.table()
    assert bench.load(day=DAY, run_id="three").changed is False
    assert bench.table() == before


def test_rows_that_vanished_from_a_day_go_with_the_next_load_of_it(tmp_path: Path) -> None:
    bench = Bench.of(tmp_path, MERGE)
    bench.loaded([row(1), row(2)], day=DAY)
    bench.loaded([row(3, NEXT)], day=NEXT)
    bench.loaded([row(2)], day=DAY)
    assert kept(bench) == [(2, "x", DAY), (3, "x", NEXT)]


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
    tmp_path: Path, order: tuple[date, ...], earlier: int | None, later: int | None, winner: str
) -> None:
    bench = Bench.of(tmp_path, VERSIONED)
    bench.cleaned([row(1, v="earlier", n=earlier), row(2, v="other", n=1)], day=DAY)
    bench.cleaned([row(1, NEXT, v="later", n=later)], day=NEXT)
    for day in order:
        bench.load(day=day)
    assert kept(bench) == [(1, winner, NEXT if winner == "later" else DAY), (2, "other", DAY)]


def test_a_key_of_several_columns_is_merged_as_a_whole(tmp_path: Path) -> None:
    stream = "load: merge\nkey: [id, part]\nwindow: {column: t}\n"
    bench = Bench.of(tmp_path, stream + "columns: {id: integer, part: string, t: timestamp, v: string}")
    bench.loaded([row(1, part="a", v="1a"), row(1, part="b", v="1b"), row(2, part="a", v="2a")], day=DAY)
    bench.loaded([row(1, NEXT, part="a", v="1a new"), row(2, NEXT, part="b", v="2b")], day=NEXT)
    bench.load(day=DAY)
    assert [tuple(found.values()) for found in bench.table("id, part, v")] == [
        (1, "a", "1a new"),
        (1, "b", "1b"),
        (2, "a", "2a"),
        (2, "b", "2b"),
    ]


@pytest.mark.parametrize("seed", range(2))
def test_days_in_any_order_and_number_give_the_same_table(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    bench = Bench.of(tmp_path, VERSIONED)
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
        for day in order:
            table.load(day=day)
        assert kept(table) == expected, order


@pytest.mark.parametrize("seed", range(2))
def test_a_table_follows_an_api_whose_rows_move_and_vanish(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    bench = Bench.of(tmp_path, MERGE)
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


def redeclared(bench: Bench, stream: str) -> Bench:
    """The same landing and warehouse under another declaration."""
    return dataclasses.replace(Bench.of(bench.root, stream), file=bench.file)


def test_a_new_column_is_added_and_empty_in_older_rows(tmp_path: Path) -> None:
    bench = Bench.of(tmp_path, REPLACE)
    bench.loaded([row(1, w=5)], day=DAY)
    bench = redeclared(bench, REPLACE.replace("v: string", "w: integer, v: string"))
    bench.loaded([row(2, NEXT, w=6)], day=NEXT)
    assert bench.table("id, w, v") == [{"id": 1, "w": None, "v": "x"}, {"id": 2, "w": 6, "v": "x"}]
    bench.loaded([row(1, w=5)], day=DAY)
    assert bench.table("id, w, _extra") == [{"id": 1, "w": 5, "_extra": None}, {"id": 2, "w": 6, "_extra": None}]


def test_a_column_that_is_no_longer_declared_stays_for_older_rows(tmp_path: Path) -> None:
    bench = Bench.of(tmp_path, REPLACE)
    bench.loaded([row(1, v="a")], day=DAY)
    bench = redeclared(bench, REPLACE.replace(", v: string", ""))
    bench.loaded([row(2, NEXT, v="b")], day=NEXT)
    assert bench.table("id, v, _extra") == [
        {"id": 1, "v": "a", "_extra": None},
        {"id": 2, "v": None, "_extra": '{"v":"b"}'},
    ]


@pytest.mark.parametrize("stream", [REPLACE, MERGE], ids=["replace", "merge"])
def test_rows_are_loaded_by_column_name_not_by_position(tmp_path: Path, stream: str) -> None:
    bench = Bench.of(tmp_path, stream)
    bench.execute(
        """CREATE SCHEMA demo;
        CREATE TABLE demo.things (_extra JSON, v VARCHAR, _run_id VARCHAR, _partition DATE, own VARCHAR,
                                  t TIMESTAMPTZ, _loaded_at TIMESTAMPTZ, id BIGINT)"""
    )
    bench.loaded([row(1, v="a", more=1)], day=DAY)
    (found,) = bench.table()
    assert (found["id"], found["v"], found["_extra"], found["_run_id"]) == (1, "a", '{"more":1}', "run")
    assert (found["t"], found["_partition"], found["own"]) == (utc("2026-01-05"), DAY, None)
    assert bench.load(day=DAY).changed is False


def typed(kind: str) -> str:
    return f"window: {{column: t}}\ncolumns:\n  id: integer\n  t: timestamp\n  v: {kind}\n"


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
def test_a_column_widens_without_losing_values(tmp_path: Path, before: str, after: str, value: Any, then: str) -> None:
    bench = Bench.of(tmp_path, typed(before))
    bench.loaded([row(1, v=value)], day=DAY)
    bench = redeclared(bench, typed(after))
    bench.loaded([], day=NEXT)
    assert bench.table("id, CAST(v AS VARCHAR) AS v") == [{"id": 1, "v": then}]


@pytest.mark.parametrize(
    ("before", "after", "value"),
    [
        ("string", "integer", "7"),
        ("string", "json", "7"),
        ("number", "integer", 1.5),
        ("number", "decimal(10,2)", 1.5),
        ("timestamp", "date", "2026-01-05T09:00:00"),
        ("timestamp", "datetime", "2026-01-05T09:00:00"),
        ("datetime", "timestamp", "2026-01-05T09:00:00"),
        ("boolean", "integer", True),
        ("decimal(10,2)", "decimal(10,4)", "1.25"),
        ("decimal(10,2)", "decimal(12,1)", "1.25"),
        ("decimal(10,2)", "integer", "1.00"),
        ("decimal(10,2)", "number", "1.00"),
        ("json", "integer", 1),
    ],
)
def test_a_change_that_could_lose_values_is_refused_and_changes_nothing(
    tmp_path: Path, before: str, after: str, value: Any
) -> None:
    bench = Bench.of(tmp_path, typed(before))
    bench.loaded([row(1, v=value)], day=DAY)
    table, described, loads = bench.table(), bench.query("DESCRIBE demo.things"), bench.query("FROM ops.loads")
    bench = redeclared(bench, "description: changed\n" + typed(after).replace("  v:", "  added: string\n  v:"))
    bench.cleaned([row(2, NEXT, v=None)], day=NEXT)
    with pytest.raises(TableError, match=r"demo\.things\.v is .* and cannot become .*; give the column another name"):
        bench.load(day=NEXT)
    assert bench.table() == table
    assert bench.query("DESCRIBE demo.things") == described
    assert bench.query("FROM ops.loads") == loads
    assert bench.query("SELECT comment FROM duckdb_tables() WHERE table_name = 'things'") == [{"comment": None}]


def test_a_wider_type_that_does_not_hold_the_values_changes_nothing(tmp_path: Path) -> None:
    bench = Bench.of(tmp_path, typed("integer"))
    bench.loaded([row(1, v=123456)], day=DAY)
    table, described = bench.table(), bench.query("DESCRIBE demo.things")
    bench = redeclared(bench, typed("decimal(5,2)"))
    bench.cleaned([row(2, NEXT, v=1)], day=NEXT)
    with pytest.raises(FinalError):
        bench.load(day=NEXT)
    assert (bench.table(), bench.query("DESCRIBE demo.things")) == (table, described)


def test_descriptions_are_carried_to_table_and_columns(tmp_path: Path) -> None:
    declared = """
    description: "{about}"
    columns: {{id: integer, v: {{type: string, description: "{about} v"}}}}
    derived: {{w: {{type: string, sql: v, description: Derived.}}}}
    """
    bench = Bench.of(tmp_path, declared.format(about="It's 'quoted'; 日本"))
    for about in ("It's 'quoted'; 日本", "Changed"):
        bench = redeclared(bench, declared.format(about=about))
        bench.loaded([row(1)])
        tables = bench.query("SELECT comment FROM duckdb_tables() WHERE table_name = 'things'")
        columns = bench.query("SELECT column_name, comment FROM duckdb_columns() WHERE table_name = 'things'")
        assert tables == [{"comment": about}]
        comments = {found["column_name"]: found["comment"] for found in columns if found["comment"]}
        assert comments == {"v": f"{about} v", "w": "Derived."}


# The record of loads


def test_every_load_is_recorded(tmp_path: Path) -> None:
    bench = Bench.of(tmp_path, REPLACE)
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


def test_a_snapshot_is_recorded_without_day_and_window(tmp_path: Path) -> None:
    bench = Bench.of(tmp_path, SNAPSHOT)
    bench.loaded([row(1), {"id": "?"}])
    (found,) = bench.query("SELECT partition, window_start, window_end, rows_raw, rows_quarantined FROM ops.loads")
    assert list(found.values()) == [None, None, None, 2, 1]
    assert [found["partition"] for found in bench.query("FROM ops.quarantine")] == [None]


def test_the_quarantine_holds_what_the_last_load_of_each_day_left_out(tmp_path: Path) -> None:
    bench = Bench.of(tmp_path, REPLACE.replace("v: string", "v: integer"))
    bench.loaded([row(1, v="one"), row(2, v="1")], day=DAY, run_id="first")
    bench.loaded([row(3, NEXT, v="three"), row(4, NEXT, v="1")], day=NEXT, run_id="second")
    seen = bench.query("SELECT * EXCLUDE (quarantined_at) FROM ops.quarantine ORDER BY partition")
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
    quarantined = bench.query("SELECT record_key, run_id FROM ops.quarantine ORDER BY partition")
    assert [tuple(found.values()) for found in quarantined] == [("5", "third"), ("3", "second")]
    bench.loaded([row(2, v="1")], day=DAY)
    assert [found["record_key"] for found in bench.query("FROM ops.quarantine")] == ["3"]


def test_a_load_that_fails_half_way_leaves_no_trace(tmp_path: Path) -> None:
    bench = Bench.of(tmp_path, REPLACE)
    bench.loaded([row(1), row(None)], day=DAY)
    tables = ("demo.things", "ops.loads", "ops.quarantine")
    before = [bench.query(f"FROM {name} ORDER BY ALL") for name in tables]

    bench.cleaned([row(1, v="new"), row(2), row(None)], day=DAY)
    folder = bench.folder("clean", DAY)
    manifest = folder.manifest()
    unusable = folder.new_file()
    with duckdb.connect(":memory:") as db:
        db.execute(f"COPY (SELECT 1 AS nope) TO '{unusable}' (FORMAT parquet)")
    entry = folder.keep(unusable, "quarantine", ".parquet", 1)
    folder.seal(dataclasses.replace(manifest, files=(manifest.files[0], entry)))
    with pytest.raises(FinalError, match="the load was rolled back"):
        bench.load(day=DAY)
    assert [bench.query(f"FROM {name} ORDER BY ALL") for name in tables] == before

    bench.clean(day=DAY)
    bench.load(day=DAY)
    assert kept(bench) == [(1, "new", DAY), (2, "x", DAY)]


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


@pytest.mark.parametrize("harm", [cut, Path.unlink])
@pytest.mark.parametrize("which", ["rows-", "quarantine-", "manifest"])
def test_clean_files_that_are_not_whole_are_never_loaded(
    tmp_path: Path, which: str, harm: Callable[[Path], None]
) -> None:
    bench = Bench.of(tmp_path, SNAPSHOT)
    bench.loaded([row(1), {"id": "?"}])
    before = bench.table(), bench.query("FROM ops.loads")
    (file,) = [file for file in bench.folder("clean", None).path.iterdir() if file.name.startswith(which)]
    harm(file)
    with pytest.raises(LandingError):
        bench.load()
    assert (bench.table(), bench.query("FROM ops.loads")) == before


def test_nothing_to_load_makes_no_warehouse(tmp_path: Path) -> None:
    bench = Bench.of(tmp_path, SNAPSHOT)
    with pytest.raises(LandingError, match="no complete clean files; materialise the clean asset"):
        bench.load()
    assert not bench.warehouse.path.exists()


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
    tmp_path: Path, loads: list[tuple[int, int]], usual: float | None
) -> None:
    bench = Bench.of(tmp_path, REPLACE)
    for shift, count in loads:
        day = DAY + timedelta(days=shift)
        bench.loaded([row(n, day) for n in range(count)], day=day)
    assert bench.loaded([row(1)], day=DAY).usual_rows == usual


# Several processes


WORKER = """
import sys
from datetime import date
from pathlib import Path
from etl_assets_tests.data import Bench

bench = Bench.at(Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
for day in sys.argv[2:]:
    bench.load(day=date.fromisoformat(day), run_id=day)
"""


def at_once(root: Path, days: list[list[date]]) -> None:
    """Load the days of each list in a process of its own, all starting together."""
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, str(root), *map(str, own)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for own in days
    ]
    try:
        for worker in workers:
            assert worker.stdout is not None
            assert worker.stdout.readline() == "ready\n"
        for worker in workers:
            assert worker.stdin is not None
            worker.stdin.write("go\n")
            worker.stdin.flush()
        ends = [(worker.communicate(timeout=100)[1], worker.returncode) for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
    assert [code for _, code in ends] == [0] * len(days), [error for error, _ in ends]


def test_six_processes_can_make_the_first_load_at_once(tmp_path: Path) -> None:
    bench = Bench.of(tmp_path, REPLACE)
    days = [DAY + timedelta(days=n) for n in range(6)]
    for number, day in enumerate(days):
        bench.cleaned([row(number, day)], day=day)
    at_once(tmp_path, [[day] for day in days])
    assert kept(bench) == [(number, "x", day) for number, day in enumerate(days)]
    assert len(bench.query("FROM ops.loads")) == 6
    left = {file.name for file in tmp_path.iterdir()} - {"demo.yaml", "landing"}
    assert left == {"warehouse.duckdb"}


def test_loads_of_several_processes_wait_for_each_other_and_all_arrive(tmp_path: Path) -> None:
    bench = Bench.of(tmp_path, MERGE)
    days = [DAY + timedelta(days=n) for n in range(4)]
    for number, day in enumerate(days):
        bench.cleaned([row(number, day), row(99, day, v=str(day))], day=day)
    bench.loaded([row(0, days[0]), row(99, days[0], v=str(days[0]))], day=days[0])
    at_once(tmp_path, [days[shift:] + days[:shift] for shift in range(4)])
    assert kept(bench) == [*((number, "x", day) for number, day in enumerate(days)), (99, str(days[-1]), days[-1])]
    assert len(bench.query("FROM ops.loads")) == 1 + 4 * 4


HOLDER = """
import sys
import duckdb
with duckdb.connect(sys.argv[1]) as db:
    print("held", flush=True)
    sys.stdin.readline()
"""


@contextlib.contextmanager
def held(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that has the warehouse open, until it is sent a line."""
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        yield holder
    finally:
        holder.kill()
        holder.communicate()


def test_a_load_waits_for_a_warehouse_that_somebody_has_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench.of(tmp_path, SNAPSHOT)
    bench.loaded([row(1)])
    bench.cleaned([row(2)])
    waits = []
    with held(bench.warehouse.path) as holder:

        def let_go(seconds: float) -> None:
            waits.append(seconds)
            holder.communicate("done\n")

        monkeypatch.setattr(warehouse, "time", SimpleNamespace(monotonic=time.monotonic, sleep=let_go))
        loaded = bench.load()
    assert len(waits) == 1
    assert 0 < waits[0] < 1
    assert 0 < loaded.waited_seconds <= loaded.seconds
    assert [found["id"] for found in bench.table("id")] == [2]


@pytest.mark.parametrize("way", ["load", "read"])
def test_a_warehouse_that_stays_open_elsewhere_is_given_up_with_the_holders_name(tmp_path: Path, way: str) -> None:
    bench = Bench.of(tmp_path, SNAPSHOT)
    bench.loaded([row(1)])
    hurried = DuckDbWarehouse(bench.warehouse.path, 0, MEMORY_MB)

    def use() -> None:
        if way == "load":
            hurried.load(bench.source, bench.stream, None, bench.folder("clean", None), "run")
        with hurried.reader():
            pass

    with held(bench.warehouse.path) as holder, pytest.raises(LockedError) as caught:
        use()
    text = str(caught.value)
    assert f"process {holder.pid} ({sys.executable} -c" in text
    assert str(bench.warehouse.path) in text
    assert "DUCKDB_LOCK_TIMEOUT_SECONDS" in text
    assert isinstance(caught.value, RetryableError)
    assert len(bench.query("FROM ops.loads")) == 1


def test_readers_do_not_disturb_each_other(tmp_path: Path) -> None:
    bench = Bench.of(tmp_path, SNAPSHOT)
    bench.loaded([row(1)])
    reading = HOLDER.replace("sys.argv[1]", "sys.argv[1], read_only=True")
    with subprocess.Popen(
        [sys.executable, "-c", reading, str(bench.warehouse.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        assert bench.table("id") == [{"id": 1}]
        other.communicate(b"done\n", timeout=60)


def test_there_is_nothing_to_read_before_the_first_load(tmp_path: Path) -> None:
    bench = Bench.of(tmp_path, SNAPSHOT)
    with pytest.raises(FinalError, match=r"warehouse\.duckdb: there is no warehouse yet; materialise an asset first"):
        bench.table()
    assert not bench.warehouse.path.exists()


def test_a_reader_cannot_write(tmp_path: Path) -> None:
    bench = Bench.of(tmp_path, SNAPSHOT)
    bench.loaded([row(1)])
    with bench.warehouse.reader() as db, pytest.raises(duckdb.InvalidInputException, match="read-only"):
        db.execute("DELETE FROM demo.things")


def test_times_are_read_in_utc_whatever_the_machine(tmp_path: Path) -> None:
    bench = Bench.of(tmp_path, REPLACE)
    bench.loaded([row(1)], day=DAY)
    with bench.warehouse.reader() as db:
        assert db.execute("SELECT CAST(t AS VARCHAR) FROM demo.things").fetchall() == [("2026-01-05 00:00:00+00",)]


def test_a_file_that_is_no_database_is_an_error_that_names_it(tmp_path: Path) -> None:
    bench = Bench.of(tmp_path, SNAPSHOT)
    bench.cleaned([row(1)])
    bench.warehouse.path.write_bytes(b"something else entirely " * 1000)
    with pytest.raises(RetryableError, match=r"warehouse\.duckdb: cannot be opened"):
        bench.load()


def test_a_warehouse_in_a_folder_that_does_not_exist_yet_is_created(tmp_path: Path) -> None:
    bench = dataclasses.replace(Bench.of(tmp_path, SNAPSHOT), file="some/where/else.duckdb")
    bench.loaded([row(1)])
    assert [file.name for file in (tmp_path / "some" / "where").iterdir()] == ["else.duckdb"]


KILLED_BEFORE_THE_LINK = """
import os, signal, sys
from pathlib import Path
from etl_assets.warehouse.duckdb import DuckDbWarehouse
os.link = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
with DuckDbWarehouse(Path(sys.argv[1]), 60, 300).writer():
    pass
"""


def test_what_a_kill_during_the_creation_leaves_is_swept_a_day_later(tmp_path: Path) -> None:
    bench = Bench.of(tmp_path, SNAPSHOT)
    done = subprocess.run(
        [sys.executable, "-c", KILLED_BEFORE_THE_LINK, str(bench.warehouse.path)], cwd=ROOT, check=False
    )
    (left,) = tmp_path.glob(".warehouse.duckdb.*")
    mine = left.with_name(".warehouse.duckdb.mine")
    mine.touch()
    bench.loaded([row(1)])
    assert (done.returncode, left.exists()) == (-9, True)  # it may be the file of a process that is still at it
    for file in (left, mine):
        os.utime(file, (0, 0))
    bench.loaded([row(2)])
    assert (left.exists(), mine.exists()) == (False, True)
    assert [found["id"] for found in bench.table()] == [2]


def test_streams_and_sources_of_one_warehouse_keep_to_their_tables(tmp_path: Path) -> None:
    bench = Bench.of(tmp_path, REPLACE.replace("v: string", "v: integer"))
    bench.execute(
        """CREATE SCHEMA other; CREATE TABLE other.things (id VARCHAR);
        CREATE SCHEMA demo; CREATE TABLE demo.more AS SELECT 'mine' AS v;
        INSERT INTO ops.quarantine (source, stream, partition, record_key)
        VALUES ('other', 'things', '2026-01-05', 'a'), ('demo', 'more', '2026-01-05', 'b')"""
    )
    bench.land([Page([row(1, v="1"), row(2, v="?")])], day=DAY)
    bench.clean(day=DAY)
    bench.load(day=DAY)
    with bench.warehouse.reader() as db:
        assert fetch(db, "FROM demo.more") == [{"v": "mine"}]
        assert fetch(db, "FROM other.things") == []
        assert fetch(db, "SELECT record_key FROM ops.quarantine ORDER BY 1") == [
            {"record_key": key} for key in ("2", "a", "b")
        ]
