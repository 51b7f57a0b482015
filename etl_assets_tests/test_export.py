"""Exports: what a spreadsheet, csv and pandas read back, and that nobody ever finds a part of a file."""

import csv
import io
import os
import sqlite3
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pandas
import petl
import pytest

from etl_assets import export as exports
from etl_assets.errors import FinalError, LandingError, StreamFileError
from etl_assets.export import Export, Layout, export, load_exports, write
from etl_assets.sqltext import literal
from etl_assets.store.local import LocalStore
from etl_assets.warehouse.duckdb import DuckDbWarehouse

DAY = date(2026, 1, 5)
AWKWARD = [
    "two\nlines",
    "old\r\nlines",
    "return\rwithin",
    'said "so"',
    "a,b;c",
    "a\tb",
    "🛍️ 👩‍👩‍👧 𠮷野家",
    "在庫\u2028画面",
    " padded ",
    "NULL",
    "NA",
    "0042",
    "\\N",
    "back\\slash",
    "semi'quote",
]


@dataclass(frozen=True)
class Desk:
    """A warehouse made by hand, and the landing that exports go to."""

    root: Path

    @property
    def warehouse(self) -> DuckDbWarehouse:
        return DuckDbWarehouse(self.root / "warehouse.duckdb", 60, 200)

    @property
    def landing(self) -> Path:
        return self.root / "landing"

    def table(self, columns: str, rows: Sequence[Sequence[Any]] = (), name: str = "shop.things") -> None:
        with self.warehouse.writer() as (db, _):
            db.execute(f"CREATE SCHEMA IF NOT EXISTS shop; CREATE OR REPLACE TABLE {name} ({columns})")
            if rows:
                db.executemany(f"INSERT INTO {name} VALUES ({', '.join('?' * len(rows[0]))})", [list(r) for r in rows])

    def write(self, day: date | None = None, **declared: Any) -> Path:
        return Path(export(declared_export(**declared), self.warehouse, LocalStore(self.landing), day).uri)

    def texts(self, values: Sequence[str | None], **declared: Any) -> Path:
        """A file with these texts in the order given."""
        self.table("n INTEGER, v VARCHAR", list(enumerate(values)))
        return self.write(**{"table": "shop.things", "columns": ["n", "v"], "sort": ["n"], **declared})


def declared_export(**declared: Any) -> Export:
    return Export.model_validate({"name": "things", "description": "Things.", **declared})


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def by_csv(file: Path, delimiter: str = ",", encoding: str = "utf-8") -> list[list[str]]:
    with file.open(encoding=encoding, newline="") as handle:
        return list(csv.reader(handle, delimiter=delimiter, strict=True))


def by_pandas(file: Path, **options: Any) -> list[list[Any]]:
    frame = pandas.read_csv(file, dtype=str, keep_default_na=False, **options)
    return [[None if pandas.isna(cell) else cell for cell in row] for row in frame.itertuples(index=False)]


@pytest.mark.parametrize("form", ["csv", "tsv"])
@pytest.mark.parametrize("bom", [False, True])
def test_texts_are_read_back_as_they_were(desk: Desk, form: str, bom: bool) -> None:
    file = desk.texts(AWKWARD, format=form, bom=bom)
    delimiter = {"csv": ",", "tsv": "\t"}[form]
    expected = [[str(number), text] for number, text in enumerate(AWKWARD)]
    assert file.name == f"things.{form}"
    assert file.read_bytes().startswith(b"\xef\xbb\xbf") == bom
    assert by_csv(file, delimiter, "utf-8-sig" if bom else "utf-8") == [["n", "v"], *expected]
    assert by_pandas(file, sep=delimiter, lineterminator=None) == expected


@pytest.mark.one_in(3)
@pytest.mark.parametrize(
    "text",
    [
        "=1+1",
        "+81 3 1234",
        "-cmd",
        "@SUM(A1)",
        "\t=1",
        "\r=1",
        "\n=1",
        "＝1",
        "＋1",
        "－1",
        "＠x",
        "=",
        "-",
        "-1+1",
        "+1",
    ],
)
def test_a_formula_becomes_text(desk: Desk, text: str) -> None:
    file = desk.texts([text])
    assert by_csv(file)[1] == ["0", f"'{text}"]
    assert by_pandas(file) == [["0", f"'{text}"]]
    assert by_csv(desk.texts([text], escape_formulas=False))[1] == ["0", text]


