"""Columns: types, time zones, derived ones; nothing is bent."""

import json
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest

from etl_assets.errors import FinalError, SettingError
from etl_assets_tests.data import DAY, Bench, Page, utc, wall


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("null", None),
        ('"null"', "null"),
        ('"a \\"text\\""', 'a "text"'),
        ('""', ""),
        ("0", 0),
        ("false", False),
        ("[]", []),
        ("{}", {}),
        ('{"b": [1, {"c": null}], "a": {}}', {"b": [1, {"c": None}], "a": {}}),
        ('"{\\"not\\": \\"parsed\\"}"', '{"not": "parsed"}'),
        ("123456789012345678901234567890", 123456789012345678901234567890),
    ],
)
def test_a_json_column_keeps_the_value_as_valid_json(tmp_path: Path, sent: str, kept: Any) -> None:
    bench = Bench.of(tmp_path, "columns: {id: integer, j: json}")
    bench.land([Page(f'[{{"id": 1, "j": {sent}}}]')])
    bench.clean()
    (row,) = bench.rows()
    assert (None if row["j"] is None else json.loads(row["j"])) == kept
    assert (row["j"] is None) == (sent == "null")


@pytest.mark.one_in(3)
@pytest.mark.parametrize(
    ("column", "sent", "kept"),
    [
        ("string", '{"a": [1, 2]}', '{"a":[1,2]}'),
        ("string", "[]", "[]"),
        ("string", "5", "5"),
        ("string", "true", "true"),
        ("string", "null", None),
        ("string", '"null"', "null"),
        ("string", "123456789012345678901234567890", "123456789012345678901234567890"),
        ("integer", "9007199254740993", 2**53 + 1),
        ("integer", '"42"', 42),
        ("integer", "9223372036854775807", 2**63 - 1),
        ("integer", "1e3", 1000),
        ("decimal(18,4)", "1234567.8901", Decimal("1234567.8901")),
        ("decimal(18,4)", "0.1", Decimal("0.1000")),
        ("decimal(18,4)", "1e-4", Decimal("0.0001")),
        (
            "decimal(38,10)",
            '"1234567890123456789012345678.0123456789"',
            Decimal("1234567890123456789012345678.0123456789"),
        ),
        ("decimal(38,0)", "12345678901234567890123456789012345678", Decimal(12345678901234567890123456789012345678)),
        ("number", "0.1", 0.1),
        ("boolean", "true", True),
        ("boolean", '"false"', False),
        ("boolean", "0", False),
        ("{type: timestamp, format: epoch_ms}", "1767225600123", utc("2026-01-01 00:00:00.123")),
        ("{type: timestamp, format: epoch_s}", "1767225600.25", utc("2026-01-01 00:00:00.25")),
        ("{type: date, format: epoch_ms}", "1767193200000", date(2026, 1, 1)),
        ("date", '"2026-01-04T15:00:00Z"', date(2026, 1, 5)),
    ],
)
def test_a_json_value_becomes_the_declared_type(tmp_path: Path, column: str, sent: str, kept: Any) -> None:
    bench = Bench.of(tmp_path, f"columns:\n  id: integer\n  v: {column}")
    bench.land([Page(f'[{{"id": 1, "v": {sent}}}]')])
    bench.clean()
    assert [row["v"] for row in bench.rows()] == [kept]


def test_of_several_paths_the_first_present_one_counts(tmp_path: Path) -> None:
    bench = Bench.of(
        tmp_path,
        """
        columns:
          id: {type: integer, path: [userProfileId, user.id, id]}
          tags: {type: json, path: [tags, user.tags]}
        """,
    )
    bench.cleaned(
        [
            {"userProfileId": 1, "user": {"id": 91}, "id": 92, "tags": [1]},
            {"userProfileId": None, "user": {"id": 2, "tags": [2]}, "id": 92},
            {"id": 3, "user": {"tags": None}},
        ]
    )
    assert [(row["id"], row["tags"], row["_extra"]) for row in bench.rows()] == [
        (1, "[1]", None),
        (2, "[2]", None),
        (3, None, None),
    ]


def test_columns_may_have_the_names_of_anything(tmp_path: Path) -> None:
    names = ["page", "record", "stamp", "rest", "rows", "plain", "nested", "body", "file", "select", "order", "given"]
    bench = Bench.of(tmp_path, "columns: {id: integer, " + ", ".join(f"{name}: string" for name in names) + "}")
    bench.loaded([{"id": 1, **{name: f"a {name}" for name in names}, "more": 1}])
    (row,) = bench.table()
    assert {name: row[name] for name in names} == {name: f"a {name}" for name in names}
    assert row["_extra"] == '{"more":1}'


