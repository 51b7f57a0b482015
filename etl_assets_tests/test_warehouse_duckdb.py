"""Tables in DuckDB: the same days give the same table, whatever the order, the repetitions and the company."""

import contextlib
import dataclasses
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import date, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import duckdb
import pytest

from etl_assets import locks
from etl_assets.errors import FinalError, LandingError, LockedError, RetryableError, TableError
from etl_assets.warehouse import duckdb as warehouse
from etl_assets.warehouse.duckdb import DuckDbWarehouse
from etl_assets_tests.data import DAY, MEMORY_MB, Bench, Page, fetch, utc
from etl_assets_tests.warehouse.material import MERGE, NEXT, REPLACE, SNAPSHOT, cut, kept, redeclared, row, typed

# Tables and their columns


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


@pytest.mark.one_in(3)
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


@pytest.mark.one_in(3)
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
    left = {file.name for file in tmp_path.iterdir()} - {"demo.yaml", "landing", ".warehouse.duckdb.lock"}
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


@pytest.mark.parametrize("way", ["load", "read", "read beside"])
def test_nobody_opens_the_file_between_two_steps_of_a_run_that_writes(tmp_path: Path, way: str) -> None:
    """Not even when DuckDB's own lock is free: it is taken only after the look at the file's header."""
    bench = Bench.of(tmp_path, SNAPSHOT)
    bench.loaded([row(1)])
    hurried = DuckDbWarehouse(bench.warehouse.path, 0, MEMORY_MB)
    ways: dict[str, Callable[[], AbstractContextManager[Any]]] = {
        "load": hurried.writer,
        "read": hurried.reader,
        "read beside": lambda: hurried.beside("warehouse"),
    }
    with locks.held(tmp_path / ".warehouse.duckdb.lock", 0, str), pytest.raises(LockedError) as caught, ways[way]():
        pass
    assert f"still locked by process {os.getpid()} (" in str(caught.value)


def test_a_load_waits_for_a_reader_in_its_own_process(tmp_path: Path) -> None:
    bench = Bench.of(tmp_path, SNAPSHOT)
    bench.loaded([row(1)])
    hurried = DuckDbWarehouse(bench.warehouse.path, 0, MEMORY_MB)
    rows = hurried.select("SELECT id FROM demo.things").rows
    with pytest.raises(LockedError, match=rf"still locked by process {os.getpid()} \("), hurried.writer():
        pass
    assert list(rows) == [(1,)]
    with hurried.writer():
        pass


WRITER = """
import pathlib, sys
from etl_assets.warehouse.duckdb import DuckDbWarehouse
with DuckDbWarehouse(pathlib.Path(sys.argv[1]), 0, 300).writer():
    pass
"""


@pytest.mark.parametrize("way", ["reader", "beside"])
def test_whoever_reads_keeps_writers_out_whatever_else_its_process_opens_and_closes(tmp_path: Path, way: str) -> None:
    """The lock that DuckDB takes is gone when its process closes the file for the first time."""
    bench = Bench.of(tmp_path, SNAPSHOT)
    bench.loaded([row(1)])
    write = [sys.executable, "-c", WRITER, str(bench.warehouse.path)]
    with bench.warehouse.reader() if way == "reader" else bench.warehouse.beside("one") as db:
        with bench.warehouse.beside("two"):
            pass
        refused = subprocess.run(write, capture_output=True, text=True, check=False)
        db.execute("SELECT 1")
    assert refused.returncode == 1
    assert f"still locked by process {os.getpid()} (" in refused.stderr
    subprocess.run(write, check=True)


def test_a_load_that_waits_keeps_no_reader_out(tmp_path: Path) -> None:
    bench = Bench.of(tmp_path, SNAPSHOT)
    bench.loaded([row(1)])
    bench.cleaned([row(2)])
    hurried = DuckDbWarehouse(bench.warehouse.path, 0, MEMORY_MB)
    with hurried.reader() as first:
        load = threading.Thread(target=bench.load)
        load.start()
        for _ in range(20):
            with hurried.reader() as second:
                assert second.execute("SELECT id FROM demo.things").fetchall() == [(1,)]
            load.join(0.01)
        assert load.is_alive()
        assert first.execute("SELECT id FROM demo.things").fetchall() == [(1,)]
    load.join(60)
    assert [found["id"] for found in bench.table("id")] == [2]


def test_a_link_to_the_file_is_the_file(tmp_path: Path) -> None:
    bench = Bench.of(tmp_path, SNAPSHOT)
    bench.warehouse.path.symlink_to(tmp_path / "elsewhere.duckdb")
    bench.loaded([row(1)])
    assert (bench.warehouse.path.is_symlink(), (tmp_path / "elsewhere.duckdb").is_file()) == (True, True)
    by_name = DuckDbWarehouse(tmp_path / "elsewhere.duckdb", 0, MEMORY_MB)
    with by_name.reader(), pytest.raises(LockedError), DuckDbWarehouse(bench.warehouse.path, 0, MEMORY_MB).writer():
        pass


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
    assert {file.name for file in (tmp_path / "some" / "where").iterdir()} == {"else.duckdb", ".else.duckdb.lock"}


KILLED_BEFORE_THE_RENAME = """
import os, signal, sys
from pathlib import Path
from etl_assets.warehouse.duckdb import DuckDbWarehouse
Path.rename = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
with DuckDbWarehouse(Path(sys.argv[1]), 60, 300).writer():
    pass
"""


def test_a_kill_during_the_creation_leaves_nothing_that_the_next_load_does_not_replace(tmp_path: Path) -> None:
    bench = Bench.of(tmp_path, SNAPSHOT)
    done = subprocess.run([sys.executable, "-c", KILLED_BEFORE_THE_RENAME, str(bench.warehouse.path)], check=False)
    assert done.returncode == -9
    assert {file.name for file in tmp_path.glob("*warehouse*")} == {
        ".warehouse.duckdb.lock",
        ".warehouse.duckdb.unfinished",
    }
    (tmp_path / ".warehouse.duckdb.unfinished").write_bytes(b"torn")
    bench.loaded([row(1)])
    assert {file.name for file in tmp_path.glob("*warehouse*")} == {".warehouse.duckdb.lock", "warehouse.duckdb"}
    assert [found["id"] for found in bench.table()] == [1]


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
