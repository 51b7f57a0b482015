"""What goes wrong: statements that are refused, APIs that fail, limits that are reached, values that do not fit."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas
import pytest

from etl_assets import sql
from etl_assets.sql.dbapi import Connection
from etl_assets.sql.explain import Plan
from etl_assets_tests.sql.world import KEY, Desk, desk_place


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    with desk_place(tmp_path, monkeypatch) as ready:
        yield ready


@pytest.fixture
def connection(desk: Desk) -> Iterator[Connection]:
    with sql.connect(source="desk", timezone="UTC") as ready:
        yield ready


def failing(status: int, body: Any, *, at: int) -> Any:
    return lambda path, number: (status, body) if number == at else None


# Only reading


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM tickets", "INSERT INTO tickets VALUES (1)", "UPDATE tickets SET id = 1", "DROP VIEW tickets",
        "CREATE TABLE x AS SELECT 1", "COPY tickets TO 'x.csv'", "ATTACH 'x.duckdb'", "SET threads = 1",
        "PRAGMA version", "CALL duckdb_settings()", "SELECT 1; SELECT 2", "INSTALL httpfs",
        "PIVOT tickets ON id USING count(*)",
    ],
)  # fmt: skip
def test_statements_that_do_not_read_are_refused(connection: Connection, desk: Desk, statement: str) -> None:
    with pytest.raises(sql.NotSupportedError):
        connection.execute(statement)
    assert desk.asked == []


@pytest.mark.parametrize(
    "statement",
    ["FROM queues", "VALUES (1)", "SHOW TABLES", "DESCRIBE queues", "SUMMARIZE queues", "WITH x AS (SELECT 1) FROM x",
     "EXPLAIN SELECT 1", "EXPLAIN ANALYZE SELECT 1"],
)  # fmt: skip
def test_statements_that_read_are_taken(connection: Connection, statement: str) -> None:
    assert connection.execute(statement).fetchall()


@pytest.mark.parametrize(
    "statement",
    ["SELECT * FROM read_csv('/etc/passwd')", "SELECT * FROM 'x.parquet'", "SELECT * FROM read_text('/etc/passwd')",
     "SELECT * FROM glob('*')", "SELECT * FROM statement", "SELECT getenv('DESK_KEY')"],
)  # fmt: skip
def test_files_variables_and_the_environment_are_out_of_reach(connection: Connection, statement: str) -> None:
    with pytest.raises(sql.Error) as refused:
        connection.execute(statement).fetchall()
    assert KEY not in str(refused.value)


def test_a_frame_of_the_caller_is_no_table(connection: Connection) -> None:
    frame = pandas.DataFrame({"id": [1]})
    assert len(frame) == 1
    with pytest.raises(sql.ProgrammingError, match="frame does not exist"):
        connection.execute("SELECT id FROM frame")


def test_no_statement_at_all_is_an_error(connection: Connection) -> None:
    with pytest.raises(sql.ProgrammingError):
        connection.execute("  -- nothing\n")


# Names


@pytest.mark.parametrize(
    ("statement", "meant"),
    [
        ("SELECT * FROM tickts", "desk.tickets"),
        ("SELECT * FROM desk.TimeEntry", "tmetric.time_entries"),
        ("SELECT titel FROM tickets", "title"),
        ("SELECT t.queue FROM tickets t", "queue_id"),
        ("SELECT id FROM tickets WHERE state_id = 3", "status_id"),
    ],
)
def test_an_unknown_name_says_what_may_have_been_meant(connection: Connection, statement: str, meant: str) -> None:
    with pytest.raises(sql.ProgrammingError, match="Did you mean") as refused:
        connection.execute(statement)
    assert meant in str(refused.value)


def test_a_table_of_several_sources_needs_its_source(desk: Desk) -> None:
    with sql.connect() as connection:
        with pytest.raises(sql.ProgrammingError, match=r"backlog\.projects or tmetric\.projects"):
            connection.execute("SELECT id FROM Projects")
        assert connection.execute("SELECT count(*) FROM (SELECT 1 AS projects) AS projects").fetchall() == [(1,)]


def test_a_name_that_the_statement_gives_itself_stays_its_own(connection: Connection) -> None:
    statement = "SELECT QueueId FROM (SELECT id * 100 AS QueueId, queue_id FROM tickets WHERE id = 2)"
    assert connection.execute(statement).fetchall() == [(200,)]
    statement = "SELECT QueueID FROM (SELECT t.QueueID AS QueueID FROM Tickets t WHERE Id = 2) x"
    assert connection.execute(statement).fetchall() == [(3,)]


@pytest.mark.parametrize(
    ("statement", "rows"),
    [
        ("SELECT a FROM tickets t(a, id) ORDER BY id DESC LIMIT 2", [(9,), (8,)]),
        ("SELECT * REPLACE (-id AS id) FROM (SELECT id FROM tickets) ORDER BY id LIMIT 2", [(-70,), (-69,)]),
        ("SELECT t.b FROM queues q(id, z) JOIN tickets t(b, id) ON t.id = q.z WHERE q.id = 1", []),
    ],
)
def test_columns_under_other_names_are_not_taken_for_those_of_the_table(
    connection: Connection, statement: str, rows: list[Any]
) -> None:
    assert connection.execute(statement).fetchall() == rows


def test_brackets_are_a_list_here_and_a_name_in_their_own_dialect(desk: Desk, connection: Connection) -> None:
    with pytest.warns(UserWarning, match=r"\[Id\] is a list"):
        assert connection.execute("SELECT [Id] FROM tickets WHERE id = 2").fetchall() == [([2],)]
    with sql.connect(source="desk", dialect="tsql") as other:
        found = other.execute(
            "SELECT TOP 2 [Id], ISNULL([Title], '-') AS T FROM [Tickets] WHERE [QueueId] = 1 ORDER BY [Id]"
        )
        assert found.fetchall() == [(4, "日本語 %"), (8, "it's broken")]
    with sql.connect(source="desk", dialect="mysql") as other:
        assert other.execute("SELECT `id` FROM `tickets` WHERE `id` = 2").fetchall() == [(2,)]
    with (
        sql.connect(source="desk", dialect="cobol") as other,
        pytest.raises(sql.ProgrammingError, match="one of: tsql"),
    ):
        other.execute("SELECT 1")


# The API


@pytest.mark.parametrize("page", [1, 3])
@pytest.mark.parametrize(
    ("status", "text"), [(401, "credential"), (403, "rights"), (400, "HTTP 400"), (500, "gave up")]
)
def test_an_error_of_the_api_is_one_of_the_statement(
    connection: Connection, desk: Desk, page: int, status: int, text: str
) -> None:
    desk.failing = lambda path, number: (status, {"error": f"no, {KEY}"}) if number >= page else None
    with pytest.raises(sql.OperationalError, match=text) as refused:
        connection.execute("SELECT title FROM tickets").fetchall()
    said = f"{refused.value}{refused.value.__cause__}{refused.value.__context__}"
    assert KEY not in said
    assert "Traceback" not in said
    desk.failing = lambda path, number: None
    assert connection.execute("SELECT count(title) FROM tickets").fetchall() == [(59,)]


def test_an_error_that_passes_is_retried(connection: Connection, desk: Desk) -> None:
    desk.failing = failing(503, {}, at=2)
    assert connection.execute("SELECT count(id) FROM tickets").fetchall() == [(70,)]


def test_half_a_list_is_never_a_whole_one_also_where_two_scans_share_it(connection: Connection, desk: Desk) -> None:
    desk.failing = lambda path, number: (400, {}) if number >= 3 else None
    with pytest.raises(sql.OperationalError):
        connection.execute("SELECT count(*) FROM tickets a JOIN tickets b ON a.title = b.title").fetchall()


def test_an_answer_of_another_shape_is_an_error_and_no_empty_table(connection: Connection, desk: Desk) -> None:
    desk.failing = failing(200, {"message": "maintenance"}, at=1)
    with pytest.raises(sql.OperationalError, match="no list"):
        connection.execute("SELECT title FROM tickets").fetchall()


def test_a_count_that_is_none_is_an_error(connection: Connection, desk: Desk) -> None:
    desk.failing = failing(200, {"number": None}, at=1)
    with pytest.raises(sql.OperationalError, match="no count"):
        connection.execute("SELECT count(*) FROM tickets").fetchall()


def test_a_missing_credential_says_where_to_get_it(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DESK_KEY")
    with sql.connect(source="desk") as connection, pytest.raises(sql.OperationalError, match="DESK_KEY: none"):
        connection.execute("SELECT title FROM tickets").fetchall()


def test_a_mistake_of_ours_is_told_without_a_secret(
    connection: Connection, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    from etl_assets.sql.pages import Reader

    connection.execute("SELECT name FROM queues").fetchall()  # registers the key

    def wrong(*_: Any) -> Any:
        raise KeyError(KEY)

    monkeypatch.setattr(Reader, "_pages", wrong)
    with pytest.raises(sql.InternalError, match="KeyError") as refused:
        connection.execute("SELECT name FROM queues").fetchall()
    assert KEY not in str(refused.value)


# Values


def test_a_value_that_does_not_fit_is_null_and_told(connection: Connection, desk: Desk) -> None:
    desk.tickets[1]["opened"] = "yesterday"
    cursor = connection.cursor()
    with pytest.warns(UserWarning, match="opened: not a date: yesterday"):
        rows = cursor.execute("SELECT id, opened FROM tickets WHERE id = 2").fetchall()
    assert rows == [(2, None)]
    assert [str(text) for _, text in cursor.messages] == [
        "desk.tickets: opened: not a date: yesterday; the value is NULL"
    ]
    assert connection.execute("SELECT title FROM tickets WHERE id = 2").fetchall() == [("it's broken",)]


def test_a_key_that_is_null_joins_nothing(connection: Connection, desk: Desk) -> None:
    orphans = sum(row["agentId"] is None for row in desk.tickets)
    assert orphans
    ((joined,),) = connection.execute(
        "SELECT count(*) FROM tickets t JOIN members m ON t.agent_id = m.id WHERE m.queue_id = 1"
    ).fetchall()
    ((none,),) = connection.execute("SELECT count(*) FROM tickets WHERE agent_id IS NULL").fetchall()
    assert none == orphans
    assert 0 < joined < len(desk.tickets)


def test_a_value_that_the_closed_list_does_not_name_is_counted_all_the_same(connection: Connection, desk: Desk) -> None:
    """As a user who was deleted, or a status that came while the list was read."""
    for row in desk.tickets:
        row["statusId"] = 9 if row["id"] == 5 else row["statusId"]
    found = dict(connection.execute("SELECT status_id, count(*) FROM tickets GROUP BY 1").fetchall())
    assert found[9] == 1
    assert sum(found.values()) == 70


def test_days_of_the_api_in_another_zone_lose_no_row(desk: Desk) -> None:
    """The API reads days in a zone that nobody told: a day more on each side holds every one."""
    edges = [datetime(2026, 1, 6, tzinfo=UTC) + timedelta(hours=h) for h in (-9, -1, 0, 1, 8, 9, 14, 15, 23, 24)]
    for row, edge in zip(desk.tickets, edges, strict=False):
        row["changed"] = edge.strftime("%Y-%m-%dT%H:%M:%SZ")
    for zone in ("Asia/Tokyo", "America/New_York", "UTC"):
        with sql.connect(source="desk", timezone=zone) as connection:
            day = "SELECT count(id) FROM ({}) WHERE changed >= '2026-01-06' AND changed < '2026-01-07'"
            pushed = connection.execute(day.format("FROM tickets"))
            local = connection.execute(day.format("SELECT id, changed + INTERVAL 0 DAY AS changed FROM tickets"))
            assert pushed.fetchall() == local.fetchall()
            assert [bool(one.plan and one.plan.scans[0].pushed) for one in (pushed, local)] == [True, False]


# Limits


def test_more_requests_than_permitted_are_refused_before_they_are_made(connection: Connection, desk: Desk) -> None:
    cursor = connection.cursor()
    cursor.max_requests = 2
    with pytest.raises(sql.OperationalError, match="70 rows in 4 pages are needed, 2 requests") as refused:
        cursor.execute("SELECT title FROM tickets").fetchall()
    assert "queue_id" in str(refused.value)
    assert len(desk.asked) == 2  # the first page, and the count
    assert isinstance(cursor.plan, Plan)
    assert cursor.plan.requests == 2


def test_a_limit_passes_where_all_rows_would_not(connection: Connection) -> None:
    cursor = connection.cursor()
    cursor.max_requests, cursor.max_rows = 1, 30
    assert len(cursor.execute("SELECT title FROM tickets LIMIT 10").fetchall()) == 10


def test_more_rows_than_permitted_are_refused(connection: Connection, desk: Desk) -> None:
    cursor = connection.cursor()
    cursor.max_rows = 50
    with pytest.raises(sql.OperationalError, match="max_rows"):
        cursor.execute("SELECT title FROM tickets").fetchall()
    with pytest.raises(sql.OperationalError, match="max_rows"):
        cursor.execute("SELECT ticket_id FROM ticket_lines").fetchall()


def test_a_fan_out_that_is_too_wide_names_a_filter(desk: Desk) -> None:
    with sql.connect(source="desk", max_fan_out=50) as connection:
        with pytest.raises(sql.ProgrammingError, match=r"at least 70 requests.*WHERE ticket_id = 1"):
            connection.execute("SELECT text FROM notes").fetchall()
        assert connection.execute("SELECT count(*) FROM notes WHERE ticket_id IN (2, 3, 5)").fetchall() == [(4,)]


def test_windows_that_are_too_many_name_a_filter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("KEY", "SECRET"):
        monkeypatch.setenv(f"JUSHUITAN_APP_{name}", "of-the-test")
    monkeypatch.setenv("JUSHUITAN_ACCESS_TOKEN", "token-of-the-test")
    monkeypatch.setenv("ETL_DATA_DIR", str(tmp_path))
    with sql.connect(source="jushuitan") as connection:
        with pytest.raises(sql.ProgrammingError, match="WHERE modified >= now"):
            connection.execute("SELECT name FROM suppliers").fetchall()
        with pytest.raises(sql.ProgrammingError, match="lower bound of modified"):
            connection.execute("SELECT name FROM suppliers WHERE modified < '2020-01-01'").fetchall()
        plan = connection.cursor().explain("SELECT name FROM suppliers WHERE modified >= now() - INTERVAL 3 DAY")
    assert plan.requests == 0


# The plan


def test_explain_asks_nothing_and_tells_what_would_be_asked(connection: Connection, desk: Desk) -> None:
    statement = "SELECT id FROM tickets WHERE queue_id = 1 AND opened >= '2026-01-05' AND title LIKE 'P%'"
    plan = connection.cursor().explain(statement)
    assert desk.asked == []
    (scan,) = plan.scans
    assert scan.table == "desk.tickets"
    assert scan.pushed == ("queue=1", "opened from 2026-01-05")
    assert not scan.exact
    assert "opened >= 2026-01-05" in scan.local
    assert scan.estimate == "1 per 20 rows"
    assert plan.filters == ("prefix(title, 'P')",)
    shown = [row[0] for row in connection.execute(f"EXPLAIN {statement}").fetchall()]
    assert shown == plan.lines()


def test_explain_of_a_join_names_the_keys_that_would_be_handed_over(connection: Connection, desk: Desk) -> None:
    statement = "SELECT t.id FROM tickets t JOIN queues q ON q.id = t.queue_id WHERE q.team = 'East'"
    pushed = {scan.table: scan.pushed for scan in connection.cursor().explain(statement).scans}
    assert pushed == {"desk.tickets": ("queue_id in queues.id (up to 200 keys)",), "desk.queues": ()}
    assert desk.asked == []


def test_the_plan_after_a_run_tells_what_was_asked_and_used(connection: Connection) -> None:
    cursor = connection.execute("SELECT id FROM tickets WHERE queue_id = 1 AND priority = 2")
    rows = cursor.fetchall()
    assert cursor.plan is not None
    (scan,) = cursor.plan.scans
    assert (scan.requests, scan.rows_fetched, scan.rows_used) == (1, 17, len(rows))
    assert cursor.plan.as_dict()["scans"][0]["pushed"] == ("queue=1",)
    assert "17 received" in str(cursor.plan)


def test_the_plan_is_there_after_an_error_too(connection: Connection, desk: Desk) -> None:
    desk.failing = failing(400, {}, at=2)
    cursor = connection.cursor()
    with pytest.raises(sql.OperationalError):
        cursor.execute("SELECT title FROM tickets").fetchall()
    assert cursor.plan is not None
    assert cursor.plan.requests == 2


# Properties


@pytest.mark.parametrize(
    ("dsn", "text"),
    [
        ("ApiKye=x", "did you mean apikey"),
        ("Source=nothing", "declared: backlog"),
        ("TimeZone=Mars", "IANA"),
        ("MaxRows=many", "whole number"),
        ("Offline=perhaps", "neither true nor false"),
        ("Offline", "a value is missing"),
        ("=x", "a name is missing"),
        ("Backlog.Nothing=x", "unknown property"),
        ("Source=backlog;ApiKey=key-of-the-test;Url=ftp://x", "BACKLOG_BASE_URL"),
    ],
)
def test_a_wrong_property_is_named(desk: Desk, dsn: str, text: str) -> None:
    with pytest.raises(sql.Error, match=text):
        sql.connect(dsn).execute("SELECT name FROM backlog.priorities").fetchall()


def test_properties_of_several_sources_stand_side_by_side(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DESK_KEY")
    wrong = "Backlog.ApiKey=a;BACKLOG_BASE_URL=https://b.example;"
    with sql.connect(f'{wrong}Desk.Key="{KEY}"; Time Zone = UTC ;') as connection:
        assert connection.execute("SELECT count(*) FROM desk.queues").fetchall() == [(4,)]


def test_keywords_win_over_the_environment(desk: Desk) -> None:
    with sql.connect(source="desk", key="another-key-of-the-test") as connection, pytest.raises(sql.OperationalError):
        connection.execute("SELECT name FROM queues").fetchall()