@pytest.mark.parametrize("text", ["'=1", "a=1", "1-1", "x@y", "-1", "-0.5", ""])
def test_what_is_no_formula_stays_as_it_is(desk: Desk, text: str) -> None:
    assert by_csv(desk.texts([text]))[1] == ["0", text]


def test_a_header_is_no_formula_either(desk: Desk) -> None:
    desk.table("v INTEGER", [[1]])
    file = desk.write(table="shop.things", columns={"v": "=HYPERLINK()"}, sort=["v"])
    assert by_csv(file) == [["'=HYPERLINK()"], ["1"]]


def test_numbers_stay_numbers_and_other_types_are_written_plainly(desk: Desk) -> None:
    desk.table(
        "i BIGINT, h HUGEINT, d DECIMAL(18,4), f DOUBLE, b BOOLEAN, day DATE, t TIMESTAMPTZ, l TIMESTAMP, j JSON, "
        "a VARCHAR[], s STRUCT(k VARCHAR)",
        [
            (
                *(-5, -170141183460469231731687303715884105727, Decimal("-12.5"), -0.1, True, DAY),
                *(datetime.fromisoformat("2026-01-05T23:30:00+00:00"), datetime.fromisoformat("2026-01-05T09:00:00.5")),
                *('{"é": [1]}', ["=x", "é"], {"k": "v"}),
            )
        ],
    )
    everything = {"sql": "FROM shop.things"}
    first = ["-5", "-170141183460469231731687303715884105727", "-12.5000", "-0.1", "true", "2026-01-05"]
    last = ["2026-01-05 09:00:00.500000", '{"é": [1]}', '["=x", "é"]', '{"k": "v"}']
    assert by_csv(desk.write(**everything))[1] == [*first, "2026-01-05 23:30:00+00:00", *last]
    local = desk.write(**everything, timezone="Asia/Tokyo")
    assert by_csv(local)[1] == [*first, "2026-01-06 08:30:00", *last]
    frame = pandas.read_csv(local, parse_dates=["t"])
    assert (frame["i"][0], frame["f"][0], frame["t"][0]) == (-5, -0.1, pandas.Timestamp("2026-01-06 08:30:00"))


def test_null_and_the_empty_text_are_told_apart_where_it_is_wanted(desk: Desk) -> None:
    values = ["", None, "x"]
    same = desk.texts(values)
    assert by_csv(same)[1:] == [["0", ""], ["1", ""], ["2", "x"]]
    apart = desk.texts(values, null_text="\\N")
    assert by_csv(apart)[1:] == [["0", ""], ["1", "\\N"], ["2", "x"]]
    assert by_pandas(apart, na_values=["\\N"]) == [["0", ""], ["1", None], ["2", "x"]]


def test_a_text_that_would_read_as_null_is_refused_and_the_file_stays(desk: Desk) -> None:
    file = desk.texts(["before"], null_text="-")
    before = file.read_bytes()
    with pytest.raises(FinalError, match=r"column v, row 2: the text is '-', which is the null_text"):
        desk.texts(["x", "-"], null_text="-")
    assert file.read_bytes() == before
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_rows_are_sorted_and_columns_chosen(desk: Desk) -> None:
    rows = [(2, "b", None), (10, "a", 1), (None, "c", 2), (2, "a", 3)]
    desk.table("n INTEGER, v VARCHAR, hidden INTEGER", rows)
    chosen = {"table": "shop.things", "columns": {"v": "Name", "n": "Number"}, "sort": ["n"]}
    up = by_csv(desk.write(**chosen))
    assert up == [["Name", "Number"], ["c", ""], ["a", "2"], ["b", "2"], ["a", "10"]]
    assert by_csv(desk.write(**chosen, descending=True))[1:] == up[:0:-1]


