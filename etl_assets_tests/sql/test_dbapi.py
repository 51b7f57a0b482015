"""The module as PEP 249 has it, and the tools that people put on top of it."""

import csv
import datetime
import os
import re
import threading
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas
import petl
import polars
import pyarrow as pa
import pytest

from etl_assets import sql
from etl_assets.sandbox.server import running
from etl_assets.sql import backlog, fxiaoke, jushuitan, tmetric, trocco
from etl_assets.sql.dbapi import Connection
from etl_assets.sql.statement import Limits, Statement
from etl_assets_tests.sources.truth import lab
from etl_assets_tests.sql.place import Place, place
from etl_assets_tests.sql.world import Desk, desk_place


@pytest.fixture(scope="module")
def x(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with place("backlog", tmp_path_factory.mktemp("dbapi"), timezone="Asia/Tokyo") as ready:
        yield ready


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    with desk_place(tmp_path, monkeypatch) as ready:
        yield ready


@pytest.fixture
def connection(desk: Desk) -> Iterator[Connection]:
    with sql.connect(source="desk") as ready:
        yield ready


SCRIPT = """
import petl as etl
import pandas as pd
import etl_assets.sql.backlog as mod

cnxn = mod.connect("ApiKey={key};Url={url};")

sql = "SELECT Id, ProjectID FROM Issues WHERE Id = '200001'"

table1 = etl.fromdb(cnxn,sql)

table2 = etl.sort(table1,'ProjectID')

etl.tocsv(table2,'issues_data.csv')
"""


def test_the_script_of_the_seed_runs_but_for_its_import_line(tmp_path: Path) -> None:
    with running(vendors=("backlog",)) as sandbox, lab("backlog", tmp_path, sandbox=sandbox) as ready:
        env = ready.sandbox.env()
        with pytest.MonkeyPatch.context() as patch:
            for name in env:  # the connection string alone says where and who
                patch.delenv(name)
            exec(SCRIPT.format(key=env["BACKLOG_API_KEY"], url=env["BACKLOG_BASE_URL"]), {})
        with Path("issues_data.csv").open(encoding="utf-8") as file:
            assert list(csv.reader(file)) == [["Id", "ProjectID"], ["200001", "101"]]
        assert sandbox.count("/issues") == 1


def test_the_connection_string_alone_finds_its_source(x: Place) -> None:
    with sql.connect("ApiKey=key;Url=https://x.backlog.com;") as connection:
        assert "backlog" in str(connection.cursor().explain("SELECT count(*) FROM Issues"))
    env = x.sandbox.env()  # on one's own machine the host does not tell it from others that take an API key
    with sql.connect(f"Source=backlog;ApiKey={env['BACKLOG_API_KEY']};Url={env['BACKLOG_BASE_URL']};") as connection:
        assert connection.execute("SELECT count(*) FROM Issues").fetchall() == [(933,)]


def test_petl_reads_a_table_of_many_rows_in_its_order(x: Place) -> None:
    table = petl.fromdb(x.connection, "SELECT Id, StatusName FROM Issues WHERE project_id = 101 ORDER BY Id")
    assert petl.header(table) == ("Id", "StatusName")
    assert petl.nrows(table) == 309
    assert list(petl.values(table, "Id"))[:2] == [200001, 200004]


def test_petl_takes_parameters(x: Place) -> None:
    table = petl.fromdb(x.connection, "SELECT Id FROM Issues WHERE Id = ?", (200004,))
    assert list(petl.data(table)) == [(200004,)]


@pytest.mark.filterwarnings("ignore:pandas only supports SQLAlchemy:UserWarning")
def test_pandas_reads_a_connection(x: Place) -> None:
    frame = pandas.read_sql("SELECT Id, Updated, EstimatedHours FROM Issues WHERE Id IN (200001, 200004)", x.connection)
    assert list(frame.columns) == ["Id", "Updated", "EstimatedHours"]
    assert sorted(frame["Id"]) == [200001, 200004]
    assert frame["Updated"].dt.tz is not None


def test_polars_reads_a_connection_and_arrow(x: Place) -> None:
    statement = "SELECT Id, ProjectID FROM Issues WHERE project_id = 101"
    frame = polars.read_database(statement, x.connection)
    arrow = polars.from_arrow(x.connection.execute(statement).fetch_arrow_table())
    assert frame.columns == ["Id", "ProjectID"]
    assert frame.height == 309
    assert isinstance(arrow, polars.DataFrame)
    assert arrow.sort("Id").equals(frame.sort("Id"))


def test_arrow_comes_in_batches_with_exact_types(x: Place) -> None:
    cursor = x.connection.execute("SELECT Id, Updated, DueDate, EstimatedHours, Summary FROM Issues")
    reader = cursor.fetch_record_batch(200)
    batches = list(reader)
    assert reader.schema.names == ["Id", "Updated", "DueDate", "EstimatedHours", "Summary"]
    types = [pa.int64(), pa.timestamp("us", "Asia/Tokyo"), pa.date32(), pa.float64(), pa.string()]
    assert reader.schema.types == types
    assert sum(batch.num_rows for batch in batches) == 933


def test_arrow_after_rows_is_refused(connection: Connection) -> None:
    cursor = connection.execute("SELECT id FROM tickets")
    cursor.fetchone()
    with pytest.raises(sql.InterfaceError, match="right after execute"):
        cursor.fetch_arrow_table()


def test_the_module_has_all_that_pep_249_names() -> None:
    for module in (sql, backlog, tmetric, jushuitan, fxiaoke, trocco):
        assert (module.apilevel, module.threadsafety, module.paramstyle) == ("2.0", 1, "qmark")
        assert issubclass(module.OperationalError, module.DatabaseError)
        assert issubclass(module.InterfaceError, module.Error)
        for name in ("Date", "Time", "Timestamp", "DateFromTicks", "TimeFromTicks", "TimestampFromTicks", "Binary"):
            assert callable(getattr(module, name))
    assert sql.TimestampFromTicks(0).timestamp() == 0
    assert Connection.ProgrammingError is sql.ProgrammingError


def test_description_names_columns_as_the_statement_does(connection: Connection) -> None:
    cursor = connection.execute("SELECT ID, queueid, TicketKey AS k, Fee, Changed, upper(title) FROM tickets LIMIT 1")
    names = [column[0] for column in cursor.description or ()]
    kinds = [column[1] for column in cursor.description or ()]
    assert names[:5] == ["ID", "queueid", "k", "Fee", "Changed"]
    assert kinds == [sql.NUMBER, sql.NUMBER, sql.STRING, sql.NUMBER, sql.DATETIME, sql.STRING]
    assert sql.NUMBER != sql.STRING


def test_rows_come_one_by_one_in_lots_and_all_at_once(connection: Connection) -> None:
    cursor = connection.execute("SELECT id FROM tickets ORDER BY id")
    assert cursor.fetchone() == (1,)
    assert cursor.fetchmany(2) == [(2,), (3,)]
    cursor.arraysize = 4
    assert cursor.fetchmany() == [(4,), (5,), (6,), (7,)]
    assert len(cursor.fetchall()) == 63
    assert cursor.fetchone() is None
    assert cursor.fetchmany(3) == []
    assert cursor.fetchall() == []


def test_a_cursor_is_iterated_and_used_again(connection: Connection) -> None:
    with connection.cursor() as cursor:
        assert list(cursor.execute("SELECT id FROM tickets WHERE id < 3 ORDER BY 1")) == [(1,), (2,)]
        assert cursor.execute("SELECT 1 + 1").fetchall() == [(2,)]
    with pytest.raises(sql.InterfaceError, match="closed"):
        cursor.execute("SELECT 1")


def test_two_cursors_are_read_side_by_side(connection: Connection) -> None:
    left = connection.execute("SELECT id FROM tickets ORDER BY id")
    right = connection.execute("SELECT id FROM tickets ORDER BY id DESC")
    assert [left.fetchone(), right.fetchone(), left.fetchone(), right.fetchone()] == [(1,), (70,), (2,), (69,)]


def test_values_have_python_types_and_the_zone_of_the_source(connection: Connection) -> None:
    statement = "SELECT id, fee, hours, opened, changed, urgent, lines, title FROM tickets WHERE id = 2"
    ((number, fee, hours, opened, changed, urgent, lines, title),) = connection.execute(statement).fetchall()
    assert (number, fee, hours, urgent, title) == (2, Decimal("6.02"), 0.25, True, "it's broken")
    assert opened == datetime.date(2026, 1, 11)
    assert changed.utcoffset() == datetime.timedelta(hours=9)
    assert lines.startswith('[{"id":1,')


def test_a_naive_literal_is_a_time_in_the_zone_of_the_connection(desk: Desk) -> None:
    counts = {}
    for zone in ("Asia/Tokyo", "UTC", "America/New_York"):
        with sql.connect(source="desk", timezone=zone) as connection:
            cursor = connection.execute("SELECT count(id) FROM tickets WHERE changed >= '2026-01-07 00:00'")
            counts[zone] = cursor.fetchall()[0][0]
            assert zone in str(cursor.plan)
    offsets = {"Asia/Tokyo": 9, "UTC": 0, "America/New_York": -5}
    moments = [datetime.datetime.fromisoformat(row["changed"]) for row in desk.tickets]
    for zone, hours in offsets.items():
        edge = datetime.datetime(2026, 1, 7, tzinfo=datetime.timezone(datetime.timedelta(hours=hours)))
        assert counts[zone] == sum(moment >= edge for moment in moments)
    assert len(set(counts.values())) == 3


def test_named_parameters_and_wrong_numbers_of_them_are_errors(connection: Connection) -> None:
    with pytest.raises(sql.ProgrammingError, match="qmark"):
        connection.cursor().execute("SELECT ?", {"a": 1})
    with pytest.raises(sql.ProgrammingError, match="2 parameters, 1 were given"):
        connection.execute("SELECT id FROM tickets WHERE id = ? OR id = ?", [1])


def test_a_question_mark_in_a_text_is_no_parameter(connection: Connection) -> None:
    assert connection.execute("SELECT '?' || ?", ["!"]).fetchall() == [("?!",)]


def test_commit_and_rollback_do_nothing_and_executemany_is_refused(connection: Connection) -> None:
    connection.commit()
    connection.rollback()
    with pytest.raises(sql.NotSupportedError):
        connection.cursor().executemany("SELECT ?", [[1], [2]])


def test_a_closed_connection_says_so(desk: Desk) -> None:
    connection = sql.connect(source="desk")
    connection.close()
    connection.close()
    for use in (connection.cursor, connection.commit, lambda: connection.execute("SELECT 1")):
        with pytest.raises(sql.InterfaceError, match="closed"):
            use()


def test_a_closed_cursor_has_no_rows_to_give_and_says_so(connection: Connection) -> None:
    cursor = connection.execute("SELECT id FROM queues")
    cursor.close()
    for use in (
        cursor.fetchone,
        cursor.fetchmany,
        cursor.fetchall,
        cursor.fetch_arrow_table,
        lambda: next(iter(cursor)),
    ):
        with pytest.raises(sql.InterfaceError, match="the cursor is closed"):
            use()


def test_a_statement_in_another_thread_can_be_cancelled(desk: Desk, connection: Connection) -> None:
    cursor = connection.cursor()
    cursor.progress = lambda scan: cursor.cancel() if scan.rows_fetched >= 20 else None
    cursor.execute("SELECT id FROM tickets ORDER BY title")
    asked: list[Any] = []

    def run() -> None:
        try:
            cursor.fetchall()
        except sql.OperationalError as error:
            asked.append(str(error))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(20)
    assert re.search("cancel|[Ii]nterrupt", asked[0])
    assert sum(path == "/tickets" for path, _ in desk.asked) < 4
    assert connection.execute("SELECT count(*) FROM tickets").fetchall() == [(70,)]


def test_interrupt_cancels_every_cursor_of_the_connection(desk: Desk, connection: Connection) -> None:
    cursor = connection.cursor()
    cursor.progress = lambda scan: connection.interrupt()
    with pytest.raises(sql.OperationalError):
        cursor.execute("SELECT id FROM tickets ORDER BY title").fetchall()


def test_ctrl_c_is_what_it_is_everywhere(connection: Connection) -> None:
    def press(_: Any) -> None:
        raise KeyboardInterrupt

    cursor = connection.cursor()
    cursor.progress = press
    with pytest.raises(KeyboardInterrupt):
        cursor.execute("SELECT id FROM tickets ORDER BY title").fetchall()


def test_the_schema_can_be_asked(connection: Connection) -> None:
    connection.execute("SELECT name FROM queues").fetchall()  # which makes the view of this table, and no other
    tables = connection.execute("SELECT table_name FROM information_schema.tables WHERE table_schema = 'desk'")
    assert {row[0] for row in tables} == {"queues", "statuses", "members", "tickets", "ticket_lines", "notes"}
    with sql.connect() as another:
        columns = another.execute("DESCRIBE desk.tickets").fetchall()
    assert ("id", "BIGINT") in [row[:2] for row in columns]
    ((comment,),) = connection.execute(
        "SELECT comment FROM duckdb_columns() WHERE table_name = 'tickets' AND column_name = 'queue_id' "
        "AND schema_name = 'desk'"
    ).fetchall()
    assert comment == "pushdown: = IN GROUP BY"


@pytest.mark.parametrize(
    ("statement", "kept"),
    [
        ("SELECT count(*) FROM tickets t JOIN queues q ON q.id = t.queue_id", False),
        ("SELECT count(*) FROM queues q JOIN tickets t ON t.queue_id = q.id WHERE q.id < 3", False),
        ("WITH one AS (SELECT id FROM tickets) SELECT count(*) FROM one", False),
        ("SELECT count(*) FROM tickets a JOIN tickets b ON b.parent_id = a.id", True),
        ("WITH w AS (SELECT id, parent_id FROM tickets) SELECT count(*) FROM w a, w b WHERE a.id = b.parent_id", False),
        ("SELECT (SELECT max(id) FROM tickets), count(*) FROM tickets WHERE fee > 1", True),
        ("SELECT count(*) FROM notes n JOIN tickets t ON t.id = n.ticket_id", True),
        (
            "WITH RECURSIVE r AS (SELECT id, 0 AS d FROM queues UNION ALL "
            "SELECT t.id, d + 1 FROM r JOIN tickets t ON t.parent_id = r.id WHERE d < 6) SELECT count(*) FROM r",
            True,
        ),
        (
            "SELECT count(*) FROM query_table('ticket_lines') a JOIN query_table('ticket_lines') b USING (id)",
            True,
        ),
    ],
)
def test_answers_are_kept_only_where_a_statement_needs_them_again(
    desk: Desk, connection: Connection, statement: str, kept: bool
) -> None:
    made: list[Statement] = []
    running = connection.engine.run(statement, [], limits=Limits(), started=made.append)
    assert running.rows(lambda db: db.fetchall())[0][0] > 0
    bodies = [page.body for one in made[0].cache.whole().values() for page in one.pages]
    assert any(b"ticketKey" in body for body in bodies) == kept
    running.close()
    lists = [tuple(sorted(query.items())) for path, query in desk.asked if path == "/tickets"]
    assert len(lists) == len(list({repr(one) for one in lists})), "a page was asked for twice"


@pytest.mark.parametrize(
    ("statement", "rows"),
    [
        ("SELECT max(TicketKey) FROM query_table('tickets')", [("T-9",)]),
        ("SELECT count(*) FROM query('SELECT ticket_key FROM tickets')", [(70,)]),
        (
            "WITH tables AS (SELECT 1) SELECT count(*) FROM information_schema.tables WHERE table_schema = 'desk'",
            [(6,)],
        ),
        ("FROM Tickets SELECT count(*)", [(70,)]),
    ],
)
def test_tables_are_found_however_a_statement_comes_to_them(
    connection: Connection, statement: str, rows: list[Any]
) -> None:
    assert connection.execute(statement).fetchall() == rows


def test_a_statement_can_be_measured(desk: Desk, connection: Connection) -> None:
    ((_, text),) = connection.execute("EXPLAIN ANALYZE SELECT max(ticket_key) FROM tickets").fetchall()
    assert "PYTHON_ARROW_SCAN" in text
    assert len(desk.asked) > 1


def test_a_source_in_a_file_of_ones_own_is_queryable_at_once(desk: Desk) -> None:
    with sql.connect() as connection:
        assert connection.execute("SELECT name FROM desk.Queues WHERE ID = 2").fetchall() == [("Queue 2",)]


TWIN = """
source: twin
title: Twin
base_url: "{url}"
timezone: Asia/Tokyo
settings: {{DESK_KEY: {{secret: true, help: none}}}}
auth: {{type: header, name: X-Desk-Key, value: "{{DESK_KEY}}"}}
streams:
  - name: crates
    path: /queues
    key: [_id]
    columns:
      id: {{type: integer, name: _id}}
      name: {{type: string, name: user_id}}
      team: {{type: string, name: userid}}
"""


@pytest.mark.parametrize(
    ("statement", "columns", "rows"),
    [
        (
            "SELECT d.id, t._id, t.userid FROM desk.queues d JOIN twin.crates t ON t._id = d.id WHERE d.ID = 2",
            ["id", "_id", "userid"],
            [(2, 2, "Süd")],
        ),
        ('SELECT userid, "user_id" FROM twin.Crates WHERE _ID = 2', ["userid", "user_id"], [("Süd", "Queue 2")]),
        ("SELECT id FROM desk.queues q WHERE EXISTS (SELECT 1 FROM twin.crates WHERE _id = 99)", ["id"], []),
        ("SELECT id FROM desk.queues WHERE name = 'crates'", ["id"], []),
        ("SELECT _Id AS queues FROM twin.crates WHERE _id = 3", ["queues"], [(3,)]),
        ("SELECT QueueID FROM desk.tickets CROSS JOIN twin.crates WHERE id = 1 AND _id = 1", ["QueueID"], [(2,)]),
    ],
)
def test_a_name_is_first_of_all_itself(desk: Desk, statement: str, columns: list[str], rows: list[Any]) -> None:
    """What is spelled alike (`id` and `_id`) is never taken for the other, in whatever tables the statement names."""
    url = os.environ["DESK_BASE_URL"]
    Path("sources/twin.yaml").write_text(TWIN.format(url=url), "utf-8")
    with sql.connect() as connection:
        cursor = connection.execute(statement)
        assert ([column[0] for column in cursor.description or ()], cursor.fetchall()) == (columns, rows)
