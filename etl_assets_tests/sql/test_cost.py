"""What statements cost in requests, and that they give what the same data give in full: a lost pushdown is a bug."""

from collections.abc import Iterator
from typing import Any

import duckdb
import pytest

from etl_assets.sandbox.server import running
from etl_assets_tests.sources.truth import lab
from etl_assets_tests.sql.place import Place, in_full, place, same

TABLES = ["backlog.projects", "backlog.statuses", "backlog.issues", "tmetric.members", "tmetric.time_entries"]
# 933 issues in pages of 100, each of which begins with the last row of the one before: 10 requests for all.
ALL = 10
JOIN = "FROM Issues i JOIN Projects p ON i.ProjectID = p.id WHERE p.project_key IN ('DEMO', 'SHOP')"
ENTRIES = "tmetric.TimeEntries t JOIN backlog.Issues i ON i.IssueKey = t.task_external_link_caption"
WEEK = "t.start_time >= '2026-01-05' AND t.start_time < '2026-01-08'"

CASES: list[tuple[str, int, bool]] = [
    ("SELECT Id, ProjectID FROM Issues WHERE Id = '200001'", 1, False),
    ("SELECT id FROM issues WHERE project_id = 101 AND status_id = 3", 1, False),
    ("SELECT count(*) FROM issues WHERE project_id = 101 AND status_id IN (1, 2)", 1, True),
    ("SELECT count(*) FROM issues", 1, True),
    ("SELECT id, updated FROM issues ORDER BY updated DESC, id LIMIT 10", ALL, True),
    ("SELECT updated FROM issues ORDER BY updated DESC LIMIT 10", 1, True),
    ("SELECT updated FROM issues WHERE project_id = 102 ORDER BY updated LIMIT 5 OFFSET 3", 1, True),
    # One for the total; projects and the statuses of each for the values; one for each of 7 values.
    ("SELECT assignee_id, count(*) FROM issues GROUP BY 1", ALL, False),
    ("SELECT priority_id, count(*) FROM issues GROUP BY 1", 1 + 1 + 3, False),
    ("SELECT status_id, count(*) FROM issues WHERE status_id IN (1, 2, 3) GROUP BY 1", 1 + 3, False),
    ("SELECT id FROM issues WHERE updated >= '2026-01-06' AND updated < '2026-01-07'", 2, False),
    ("SELECT id FROM issues WHERE date_trunc('day', updated) = '2026-01-06'", 2, False),
    ("SELECT id FROM issues WHERE created > '2026-01-05' AND project_id = 101", 1, False),
    ("SELECT id FROM issues WHERE issue_key IN ('DEMO-1', 'SHOP-2', 'NONE-3')", 3, False),
    ("SELECT id FROM issues WHERE id = 200001 AND id = 200002", 0, False),
    ("SELECT summary FROM issues LIMIT 5", 1, False),
    ("SELECT id FROM issues WHERE summary LIKE '%login%'", ALL, False),
    (f"SELECT i.id, upper(p.name) {JOIN}", 1 + 7, False),
    ("SELECT id, row_number() OVER (PARTITION BY status_id ORDER BY id) FROM issues WHERE project_id = 101", 4, False),
    # The children's pages, and the parents by their ids at once.
    (
        "SELECT c.id, p.id FROM issues c JOIN issues p ON c.parent_issue_id = p.id WHERE c.project_id = 101",
        4 + 1,
        False,
    ),
    (
        "SELECT c.id, p.id FROM issues c LEFT JOIN issues p ON c.parent_issue_id = p.id WHERE c.project_id = 101",
        4 + 1,
        False,
    ),
    ("SELECT * FROM statuses WHERE project_id = 101", 2, False),
    ("SELECT count(*) FROM statuses", 1 + 4, True),
]