def test_paths_may_hold_anything_that_is_not_a_dot(tmp_path: Path) -> None:
    paths = ["quo'te", "st*ar", "x[0]", "a b", "dollar$", "客户", "%s", "UPPER__c", "-"]
    declared = "".join(f"  {json.dumps(path)}: {{type: string, name: c{n}}}\n" for n, path in enumerate(paths))
    bench = Bench.of(tmp_path, f"columns:\n  id: integer\n{declared}")
    bench.cleaned([{"id": 1, **{path: path for path in paths}}])
    (row,) = bench.rows()
    assert [row[f"c{n}"] for n in range(len(paths))] == paths
    assert row["_extra"] is None


def test_fields_may_differ_in_case_only(tmp_path: Path) -> None:
    bench = Bench.of(
        tmp_path,
        """
        columns:
          id: integer
          Name: string
          NAME: {type: string, name: upper}
          a.B: {type: string, name: ab}
          A.B: {type: string, name: big}
          A.b: {type: string, name: small}
          c.x: string
        """,
    )
    record = {"id": 1, "name": "n", "Name": "N", "NAME": "NN", "a": {"B": "aB", "b": "ab"}, "A": {"B": "AB", "b": "Ab"}}
    bench.cleaned([{**record, "c": {"x": "x", "X": "y"}}, {"id": 2, "name": "n", "C": {"x": "y"}}])
    first, second = bench.rows()
    assert [first[name] for name in ("name", "upper", "ab", "big", "small", "c_x")] == [
        "N",
        "NN",
        "aB",
        "AB",
        "Ab",
        "x",
    ]
    assert json.loads(first["_extra"]) == {"name": "n", "a": {"b": "ab"}, "c": {"X": "y"}}
    assert [second[name] for name in ("name", "upper", "ab", "big", "small", "c_x")] == [None] * 6
    assert json.loads(second["_extra"]) == {"name": "n", "C": {"x": "y"}}


def test_a_field_may_be_declared_as_a_whole_and_in_part(tmp_path: Path) -> None:
    bench = Bench.of(
        tmp_path,
        """
        columns:
          id: integer
          who: {type: string, path: [user.id, user]}
          user.name: string
          tags: json
          tags.first: string
          tags.more.deep: json
        """,
    )
    tags = {"first": "f", "more": {"deep": [1]}, "other": 2}
    bench.cleaned([{"id": 1, "user": {"id": 5, "name": "n"}, "tags": tags}, {"id": 2, "user": "x", "tags": ["t"]}])
    first, second = bench.rows()
    assert (first["who"], first["user_name"], first["tags_first"], first["tags_more_deep"]) == ("5", "n", "f", "[1]")
    assert json.loads(first["tags"]) == tags
    assert (second["who"], second["user_name"], second["tags"], second["tags_first"]) == ("x", None, '["t"]', None)
    assert (first["_extra"], second["_extra"]) == (None, None)


EACH = """
each: {stream: parents, stamp: {user_id: id, user: name, tags: name}}
columns: {id: integer, user_id: integer, user: string, tags: json, v: string}
"""


@pytest.mark.parametrize(
    ("stamp", "row"),
    [
        ({"user_id": 7, "user": "Ann", "tags": ["x"]}, (7, "Ann", '["x"]')),
        ({"user_id": None, "user": None, "tags": None}, (9, "Own", '{"own":1}')),
        ({}, (9, "Own", '{"own":1}')),
        ({"user_id": "7", "user": '"quoted"\n', "tags": "text"}, (7, '"quoted"\n', '"text"')),
    ],
)
def test_what_the_request_knows_of_a_row_wins_over_the_row(
    tmp_path: Path, stamp: dict[str, Any], row: tuple[Any, ...]
) -> None:
    bench = Bench.of(tmp_path, EACH)
    bench.land([Page([{"id": 1, "user_id": 9, "user": "Own", "tags": {"own": 1}, "v": "x"}], stamp)])
    bench.clean()
    (found,) = bench.rows()
    assert (found["user_id"], found["user"], found["tags"]) == row
    assert (found["v"], found["_extra"]) == ("x", None)


def test_each_page_has_its_own_stamp(tmp_path: Path) -> None:
    bench = Bench.of(tmp_path, EACH)
    bench.land([Page([{"id": n}, {"id": n + 10}], {"user_id": n, "user": f"u{n}"}) for n in range(3)])
    bench.clean()
    assert [(row["id"], row["user_id"], row["user"]) for row in bench.rows()] == [
        (n + ten, n, f"u{n}") for ten in (0, 10) for n in range(3)
    ]