def test_a_column_may_sort_without_being_written(desk: Desk) -> None:
    desk.table("n INTEGER, v VARCHAR", [(2, "a"), (1, "b")])
    assert by_csv(desk.write(table="shop.things", columns=["v"], sort=["n"])) == [["v"], ["b"], ["a"]]


def test_many_rows_are_sorted_on_disk_and_the_same_rows_give_the_same_bytes(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exports, "_SORTED_IN_MEMORY", 500)
    with desk.warehouse.writer() as (db, _):
        db.execute(
            "CREATE SCHEMA shop; CREATE TABLE shop.things AS SELECT (i * 7919) % 1000 AS n, i FROM range(6000) r(i)"
        )
    chosen = {"table": "shop.things", "columns": ["n", "i"], "sort": ["n"]}
    first = desk.write(**chosen).read_bytes()
    with desk.warehouse.writer() as (db, _):
        db.execute("CREATE OR REPLACE TABLE shop.things AS FROM shop.things ORDER BY hash(i)")
    assert desk.write(**chosen).read_bytes() == first
    rows = [tuple(map(int, row)) for row in csv.reader(io.StringIO(first.decode()[len("n,i\r\n") :]))]
    assert rows == sorted((i * 7919 % 1000, i) for i in range(6000))


def test_days_are_files_of_their_own(desk: Desk) -> None:
    days = [DAY, date(2026, 1, 6)]
    desk.table("n INTEGER, _partition DATE", [(1, days[0]), (2, days[1])])
    by_table = {"table": "shop.things", "columns": ["n"], "sort": ["n"], "days_of": "shop"}
    by_select = {"sql": "SELECT n FROM shop.things WHERE _partition = {day};", "days_of": "shop", "name": "other"}
    for declared in (by_table, by_select):
        files = [desk.write(day, **declared) for day in days]
        assert [file.name for file in files] == ["2026-01-05.csv", "2026-01-06.csv"]
        assert [by_csv(file)[1:] for file in files] == [[["1"]], [["2"]]]


def test_no_rows_are_a_file_with_its_header(desk: Desk) -> None:
    desk.table("n INTEGER, v VARCHAR")
    file = desk.write(table="shop.things", columns=["n", "v"], sort=["n"])
    assert file.read_bytes() == b"n,v\r\n"


def test_an_empty_text_alone_in_its_row_is_not_lost(desk: Desk) -> None:
    desk.table("v VARCHAR", [[""], ["x"]])
    assert by_csv(desk.write(table="shop.things", columns=["v"], sort=["v"])) == [["v"], [""], ["x"]]


@pytest.mark.parametrize(
    ("declared", "says"),
    [
        ({"sql": "SELECT * FROM shop.nothing"}, "the SELECT cannot be answered: .*nothing"),
        ({"sql": "DROP TABLE shop.things"}, "the SELECT cannot be answered"),
        ({"sql": "SELECT n FROM shop.things", "columns": ["n", "m"]}, "there is no column m; the SELECT has"),
        ({"sql": "SELECT n FROM shop.things", "sort": ["k"]}, "there is no column k"),
    ],
)
def test_an_export_that_asks_for_what_is_not_there_is_refused(desk: Desk, declared: dict[str, Any], says: str) -> None:
    desk.table("n INTEGER", [[1]])
    with pytest.raises(FinalError, match=says):
        desk.write(**declared)
    assert not list(desk.landing.rglob("*.csv"))


def test_without_a_warehouse_there_is_no_empty_file(desk: Desk) -> None:
    with pytest.raises(FinalError, match="there is no warehouse yet"):
        desk.write(sql="SELECT 1 AS n")
    assert not list(desk.landing.rglob("*.csv"))


def test_a_reader_finds_one_file_or_the_other(tmp_path: Path) -> None:
    tables = [[["v"], *[[letter]] * 2000] for letter in "ab"]
    file = tmp_path / "things.csv"
    whole, seen, over = set(), set(), threading.Event()
    for table in tables:
        write(table, file, Layout())
        whole.add(file.read_bytes())

    def look() -> None:
        while not over.wait(0.0001):
            seen.add(file.read_bytes())

    reader = threading.Thread(target=look)
    reader.start()
    for table in tables * 10:
        write(table, file, Layout())
    over.set()
    reader.join()
    assert seen <= whole