@pytest.fixture(scope="module")
def x(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("cost")
    with (
        running(vendors=("backlog", "tmetric")) as both,
        lab("tmetric", folder, sandbox=both),
        place("backlog", folder, sandbox=both, timezone="Asia/Tokyo") as ready,
    ):
        yield ready


@pytest.fixture(scope="module")
def full(x: Place) -> duckdb.DuckDBPyConnection:
    db = in_full(x.connection, TABLES, "Asia/Tokyo")
    db.execute("SET search_path = 'backlog'")
    return db


def requests(x: Place) -> int:
    return sum(x.sandbox.vendor(name).count() for name in ("backlog", "tmetric"))


def counted(x: Place, statement: str, *parameters: Any) -> tuple[int, list[tuple[Any, ...]]]:
    for name in ("backlog", "tmetric"):
        x.sandbox.vendor(name).clear_log()
    rows = x.run(statement, *parameters)
    return requests(x), rows


def plain(statement: str) -> str:
    for spelled, own in {"ProjectID": "project_id", "TimeEntries": "time_entries", "IssueKey": "issue_key"}.items():
        statement = statement.replace(spelled, own)
    return statement


@pytest.mark.parametrize(("statement", "most", "ordered"), CASES, ids=[case[0] for case in CASES])
def test_a_statement_takes_so_many_requests_and_gives_the_right_rows(
    x: Place, full: duckdb.DuckDBPyConnection, statement: str, most: int, ordered: bool
) -> None:
    took, rows = counted(x, statement)
    wanted = full.execute(plain(statement)).fetchall()
    if "LIMIT 5" in statement and "ORDER" not in statement:
        assert len(rows) == 5
    else:
        assert same(rows, wanted, ordered=ordered)
    assert took == most


def test_parameters_are_pushed_down(x: Place) -> None:
    took, rows = counted(x, "SELECT id FROM issues WHERE project_id = ? AND id IN (?, ?)", 101, 200001, 200002)
    assert (took, rows) == (1, [(200001,)])


def test_a_join_across_sources_asks_for_the_issues_that_the_entries_name(
    x: Place, full: duckdb.DuckDBPyConnection
) -> None:
    ((user,),) = full.execute("SELECT min(user_id) FROM tmetric.time_entries").fetchall()
    statement = f"SELECT i.id, i.summary, t.duration_seconds FROM {ENTRIES} WHERE t.user_id = ? AND {WEEK}"
    took, rows = counted(x, statement, user)
    wanted = full.execute(plain(statement), [user]).fetchall()
    assert rows
    assert same(rows, wanted, ordered=False)
    named = full.execute(
        f"SELECT count(DISTINCT task_external_link_caption) FROM tmetric.time_entries t WHERE user_id = ? AND {WEEK}",
        [user],
    ).fetchall()[0][0]
    # Members, their zones, the member's entries; the number of all issues; an issue for each key.
    assert took == 3 + 1 + named


def test_more_ids_than_one_request_takes_go_into_several(x: Place) -> None:
    ids = list(range(200001, 200251))
    took, rows = counted(x, f"SELECT id FROM issues WHERE id IN ({', '.join(map(str, ids))})")
    assert took == 3
    assert {row[0] for row in rows} <= set(ids)
    assert len(rows) > 200


def test_more_values_than_are_worth_parts_are_left_to_the_engine(x: Place) -> None:
    values = ", ".join(map(str, range(1, 700)))
    took, rows = counted(x, f"SELECT count(id) FROM issues WHERE assignee_id IN ({values})")
    assert (took, rows) == (ALL, [(0,)])


def test_two_hundred_keys_are_handed_over_and_one_more_is_not(x: Place) -> None:
    join = "SELECT count(c.id) FROM issue_keys k JOIN issues c ON c.id = k.id WHERE k.id <= {}"
    few, _ = counted(x, join.format(200200))
    many, _ = counted(x, join.format(200240))
    assert few < many


def test_the_same_pages_are_not_fetched_twice_in_a_statement(x: Place) -> None:
    once, _ = counted(x, "SELECT count(id) FROM issues WHERE project_id = 101")
    took, _ = counted(
        x, "SELECT a.id FROM issues a, issues b WHERE a.project_id = 101 AND b.project_id = 101 AND a.id = b.id + 3"
    )
    assert took <= once + 1


def test_the_cache_keeps_pages_for_later_statements(x: Place) -> None:
    with place("backlog", x.lab.folder / "cached", sandbox=x.sandbox, cache_seconds=60) as cached:
        first, _ = counted(cached, "SELECT count(DISTINCT summary) FROM issues WHERE project_id = 101")
        again, _ = counted(cached, "SELECT max(summary) FROM issues WHERE project_id = 101")
    assert (first, again) == (4, 0)


def test_hints_can_be_switched_off_and_change_no_row(x: Place) -> None:
    with place("backlog", x.lab.folder / "plain", sandbox=x.sandbox, hints=False) as without:
        took, rows = counted(without, f"SELECT i.id {JOIN}")
    _, hinted = counted(x, f"SELECT i.id {JOIN}")
    assert took == 1 + ALL
    assert same(rows, hinted, ordered=False)
