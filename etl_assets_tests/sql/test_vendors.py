"""Every column that the packaged files declare, asked of its simulator: pushed down, and with the right rows.

A parameter that the API does not know, or reads as something narrower, would lose rows here.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from etl_assets.spec import Stream
from etl_assets.streamfiles import load_sources
from etl_assets_tests.sql.place import Place, place, same

FIRST, LAST = "2026-01-04", "2026-01-09"
SOURCES = sorted(load_sources())


@pytest.fixture(scope="module", params=SOURCES)
def x(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with place(request.param, tmp_path_factory.mktemp(request.param), max_fan_out=2000) as ready:
        yield ready


def within(stream: Stream) -> str:
    """The days with data, where the API demands a window."""
    if stream.window is None or stream.query.window == "optional":
        return "true"
    return f"{stream.window.column} >= '{FIRST}' AND {stream.window.column} < '{LAST}'"


def whole(x: Place, stream: Stream, columns: list[str]) -> duckdb.DuckDBPyConnection:
    listed = ", ".join(f'"{name}"' for name in dict.fromkeys([*stream.key, *columns]))
    cursor = x.connection.execute(f"SELECT {listed} FROM {stream.name} WHERE {within(stream)}")
    db = duckdb.connect(":memory:")
    db.execute(f"SET TimeZone = '{x.lab.source.timezone}'")
    db.register("found", cursor.fetch_arrow_table())
    db.execute(f'CREATE TABLE "{stream.name}" AS FROM found')
    return db


@pytest.mark.one_in(4)
def test_every_declared_column_is_asked_for_and_loses_no_row(x: Place) -> None:
    for stream in x.lab.source.streams:
        query = stream.query
        sorts = query.sort.columns if query.sort else {}
        columns = [*query.eq, *query.row, *query.ranges, *sorts]
        if not columns:
            continue
        key = ", ".join(f'"{name}"' for name in stream.key)
        with whole(x, stream, columns) as full:
            assert full.execute(f'SELECT count(*) > 0 FROM "{stream.name}"').fetchall() == [(True,)], stream.name
            for where in conditions(full, stream):
                window = (
                    "true" if any(f'"{name}" ' in where for name, p in query.eq.items() if p.alone) else within(stream)
                )
                statement = f'SELECT {key} FROM "{stream.name}" WHERE {where} AND {window}'
                cursor = x.connection.execute(statement)
                rows = cursor.fetchall()
                assert same(
                    rows, full.execute(f'SELECT {key} FROM "{stream.name}" WHERE {where}').fetchall(), ordered=False
                ), statement
                assert cursor.plan is not None
                assert cursor.plan.scans[0].pushed, statement
            for column in sorts:
                statement = f'SELECT {column} FROM "{stream.name}" ORDER BY {column} DESC LIMIT 7'
                cursor = x.connection.execute(statement)
                assert cursor.fetchall() == full.execute(statement).fetchall(), statement
                assert cursor.plan is not None
                assert "ORDER BY" in cursor.plan.scans[0].pushed[-1], statement


def conditions(full: duckdb.DuckDBPyConnection, stream: Stream) -> Iterator[str]:
    """Conditions on each column with values that it has: one, two and none of them; a span of days."""
    for column in [*stream.query.eq, *stream.query.row]:
        sql = f'SELECT DISTINCT "{column}" AS v FROM "{stream.name}" WHERE v IS NOT NULL ORDER BY v LIMIT 2'
        values = [repr(value) for (value,) in full.execute(sql).fetchall()]
        for listed in (values[:1], values):
            if listed:
                yield f'"{column}" IN ({", ".join(listed)})'
    for column in stream.query.ranges:
        sql = f'SELECT min("{column}"), max("{column}") FROM "{stream.name}"'
        ((low, high),) = full.execute(sql).fetchall()
        if low is not None:
            middle = low + (high - low) / 2
            yield f"\"{column}\" BETWEEN '{low}' AND '{middle}'"
            yield f"\"{column}\" > '{middle}'"


def test_declared_counts_are_those_of_the_rows(x: Place) -> None:
    for stream in x.lab.source.streams:
        if stream.query.count is None:
            continue
        rows = x.run(f"SELECT {stream.key[0]} FROM {stream.name}")
        cursor = x.connection.execute(f"SELECT count(*) FROM {stream.name}")
        assert cursor.fetchall() == [(len(rows),)]
        assert cursor.plan is not None
        for column in stream.query.closed:
            grouped = f"SELECT {column}, count(*) FROM {stream.name} GROUP BY 1"
            counts = dict(x.run(grouped))
            found = [row[0] for row in x.run(f"SELECT {column} FROM {stream.name} WHERE {stream.key[0]} > 0")]
            assert counts == {value: found.count(value) for value in set(found)}, column


def test_a_member_and_a_week_are_three_requests(tmp_path: Path) -> None:
    with place("tmetric", tmp_path) as x:
        ((member,),) = x.run("SELECT min(id) FROM members")
        took, _, rows = x.counted(
            "SELECT id FROM TimeEntries WHERE UserId = ? AND StartTime >= '2026-01-05' AND StartTime < '2026-01-12'",
            member,
        )
        assert took == 3  # the members, their zones, and the entries of the one
        everybody = x.run(
            "SELECT id, user_id FROM TimeEntries WHERE StartTime >= '2026-01-05' AND StartTime < '2026-01-12'"
        )
        assert sorted(row[0] for row in rows) == sorted(number for number, user in everybody if user == member)