def test_a_disk_that_does_not_take_the_file_is_told_and_the_old_one_stays(desk: Desk) -> None:
    file = desk.texts(["before"])
    before = file.read_bytes()
    file.parent.rename(file.parent.with_name("aside"))
    file.parent.write_bytes(b"in the way")
    with pytest.raises(LandingError, match="cannot be written"):
        desk.texts(["after"])
    file.parent.unlink()
    file.parent.with_name("aside").rename(file.parent)
    assert file.read_bytes() == before


def test_what_killed_runs_left_is_removed_a_day_later(desk: Desk) -> None:
    folder = desk.texts(["x"]).parent
    old, young = folder / ".tmp-old", folder / ".tmp-young"
    for left in (old, young):
        left.mkdir()
        (left / "rows.duckdb").touch()
    os.utime(old, (0, 0))
    desk.texts(["y"])
    assert sorted(path.name for path in folder.iterdir()) == [".tmp-young", "things.csv"]


KILLED = """
import os, signal, sys
from pathlib import Path
from etl_assets import export
from etl_assets.store.local import LocalStore
from etl_assets.warehouse.duckdb import DuckDbWarehouse
root, place = Path(sys.argv[1]), sys.argv[2]
setattr(*{"spool": (DuckDbWarehouse, "spool"), "sync": (os, "fsync"), "rename": (os, "replace")}[place],
        lambda *_: os.kill(os.getpid(), signal.SIGKILL))
declared = export.Export(name="things", description="-", table="shop.things", columns=["n", "v"], sort=["n"])
export.export(declared, DuckDbWarehouse(root / "warehouse.duckdb", 60, 200), LocalStore(root / "landing"), None)
"""


@pytest.mark.parametrize("place", ["spool", "sync", "rename"])
def test_a_kill_leaves_the_file_from_before_and_a_plain_re_run_writes_the_new_one(desk: Desk, place: str) -> None:
    file = desk.texts(["before"])
    before = file.read_bytes()
    desk.table("n INTEGER, v VARCHAR", [(0, "after")])
    done = subprocess.run([sys.executable, "-c", KILLED, str(desk.root), place], check=False)
    assert (done.returncode, file.read_bytes()) == (-9, before)
    assert [path.name for path in file.parent.iterdir() if not path.name.startswith(".tmp-")] == ["things.csv"]
    assert by_csv(desk.texts(["after"])) == [["n", "v"], ["0", "after"]]


def test_loads_are_not_held_up_while_a_file_is_written(desk: Desk, tmp_path: Path) -> None:
    desk.table("n INTEGER", [[1]])
    desk.warehouse.spool({"rows": "FROM shop.things"}, tmp_path / "spool.duckdb")
    with duckdb.connect(str(desk.warehouse.path)) as writer:  # would be locked by an open reader of another process
        writer.execute("INSERT INTO shop.things VALUES (2)")
    with duckdb.connect(str(tmp_path / "spool.duckdb")) as db:
        assert db.execute("FROM rows").fetchall() == [(1,)]


def test_the_order_of_a_select_is_kept(desk: Desk, tmp_path: Path) -> None:
    with desk.warehouse.writer() as (db, _):
        db.execute("CREATE TABLE numbers AS SELECT hash(i) AS n FROM range(400000) r(i)")
    desk.warehouse.spool({"rows": "SELECT n FROM numbers ORDER BY n"}, tmp_path / "spool.duckdb")
    with duckdb.connect(str(tmp_path / "spool.duckdb")) as db:
        wrong = "SELECT count(*) FROM (SELECT n < lag(n) OVER (ORDER BY rowid) AS wrong FROM rows) WHERE wrong"
        assert db.execute(wrong).fetchall() == [(0,)]


