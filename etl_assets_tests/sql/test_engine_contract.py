"""What DuckDB and pyarrow do for us, looked at by itself: a release that does otherwise fails here, and says where."""

import json
from collections.abc import Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pytest

from etl_assets.sql.substrait import Among, Compare, Every, Predicate, Present, Some, Unknown, decode, referenced

SCHEMA = pa.schema(
    [
        ("_row", pa.bool_()), ("id", pa.int64()), ("name", pa.string()), ("moment", pa.timestamp("us", "UTC")),
        ("day", pa.date32()), ("fee", pa.decimal128(18, 4)), ("wall", pa.timestamp("us")), ("hours", pa.float64()),
    ]
)  # fmt: skip


class Recorder(ds.Dataset):  # type: ignore[misc]
    """A table without rows that remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[Sequence[str], Predicate | None]] = []

    @property
    def schema(self) -> pa.Schema:
        return SCHEMA

    @property
    def partition_expression(self) -> pc.Expression:
        return pc.scalar(True)

    def scanner(self, columns: Any = None, filter: Any = None) -> Any:  # noqa: A002
        predicate = None if filter is None else decode(bytes(filter.to_substrait(SCHEMA)), SCHEMA.names)
        self.asked.append((columns, predicate))
        self.projected_schema = pa.schema([SCHEMA.field(name) for name in columns])
        return self

    def to_reader(self) -> pa.RecordBatchReader:
        return pa.RecordBatchReader.from_batches(self.projected_schema, iter(()))


@pytest.fixture
def db() -> duckdb.DuckDBPyConnection:
    made = duckdb.connect(":memory:")
    made.execute("SET GLOBAL TimeZone = 'Asia/Tokyo'")
    return made


def asked(db: duckdb.DuckDBPyConnection, statement: str, *parameters: Any) -> tuple[Sequence[str], Predicate | None]:
    table = Recorder()
    db.register("__t", table)
    db.execute("CREATE OR REPLACE TEMP VIEW t AS SELECT * EXCLUDE (_row) FROM __t")
    db.execute(statement, list(parameters) or None).fetchall()
    (only,) = table.asked
    return only


@pytest.mark.parametrize(
    ("where", "predicate"),
    [
        ("id = '1'", Compare("id", "equal", 1)),
        ("id = -5", Compare("id", "equal", -5)),
        ("3 < id", Compare("id", "gt", 3)),
        ("id IN (1, 2, 3)", Among("id", frozenset([1, 2, 3]))),
        ("name IN ('a', 'ü')", Among("name", frozenset(["a", "ü"]))),
        ("id = 1 OR id = 2", Some((Compare("id", "equal", 1), Compare("id", "equal", 2)))),
        ("moment >= '2026-01-05'", Compare("moment", "gte", datetime(2026, 1, 4, 15, tzinfo=UTC))),
        ("day <= DATE '1969-12-30'", Compare("day", "lte", date(1969, 12, 30))),
        ("fee = -1.5", Compare("fee", "equal", Decimal("-1.5000"))),
        ("wall > '2026-01-05'", Compare("wall", "gt", datetime(2026, 1, 5))),  # noqa: DTZ001 - a wall clock
        ("name IS NOT NULL", Present("name")),
        ("name IS NULL", Unknown()),
        ("id <> 5", Unknown()),
        ("id NOT IN (1, 2)", Unknown()),
        ("id = 1 AND day >= '2026-01-05'", Every((Compare("day", "gte", date(2026, 1, 5)), Compare("id", "equal", 1)))),
    ],
)
def test_a_condition_comes_as_this_predicate(db: duckdb.DuckDBPyConnection, where: str, predicate: Predicate) -> None:
    found = asked(db, f"SELECT id FROM t WHERE {where}")[1]
    if isinstance(predicate, Every):
        assert isinstance(found, Every)
        assert set(found.parts) == set(predicate.parts)
    else:
        assert found == predicate


def test_a_parameter_comes_as_a_literal(db: duckdb.DuckDBPyConnection) -> None:
    assert asked(db, "SELECT id FROM t WHERE id = ?", 7)[1] == Compare("id", "equal", 7)


def test_a_day_cut_from_an_instant_comes_as_a_range(db: duckdb.DuckDBPyConnection) -> None:
    found = asked(db, "SELECT id FROM t WHERE date_trunc('day', moment) = '2026-01-05'")[1]
    bounds = (datetime(2026, 1, 4, 15, tzinfo=UTC), datetime(2026, 1, 5, 15, tzinfo=UTC))
    assert found == Every((Compare("moment", "gte", bounds[0]), Compare("moment", "lt", bounds[1])))


@pytest.mark.parametrize("where", ["name LIKE 'a%'", "hours > 1.5", "lower(name) = 'a'", "id % 2 = 0"])
def test_these_conditions_stay_with_the_engine(db: duckdb.DuckDBPyConnection, where: str) -> None:
    assert asked(db, f"SELECT id FROM t WHERE {where}")[1] is None


def test_count_asks_for_the_first_column_alone(db: duckdb.DuckDBPyConnection) -> None:
    assert asked(db, "SELECT count(*) FROM t WHERE id = 1") == (["_row"], Compare("id", "equal", 1))


def test_counts_per_value_ask_for_that_column_alone(db: duckdb.DuckDBPyConnection) -> None:
    assert asked(db, "SELECT id, count(*) FROM t GROUP BY id") == (["id"], None)


@pytest.mark.parametrize(
    ("statement", "operators"),
    [
        ("SELECT id FROM t WHERE id > 3 ORDER BY moment DESC LIMIT 5", ["PROJECTION", "TOP_N", "PYTHON_ARROW_SCAN"]),
        ("SELECT upper(name) FROM t LIMIT 5", ["PROJECTION", "STREAMING_LIMIT", "PYTHON_ARROW_SCAN"]),
    ],
)
def test_the_plan_names_its_operators(db: duckdb.DuckDBPyConnection, statement: str, operators: list[str]) -> None:
    db.register("__t", Recorder())
    db.execute("CREATE TEMP VIEW t AS SELECT * EXCLUDE (_row) FROM __t")
    ((_, text),) = db.execute(f"EXPLAIN (FORMAT JSON) {statement}").fetchall()
    found, node = [], json.loads(text)
    while node:
        found.append(node[0]["name"])
        node = node[0]["children"]
    assert found == operators


def test_a_view_finds_the_scan_of_the_connection_that_reads_it(db: duckdb.DuckDBPyConnection) -> None:
    db.register("__t", Recorder())
    db.execute("CREATE VIEW t AS SELECT id FROM __t")
    own = Recorder()
    with db.cursor() as other:
        other.register("__t", own)
        other.execute("SELECT id FROM t").fetchall()
    assert own.asked == [(["id"], None)]


def test_the_columns_of_a_predicate_are_found_whatever_it_says() -> None:
    both = (pc.field("id") + 1 == 3) & pc.is_null(pc.field("name"))
    assert {"id", "name"} <= referenced(bytes(both.to_substrait(SCHEMA)), SCHEMA.names)


def test_a_message_that_is_cut_is_an_error() -> None:
    message = bytes((pc.field("name") == "some text").to_substrait(SCHEMA))
    with pytest.raises(ValueError, match="cut"):
        decode(message[:-20], SCHEMA.names)