ZONED = """
each: {stream: parents, stamp: {zone: zone}}
zone: zone
reading: "{DEMO_READING}"
window: {column: t}
local: [t]
columns: {id: integer, t: timestamp, zone: string}
"""
READING = "settings: {DEMO_READING: {default: offset_aware, help: x}}"


@pytest.mark.parametrize(
    ("reading", "zone", "text", "instant"),
    [
        ("offset_aware", "Asia/Tokyo", "2026-01-05T09:00:00", "2026-01-05 00:00"),
        ("offset_aware", "America/New_York", "2026-01-04T19:00:00", "2026-01-05 00:00"),
        ("offset_aware", None, "2026-01-05T09:00:00", "2026-01-05 00:00"),
        ("offset_aware", "America/New_York", "2026-01-05T00:00:00Z", "2026-01-05 00:00"),
        ("user_wall_clock", "Asia/Tokyo", "2026-01-05T09:00:00Z", "2026-01-05 00:00"),
        ("user_wall_clock", "Europe/Berlin", "2026-01-05T01:00:00Z", "2026-01-05 00:00"),
        ("user_wall_clock", None, "2026-01-05T09:00:00+00:00", "2026-01-05 00:00"),
    ],
)
def test_a_time_is_read_in_the_zone_of_its_row(
    tmp_path: Path, reading: str, zone: str | None, text: str, instant: str
) -> None:
    bench = Bench.of(tmp_path, ZONED, more=READING)
    bench.land([Page([{"id": 1, "t": text}], {"zone": zone})], day=DAY)
    bench.clean(day=DAY, values={"DEMO_READING": reading})
    (row,) = bench.rows(day=DAY)
    assert (row["t"], row["t_local"], row["zone"]) == (utc(instant), wall("2026-01-05 09:00"), zone)


def test_a_reading_that_is_none_is_refused(tmp_path: Path) -> None:
    bench = Bench.of(tmp_path, ZONED, more=READING)
    bench.land([Page([], {})], day=DAY)
    with pytest.raises(SettingError, match=r"things\.reading: 'guess' is neither"):
        bench.clean(day=DAY, values={"DEMO_READING": "guess"})


def test_derived_and_local_columns_are_computed_from_the_typed_ones(tmp_path: Path) -> None:
    bench = Bench.of(
        tmp_path,
        """
        local: [began, ended]
        columns: {id: integer, began: timestamp, ended: timestamp, price: "decimal(10,2)"}
        derived:
          running: {type: boolean, sql: ended IS NULL}
          seconds: {type: integer, sql: "date_diff('second', began, ended)"}
          gross: {type: "decimal(12,2)", sql: price * 1.1}
          label: {type: json, sql: "json_object('id', id)"}
        """,
    )
    bench.cleaned(
        [
            {"id": 1, "began": "2026-01-05T00:00:00Z", "ended": "2026-01-05T01:00:01Z", "price": "10.00"},
            {"id": 2, "began": "2026-01-05T00:00:00", "ended": None},
        ]
    )
    first, second = bench.rows()
    assert (first["running"], first["seconds"], first["gross"]) == (False, 3601, Decimal("11.00"))
    assert json.loads(first["label"]) == {"id": 1}
    assert (first["began_local"], first["ended_local"]) == (wall("2026-01-05 09:00"), wall("2026-01-05 10:00:01"))
    assert (second["running"], second["seconds"], second["gross"]) == (True, None, None)
    assert (second["began_local"], second["ended_local"]) == (wall("2026-01-05"), None)


def test_a_wrong_expression_is_a_final_error_that_says_what_is_wrong(tmp_path: Path) -> None:
    bench = Bench.of(tmp_path, "columns: {id: integer}\nderived: {x: {type: integer, sql: nope + 1}}")
    with pytest.raises(FinalError, match=r"^cannot be cleaned.*nope"):
        bench.cleaned([{"id": 1}])


def test_the_file_has_the_columns_in_the_order_and_types_of_the_declaration(tmp_path: Path) -> None:
    bench = Bench.of(
        tmp_path,
        """
        local: [t]
        columns: {id: integer, z: string, a: number, b: boolean, c: "decimal(10,2)", d: date, t: timestamp, j: json}
        derived: {y: {type: integer, sql: id}}
        """,
    )
    bench.cleaned([{"id": 1}])
    folder = bench.folder("clean", None)
    (file,) = folder.files(folder.manifest())
    with duckdb.connect(":memory:") as db:
        described = db.execute(f"DESCRIBE FROM read_parquet('{file}')").fetchall()
    expected = [*bench.stream.table_columns(), ("_extra", "JSON"), ("_page", "BIGINT")]
    assert [(name, kind) for name, kind, *_ in described] == expected