def test_any_petl_table_can_be_written(tmp_path: Path) -> None:
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE issues (Id INTEGER, ProjectID INTEGER, Summary TEXT)")
    connection.executemany("INSERT INTO issues VALUES (?, ?, ?)", [(1, 20, "=1"), (2, 3, None), (3, 3, "ü")])
    table = petl.sort(petl.fromdb(connection, "SELECT Id, ProjectID, Summary FROM issues"), ["ProjectID", "Id"])
    done = write(table, tmp_path / "issues.csv", Layout(null_text="NULL"))
    assert by_csv(tmp_path / "issues.csv") == [
        ["Id", "ProjectID", "Summary"],
        ["2", "3", "NULL"],
        ["3", "3", "ü"],
        ["1", "20", "'=1"],
    ]
    assert (done.rows, done.bytes) == (3, Path(done.uri).stat().st_size)


def test_memory_does_not_grow_with_the_rows(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exports, "_SORTED_IN_MEMORY", 1_000)
    peaks = []
    for rows in (3_000, 12_000):
        with desk.warehouse.writer() as (db, _):
            db.execute("CREATE SCHEMA IF NOT EXISTS shop")
            db.execute(
                f"""CREATE OR REPLACE TABLE shop.things AS
                    SELECT i AS n, hash(i) AS h, repeat('x', 60) AS v FROM range({rows}) r(i)"""
            )
        tracemalloc.start()
        desk.write(table="shop.things", columns=["n", "h", "v"], sort=["h"])
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] * 1.3


DECLARED = """
exports:
  - {name: worklog, description: Mine., sql: SELECT 1 AS n}
  - {name: more, description: More., sql: SELECT 2 AS n}
"""


def exports_file(folder: Path, text: str, name: str = "mine.yaml") -> Path:
    (folder / "export").mkdir(exist_ok=True)
    file = folder / "export" / name
    file.write_text(text, "utf-8")
    return file


def test_own_declarations_replace_packaged_ones_of_the_same_name(tmp_path: Path) -> None:
    packaged = {export.name: export for export in load_exports()}
    exports_file(tmp_path, DECLARED)
    found = {export.name: export for export in load_exports(tmp_path)}
    assert {"worklog", "sales_daily", "timesheet"} <= packaged.keys()
    assert found.keys() == packaged.keys() | {"more"}
    assert found["worklog"].description == "Mine."
    assert found["timesheet"] == packaged["timesheet"]


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ("sql: SELECT 1, table: a.b", "export 'x', key (itself): table: an export has either a table or a SELECT"),
        ("table: a.b", "export 'x', key (itself): columns: a table needs the `columns`"),
        ("table: nothing", "export 'x', key table: String should match pattern"),
        ("sql: SELECT 1, columns: [a, a]", "key columns: a column is given twice"),
        ("sql: SELECT 1, columns: {a: X, b: X}", "columns: give at least one, each with a header of its own"),
        ("sql: SELECT 1, days_of: tmetric", "sql: {day} and `days_of` belong together"),
        ("sql: 'SELECT {day}'", "sql: {day} and `days_of` belong together"),
        ("sql: SELECT 1, timezone: Tokyo", "key timezone: 'Tokyo' is not an IANA time zone"),
        ("sql: SELECT 1, formats: csv", "key formats: unknown key"),
        ("sql: SELECT 1, format: xlsx", "key format: Input should be 'csv' or 'tsv'"),
    ],
)
def test_a_wrong_declaration_is_named_with_file_export_and_key(tmp_path: Path, wrong: str, says: str) -> None:
    file = exports_file(tmp_path, f"exports:\n  - {{name: x, description: X., {wrong}}}\n")
    with pytest.raises(StreamFileError) as refused:
        load_exports(tmp_path)
    assert str(refused.value).startswith(f"{file}:\n")
    assert says in str(refused.value)


def test_two_declarations_of_one_name_are_refused(tmp_path: Path) -> None:
    exports_file(tmp_path, DECLARED, "a.yaml")
    exports_file(tmp_path, DECLARED, "b.yaml")
    with pytest.raises(StreamFileError, match="export 'worklog' is also declared by a.yaml"):
        load_exports(tmp_path)


def test_a_day_is_quoted_into_the_select() -> None:
    declared = declared_export(sql="SELECT {day} AS d", days_of="tmetric")
    assert declared.select(DAY) == f"SELECT DATE {literal('2026-01-05')} AS d"
