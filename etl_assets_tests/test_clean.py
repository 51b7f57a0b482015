"""Clean: every received row is loaded, quarantined, a duplicate or outside the day, and nothing of it is bent."""

import json
import random
import textwrap
import zlib
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest

from etl_assets.errors import FinalError, LandingError, QuarantineError, SettingError
from etl_assets_tests.data import DAY, Bench, Page, utc, wall

DAILY = """
window: {column: t}
columns: {id: integer, t: timestamp, n: integer}
"""
LENIENT = "quarantine: {rows: 1000}\n"


def at(text: str) -> str:
    """A time of the day in Tokyo, as an API with UTC times writes it."""
    return f"2026-01-{text}+09:00"


# Every row in one place


def outcome(record: Mapping[str, Any], start: datetime, end: datetime) -> str:
    """Where a record of the random mix belongs."""
    time = record["t"]
    known = datetime.fromisoformat(time) if isinstance(time, str) and time.startswith("2026") else None
    if known and not start <= known < end:
        return "outside"
    fits = isinstance(record.get("id"), int) and known is not None and not isinstance(record["n"], str)
    return "good" if fits else "bad"


@pytest.mark.parametrize("seed", range(6))
def test_rows_received_are_rows_loaded_quarantined_duplicate_and_outside(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    bench = Bench.of(tmp_path, LENIENT + DAILY)
    window = bench.window(DAY)
    assert window is not None
    records = []
    for number in range(400):
        instant = window.start + timedelta(milliseconds=chance.randrange(-86_400_000 // 2, 86_400_000 * 3 // 2))
        record = {
            "id": chance.choice([None, "x", *[number] * 20, *[chance.randrange(40)] * 20]),
            "t": chance.choice([instant.isoformat()] * 20 + [None, "soon", ""]),
            "n": chance.choice([number, None] * 10 + ["many"]),
            "serial": number,
        }
        if chance.random() < 0.02:
            del record["id"]
        records.append(record)
    cut = sorted(chance.sample(range(400), 5))
    bench.land([Page(records[a:b]) for a, b in zip([0, *cut], [*cut, 400], strict=True)], day=DAY)
    cleaned = bench.clean(day=DAY)

    where: dict[str, list[dict[str, Any]]] = {"good": [], "bad": [], "outside": []}
    for record in records:
        where[outcome(record, window.start, window.end)].append(record)
    newest: dict[int, dict[str, Any]] = {}
    for record in where["good"]:
        best = newest.get(record["id"])
        if best is None or record["t"] > best["t"]:
            newest[record["id"]] = record
    assert min(map(len, where.values())) > 0

    loaded = bench.rows(day=DAY)
    assert {row["id"]: json.loads(row["_extra"])["serial"] for row in loaded} == {
        key: record["serial"] for key, record in newest.items()
    }
    quarantined = [json.loads(row["record"])["serial"] for row in bench.quarantine(day=DAY)]
    assert sorted(quarantined) == [record["serial"] for record in where["bad"]]
    assert (cleaned.rows_raw, cleaned.rows_outside) == (400 - len(where["outside"]), len(where["outside"]))
    assert cleaned.rows_raw == cleaned.manifest.rows + cleaned.rows_quarantined + cleaned.rows_duplicate
    assert cleaned.manifest.rows == len(loaded) == len(newest)
    assert cleaned.rows_quarantined == len(quarantined)
    details = cleaned.manifest.details
    assert [details[name] for name in ("rows_raw", "rows_quarantined", "rows_duplicate")] == [
        cleaned.rows_raw,
        cleaned.rows_quarantined,
        cleaned.rows_duplicate,
    ]


@pytest.mark.one_in(3)
@pytest.mark.parametrize(
    ("text", "inside"),
    [
        ("2026-01-04T23:59:59.999+09:00", False),
        ("2026-01-04T23:59:59.999999+09:00", False),
        ("2026-01-05T00:00:00+09:00", True),
        ("2026-01-05T12:00:00+09:00", True),
        ("2026-01-05T23:59:59.999+09:00", True),
        ("2026-01-05T23:59:59.9999999+09:00", True),
        ("2026-01-06T00:00:00+09:00", False),
        ("2026-01-05T24:00:00+09:00", False),
        ("2026-01-04T15:00:00Z", True),
        ("2026-01-05T14:59:59Z", True),
        ("2026-01-05T15:00:00Z", False),
        ("2026-01-05T00:00:00", True),
        ("2026-01-06", False),
    ],
)
def test_a_day_begins_at_midnight_and_ends_before_the_next(tmp_path: Path, text: str, inside: bool) -> None:
    bench = Bench.of(tmp_path, DAILY)
    cleaned = bench.cleaned([{"id": 1, "t": text}, {"id": 2, "t": "2026-01-05T09:00:00"}], day=DAY)
    assert [row["id"] for row in bench.rows(day=DAY)] == ([1, 2] if inside else [2])
    assert (cleaned.rows_outside, cleaned.rows_quarantined) == (0 if inside else 1, 0)


@pytest.mark.parametrize(("day", "hours"), [(date(2026, 3, 8), 23), (date(2026, 11, 1), 25), (date(2026, 7, 1), 24)])
def test_every_hour_of_a_day_with_a_clock_change_lands_in_exactly_one_day(
    tmp_path: Path, day: date, hours: int
) -> None:
    bench = Bench.of(tmp_path, DAILY, timezone="America/New_York")
    first = datetime(day.year, day.month, day.day, tzinfo=UTC) - timedelta(hours=24)
    records = [{"id": n, "t": (first + timedelta(hours=n)).isoformat()} for n in range(96)]
    seen = []
    for shift in (-1, 0, 1):
        bench.cleaned(records, day=day + timedelta(days=shift))
        seen.append([row["id"] for row in bench.rows(day=day + timedelta(days=shift))])
    assert len(seen[1]) == hours
    assert [*seen[0], *seen[1], *seen[2]] == list(range(seen[0][0], seen[2][-1] + 1))


@pytest.mark.parametrize(
    ("written", "inside"),
    [("2026-01-05", True), ("2026-01-04T15:00:00Z", True), ("2026-01-05T15:00:00Z", False), ("2026-01-04", False)],
)
def test_a_day_can_be_told_by_a_date(tmp_path: Path, written: str, inside: bool) -> None:
    bench = Bench.of(tmp_path, "window: {column: d}\ncolumns: {id: integer, d: date}")
    bench.cleaned([{"id": 1, "d": written}], day=DAY)
    assert [row["d"] for row in bench.rows(day=DAY)] == ([DAY] if inside else [])


def test_a_row_outside_the_day_is_not_judged(tmp_path: Path) -> None:
    bench = Bench.of(tmp_path, DAILY)
    cleaned = bench.cleaned([{"id": 1, "t": at("05T09:00")}, {"id": None, "t": at("07T09:00"), "n": "?"}], day=DAY)
    assert bench.quarantine(day=DAY) == []
    assert (cleaned.rows_raw, cleaned.rows_outside) == (1, 1)


@pytest.mark.parametrize(
    ("time", "reason"),
    [
        (None, "t: missing"),
        ("", "t: missing"),
        ("soon", "t: not a timestamp: soon"),
        ("2026-13-01", "t: not a timestamp: 2026-13-01"),
        (5, "t: not a timestamp: 5"),
    ],
)
def test_a_row_whose_time_cannot_be_read_is_quarantined(tmp_path: Path, time: Any, reason: str) -> None:
    bench = Bench.of(tmp_path, DAILY)
    bench.cleaned([{"id": 1, "t": time}, {"id": 2, "t": at("05T09:00")}], day=DAY)
    (row,) = bench.quarantine(day=DAY)
    assert (row["record_key"], row["reason"]) == ("1", reason)
    assert json.loads(row["record"]) == {"id": 1, "t": time}
    assert [row["id"] for row in bench.rows(day=DAY)] == [2]


@pytest.mark.one_in(3)
@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("integer", "12.7", "v: not a integer: 12.7"),
        ("integer", True, "v: not a integer: true"),
        ("integer", 2**63, "v: not a integer: 9223372036854775808"),
        ("integer", {"a": 1}, 'v: not a integer: {"a":1}'),
        ("number", "NaN", "v: not a number: NaN"),
        ("boolean", "maybe", "v: not a boolean: maybe"),
        ("decimal(4,2)", "123.45", "v: not a decimal(4,2): 123.45"),
        ("date", "2026-02-30", "v: not a date: 2026-02-30"),
        ("timestamp", "now", "v: not a timestamp: now"),
        ("datetime", "2026-01-05T00:00:00Z", "v: not a datetime: 2026-01-05T00:00:00Z"),
        ("integer", "x" * 500, "v: not a integer: " + "x" * 80),
        ("{type: string, required: true}", None, "v: missing"),
        ("{type: json, required: true}", None, "v: missing"),
        ("{type: integer, required: true}", "", "v: missing"),
    ],
)
def test_a_row_that_does_not_fit_goes_to_quarantine_with_reason_key_and_record(
    tmp_path: Path, column: str, value: Any, reason: str
) -> None:
    bench = Bench.of(tmp_path, f"columns:\n  id: integer\n  v: {column}")
    good = {"id": 2, "v": "7"} if "required" in column else {"id": 2}
    bench.cleaned([{"id": 1, "v": value, "w": [1]}, good])
    (row,) = bench.quarantine()
    assert (row["record_key"], row["reason"]) == ("1", reason)
    assert json.loads(row["record"]) == {"id": 1, "v": value, "w": [1]}
    assert [row["id"] for row in bench.rows()] == [2]


@pytest.mark.parametrize("record", [7, "text", [1], None, {}, {"ID": 1}])
def test_what_is_no_row_is_quarantined(tmp_path: Path, record: Any) -> None:
    bench = Bench.of(tmp_path, "columns: {id: integer}")
    cleaned = bench.cleaned([record, {"id": 1}])
    assert [row["reason"] for row in bench.quarantine()] == ["id: missing"]
    assert (cleaned.rows_raw, cleaned.manifest.rows) == (2, 1)


def test_a_key_of_several_columns_is_shown_joined(tmp_path: Path) -> None:
    bench = Bench.of(tmp_path, "key: [a, b]\ncolumns: {a: integer, b: string, n: integer}")
    bench.cleaned([{"a": 1, "b": "x", "n": "?"}, {"a": None, "b": "y"}, {"a": 1, "b": "z"}])
    assert [(row["record_key"], row["reason"]) for row in bench.quarantine()] == [
        ("1/x", "n: not a integer: ?"),
        ("y", "a: missing"),
    ]


@pytest.mark.parametrize(
    ("declared", "reason"),
    [
        ("key: [k]\nderived: {k: {type: integer, sql: 'nullif(n, 1)'}}", "k: missing"),
        ("window: {column: d}\nderived: {d: {type: date, sql: TRY_CAST(text AS DATE)}}", "d: missing"),
    ],
)
def test_a_computed_key_or_day_that_is_empty_is_quarantined(tmp_path: Path, declared: str, reason: str) -> None:
    bench = Bench.of(tmp_path, f"{declared}\ncolumns: {{id: integer, n: integer, text: string}}")
    day = DAY if bench.stream.window else None
    records = [{"id": n, "n": n, "text": "2026-01-05" if n > 1 else "soon"} for n in range(1, 4)]
    cleaned = bench.cleaned(records, day=day)
    assert [row["reason"] for row in bench.quarantine(day=day)] == [reason]
    assert (cleaned.rows_raw, cleaned.manifest.rows, cleaned.rows_outside) == (3, 2, 0)


# Duplicates


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("by_page", [False, True])
def test_of_several_versions_the_newest_is_kept_whatever_the_order(
    tmp_path: Path, by_page: bool, reverse: bool
) -> None:
    bench = Bench.of(tmp_path, DAILY)
    records = [{"id": 1, "t": at(f"05T{hour:02}:00"), "n": hour} for hour in (9, 23, 12)]
    records += [{"id": 2, "t": at("05T01:00"), "n": 1}]
    records.sort(key=lambda record: record["n"], reverse=reverse)
    bench.land([Page([record]) for record in records] if by_page else [Page(records)], day=DAY)
    cleaned = bench.clean(day=DAY)
    assert [(row["id"], row["n"]) for row in bench.rows(day=DAY)] == [(1, 23), (2, 1)]
    assert cleaned.rows_duplicate == 2


def test_the_newest_version_can_be_told_by_another_column(tmp_path: Path) -> None:
    bench = Bench.of(tmp_path, "newest: version\ncolumns: {id: integer, version: integer, v: string}")
    versions = [None, 2, 10, 9]
    bench.cleaned([{"id": 1, "version": version, "v": str(version)} for version in versions])
    assert [row["v"] for row in bench.rows()] == ["10"]


def test_a_row_that_does_not_fit_does_not_supersede_one_that_does(tmp_path: Path) -> None:
    bench = Bench.of(tmp_path, DAILY)
    cleaned = bench.cleaned([{"id": 1, "t": at("05T09:00"), "n": 1}, {"id": 1, "t": at("05T10:00"), "n": "?"}], day=DAY)
    assert [row["n"] for row in bench.rows(day=DAY)] == [1]
    assert (cleaned.rows_quarantined, cleaned.rows_duplicate) == (1, 0)


@pytest.mark.parametrize("declared", ["columns: {id: integer, v: string, j: json}", "columns: {id: integer}"])
def test_of_equal_versions_on_a_page_the_content_decides(tmp_path: Path, declared: str) -> None:
    bench = Bench.of(tmp_path, declared)
    records = [{"id": key, "v": f"v{n}", "j": {"n": n}} for key in range(20) for n in range(5)]
    seen = []
    for seed in range(4):
        random.Random(seed).shuffle(records)
        bench.cleaned(records)
        seen.append(bench.rows())
    assert len(seen[0]) == 20
    assert seen[1:] == seen[:1] * 3


def test_keys_that_are_written_differently_are_the_same_key(tmp_path: Path) -> None:
    bench = Bench.of(tmp_path, "columns: {id: integer}")
    cleaned = bench.cleaned([{"id": 1}, {"id": "1"}, {"id": 1.0}, {"id": "01"}])
    assert (cleaned.manifest.rows, cleaned.rows_duplicate) == (1, 3)


def test_a_snapshot_has_no_day_to_cut(tmp_path: Path) -> None:
    bench = Bench.of(tmp_path, "columns: {id: integer, t: timestamp}")
    cleaned = bench.cleaned([{"id": 1, "t": "1999-01-01T00:00:00Z"}, {"id": 2, "t": None}])
    assert [row["id"] for row in bench.rows()] == [1, 2]
    assert cleaned.rows_outside == 0


# The quarantine limit


@pytest.mark.parametrize(
    ("limit", "bad", "good", "passes"),
    [
        ("{rows: 2, share: 0}", 2, 1, True),
        ("{rows: 2, share: 0}", 3, 100, False),
        ("{rows: 0, share: 0}", 0, 1, True),
        ("{rows: 0, share: 0}", 1, 1000, False),
        ("{rows: 0, share: 0.1}", 10, 90, True),
        ("{rows: 0, share: 0.1}", 11, 89, False),
        ("{rows: 1000, share: 1}", 3, 0, False),
        ("{rows: 1000, share: 1}", 1, 0, False),
        ("{rows: 1000, share: 1}", 3, 1, True),
        ("{}", 10, 1, True),
        ("{}", 11, 1, False),
        ("{}", 20, 1980, True),
        ("{}", 21, 1980, False),
    ],
)
def test_more_misfits_than_the_limit_fail_the_step(
    tmp_path: Path, limit: str, bad: int, good: int, passes: bool
) -> None:
    bench = Bench.of(tmp_path, f"quarantine: {limit}\ncolumns: {{id: integer}}")
    records = [{"id": "?"}] * bad + [{"id": n} for n in range(good)]
    if passes:
        assert bench.cleaned(records).rows_quarantined == bad
    else:
        with pytest.raises(QuarantineError, match=f"^{bad} of {bad + good} rows do not fit"):
            bench.cleaned(records)


def test_a_failed_clean_names_the_reasons_and_leaves_the_former_set_in_force(tmp_path: Path) -> None:
    bench = Bench.of(tmp_path, "columns: {id: integer, n: integer}")
    bench.cleaned([{"id": 1, "n": 1}])
    before = bench.folder("clean", None).manifest()
    records = [{"id": n, "n": "many"} for n in range(11)] + [{"id": None}] * 3 + [{"id": 99, "n": 5}]
    with pytest.raises(QuarantineError) as caught:
        bench.cleaned(records)
    text = str(caught.value)
    assert text.startswith("14 of 15 rows do not fit the stream file, more than the limit of 10:\n")
    assert "11 x n: not a integer: many (for example 0)" in text
    assert "3 x id: missing (for example no key)" in text
    assert "Nothing was loaded" in text
    assert bench.folder("clean", None).manifest() == before
    assert bench.rows() == [{"id": 1, "n": 1, "_extra": None}]


def test_rows_outside_the_day_do_not_count_for_the_limit(tmp_path: Path) -> None:
    bench = Bench.of(tmp_path, "quarantine: {rows: 0, share: 0.5}\n" + DAILY)
    records = [{"id": n, "t": at("08T00:00")} for n in range(50)]
    records += [{"id": 1, "t": at("05T00:00")}, {"id": 2, "t": "?"}, {"id": 3, "t": "?"}]
    with pytest.raises(QuarantineError, match=r"^2 of 3 rows"):
        bench.cleaned(records, day=DAY)


def test_a_clean_leaves_no_temporary_file(tmp_path: Path) -> None:
    bench = Bench.of(tmp_path, "columns: {id: integer}")
    bench.cleaned([{"id": 1}, {"id": "?"}])
    with pytest.raises(QuarantineError):
        bench.cleaned([{"id": "?"}])
    folder = bench.folder("clean", None)
    names = {entry.name for entry in folder.manifest().files}
    assert {name.partition("-")[0] for name in names} == {"rows", "quarantine"}
    assert {path.name for path in folder.path.iterdir()} == {*names, "manifest.json"}


# Undeclared fields


@pytest.mark.one_in(2)
@pytest.mark.parametrize(
    ("fields", "extra"),
    [
        ({}, None),
        ({"a": {"b": "x"}}, None),
        ({"a": {"b": "x", "c": {"d": "y"}}}, None),
        ({"a": {}}, None),
        ({"a": None}, None),
        ({"a": {"c": {}}}, None),
        ({"a": {"b": None, "c": {"d": None}}}, None),
        ({"j": {"deep": [{"a": {}}]}}, None),
        ({"z": 1}, {"z": 1}),
        ({"z": None}, {"z": None}),
        ({"z": False, "y": 0, "x": ""}, {"z": False, "y": 0, "x": ""}),
        ({"z": {}}, {"z": {}}),
        ({"z": []}, {"z": []}),
        ({"z": {"q": None, "l": [None, {"m": None}]}}, {"z": {"q": None, "l": [None, {"m": None}]}}),
        ({"a": {"b": "x", "z": 1}}, {"a": {"z": 1}}),
        ({"a": {"z": {}}}, {"a": {"z": {}}}),
        ({"a": {"c": {"d": "y", "z": [1]}, "b": "x"}}, {"a": {"c": {"z": [1]}}}),
        ({"a": {"b": "x", "c": {"d": "y"}}, "z": 1}, {"z": 1}),
        ({"z": 1, "a": {"b": "x", "c": {"d": "y"}}}, {"z": 1}),
        ({"y": 1, "a": {"c": {"d": "y"}}, "z": 2}, {"y": 1, "z": 2}),
        ({"c": {"d": 1}}, {"c": {"d": 1}}),
        ({"d": 1}, {"d": 1}),
        ({"a.b": 1}, {"a.b": 1}),
        ({"A": {"b": 1}}, {"A": {"b": 1}}),
        ({'k"ey': 1, "": 2, "日本": 3}, {'k"ey': 1, "": 2, "日本": 3}),
        # Another shape than the declared one is something undeclared.
        ({"a": "text"}, {"a": "text"}),
        ({"a": 5, "z": 1}, {"a": 5, "z": 1}),
        ({"a": False}, {"a": False}),
        ({"a": [{"b": 1}]}, {"a": [{"b": 1}]}),
        ({"a": "{"}, {"a": "{"}),
        ({"a": {"b": "x", "c": "text"}}, {"a": {"c": "text"}}),
        ({"a": {"c": [1, {"d": 2}], "z": 3}}, {"a": {"c": [1, {"d": 2}], "z": 3}}),
    ],
)
def test_extra_holds_exactly_the_fields_that_are_not_declared(
    tmp_path: Path, fields: dict[str, Any], extra: Any
) -> None:
    bench = Bench.of(tmp_path, "columns: {id: integer, a.b: string, a.c.d: string, j: json}")
    bench.cleaned([{"id": 1, **fields}])
    (row,) = bench.rows()
    assert (None if row["_extra"] is None else json.loads(row["_extra"])) == extra


NASTY = [
    ",}",
    "}",
    "{}",
    '"a":{}',
    ',"a":{}',
    '"a":{},',
    '{"a":{},"c":{}}',
    '"c":{}',
    "\\",
    '\\"a\\":{}',
    '"',
    "'",
    "\n",
    "\r\n\t",
    "\x00",
    "a\x00b",
    "\x1f\x7f",
    "\u2028\u2029",
    "\ufeff",
    "\N{GRINNING FACE}",
    "日本語、中文",
    "null",
    "",
    " ",
    "$.a",
    "%s {0} {id}",
    "*/ -- ;",
]


@pytest.mark.one_in(3)
@pytest.mark.parametrize("escaped", [True, False])
@pytest.mark.parametrize("text", NASTY)
def test_a_text_comes_through_unharmed_wherever_it_stands(tmp_path: Path, text: str, escaped: bool) -> None:
    bench = Bench.of(tmp_path, "columns: {id: integer, a.b: string, a.c.d: string, j: json}")
    record = {
        "id": 1,
        "t": text,
        "a": {"b": text, "c": {"d": text}, "z": [text]},
        "j": {"k": text, text: [text]},
        "u": {text: text},
    }
    bench.land([Page(json.dumps([record], ensure_ascii=escaped))])
    bench.clean()
    (row,) = bench.rows()
    assert (row["a_b"], row["a_c_d"]) == (text, text)
    assert json.loads(row["j"]) == record["j"]
    assert json.loads(row["_extra"]) == {"t": text, "a": {"z": [text]}, "u": {text: text}}


def test_numbers_of_undeclared_fields_keep_their_value(tmp_path: Path) -> None:
    bench = Bench.of(tmp_path, "columns: {id: integer}")
    bench.land([Page('[{"id": 1, "a": 12345678901234567890123, "b": 1.50, "c": -0.0, "d": 1e300, "e": 0.1}]')])
    bench.clean()
    (row,) = bench.rows()
    assert json.loads(row["_extra"]) == {"a": 12345678901234567890123, "b": 1.5, "c": -0.0, "d": 1e300, "e": 0.1}


# Columns


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


# Drift


def test_drift_names_new_fields_with_their_types_and_columns_that_never_came(tmp_path: Path) -> None:
    bench = Bench.of(tmp_path, "columns: {id: integer, a.b: string, gone: integer, j: json, empty: string}")
    cleaned = bench.cleaned(
        [
            {"id": 1, "a": {"b": "x", "new": True}, "top": 1.5, "list": [{"x": 1}], "empty": ""},
            {"id": 2, "deep": {"er": {"text": "y"}}},
        ]
    )
    assert cleaned.undeclared == {
        "a.new": "BOOLEAN",
        "top": "DOUBLE",
        "list": "LIST",
        "deep.er.text": "VARCHAR",
    }
    assert cleaned.never_seen == ("gone", "j")


@pytest.mark.parametrize("records", [[], [{"id": 1, "a": "x"}]])
def test_without_drift_nothing_is_reported(tmp_path: Path, records: list[Any]) -> None:
    cleaned = Bench.of(tmp_path, "columns: {id: integer, a: string}").cleaned(records)
    assert (dict(cleaned.undeclared), cleaned.never_seen) == ({}, ())


def test_drift_does_not_look_outside_the_day(tmp_path: Path) -> None:
    bench = Bench.of(tmp_path, DAILY)
    cleaned = bench.cleaned([{"id": 1, "t": at("05T09:00"), "n": 1}, {"id": 2, "t": at("09T09:00"), "x": 1}], day=DAY)
    assert dict(cleaned.undeclared) == {}


# Shapes of answers


def test_an_answer_can_hold_one_row(tmp_path: Path) -> None:
    bench = Bench.of(tmp_path, "one: true\ncolumns: {id: integer, name: string, settings: json}")
    bench.land([Page({"id": 1, "name": "Space", "settings": {"a": []}, "lang": "ja"})])
    cleaned = bench.clean()
    assert bench.rows() == [{"id": 1, "name": "Space", "settings": '{"a":[]}', "_extra": '{"lang":"ja"}'}]
    assert cleaned.rows_raw == 1


def test_one_row_can_stand_deeper_in_the_answer(tmp_path: Path) -> None:
    bench = Bench.of(tmp_path, "one: true\nrows: ''\ncolumns: {id: {type: integer, path: data.user.id}}")
    bench.land([Page({"code": 0, "data": {"user": {"id": 7}}})])
    bench.clean()
    assert [(row["id"], row["_extra"]) for row in bench.rows()] == [(7, '{"code":0}')]


def test_rows_can_stand_anywhere_in_the_answer(tmp_path: Path) -> None:
    bench = Bench.of(tmp_path, "rows: data.da-tas.list\ncolumns: {id: integer, v: string}")
    bench.land(
        [
            Page({"code": 0, "data": {"da-tas": {"list": [{"id": 1, "v": "a"}], "n": [1]}, "x": {}}, "id": 9}),
            Page({"data": {"da-tas": {"list": [{"id": 2}, {"id": 3, "w": 1}]}}}),
        ]
    )
    bench.clean()
    assert [(row["id"], row["v"], row["_extra"]) for row in bench.rows()] == [
        (1, "a", None),
        (2, None, None),
        (3, None, '{"w":1}'),
    ]


EMPTY = ['{"data": []}', '{"data": null}', '{"data": {"datas": null}}', '{"data": {"datas": []}}', "[]"]


@pytest.mark.parametrize("body", EMPTY)
def test_an_empty_answer_of_any_shape_has_no_rows(tmp_path: Path, body: str) -> None:
    bench = Bench.of(tmp_path, "rows: data.datas\ncolumns: {id: integer}")
    bench.land([Page(body)])
    assert bench.clean().rows_raw == 0
    assert bench.rows() == []


def test_empty_answers_between_full_ones_do_not_matter(tmp_path: Path) -> None:
    bench = Bench.of(tmp_path, "rows: data.datas\ncolumns: {id: integer}")
    full = [Page({"data": {"datas": [{"id": n}]}}) for n in range(3)]
    bench.land([page for pair in zip(full, map(Page, EMPTY), strict=False) for page in pair] + [Page(EMPTY[0])])
    assert bench.clean().rows_raw == 3
    assert [row["id"] for row in bench.rows()] == [0, 1, 2]


@pytest.mark.parametrize("day", [None, DAY])
def test_no_page_at_all_is_an_empty_set(tmp_path: Path, day: date | None) -> None:
    bench = Bench.of(tmp_path, DAILY if day else "columns: {id: integer}")
    bench.land([], day=day)
    cleaned = bench.clean(day=day)
    assert (cleaned.rows_raw, cleaned.rows_quarantined, cleaned.manifest.rows) == (0, 0, 0)
    assert bench.rows(day=day) == []


def test_a_page_may_be_long_and_hold_line_breaks(tmp_path: Path) -> None:
    bench = Bench.of(tmp_path, "columns: {id: integer, v: string}")
    records = [{"id": n, "v": f"line\n{n}" * 100} for n in range(4000)]
    pages = [json.dumps(records[:3000], indent=4), json.dumps(records[3000:], indent="\t").replace("\n", "\r\n")]
    manifest = bench.land(map(Page, pages))
    assert manifest.details["largest_page_bytes"] > 2 << 20
    bench.clean()
    assert [(row["id"], row["v"]) for row in bench.rows()] == [(record["id"], record["v"]) for record in records]


def test_a_page_may_be_larger_than_what_a_json_reader_takes_by_default(tmp_path: Path) -> None:
    bench = Bench.of(tmp_path, "columns: {id: integer, v: string}")
    manifest = bench.land([Page([{"id": n, "v": "x" * 1000} for n in range(36_000)]), Page([{"id": -1}])])
    assert manifest.details["largest_page_bytes"] > 32 << 20
    assert bench.clean().manifest.rows == 36_001


def test_rows_are_read_from_every_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("etl_assets.landing._PART_BYTES", 500)
    bench = Bench.of(tmp_path, "columns: {id: integer}")
    manifest = bench.land(Page([{"id": 10 * n + m} for m in range(10)]) for n in range(30))
    assert len(manifest.files) > 5
    bench.clean()
    assert [row["id"] for row in bench.rows()] == list(range(300))


# Repeatability


def test_equal_rows_have_an_equal_content_hash_in_any_order_and_on_any_page(tmp_path: Path) -> None:
    bench = Bench.of(tmp_path, "columns: {id: integer, v: string, j: json, n: number}")
    records = [{"id": n, "v": f"v{n}", "j": [n], "n": n / 7, "x": n} for n in range(50)]
    hashes = set()
    for seed in range(4):
        random.Random(seed).shuffle(records)
        bench.land([Page(records[: seed * 10]), Page(records[seed * 10 :])])
        hashes.add(bench.clean(run_id=f"run {seed}").manifest.details["content_hash"])
    assert len(hashes) == 1


SWAPS: list[tuple[str, Callable[[list[dict[str, Any]]], None]]] = [
    ("a value", lambda rows: rows[0].update(v="other")),
    ("a value that goes", lambda rows: rows[0].pop("v")),
    ("an empty text for none", lambda rows: rows[2].update(v="")),
    ("an undeclared value", lambda rows: rows[0].update(x="other")),
    ("a row that goes", lambda rows: rows.pop()),
    ("a row that comes", lambda rows: rows.append({"id": 9})),
    ("two values swapped", lambda rows: swap(rows, "v")),
    ("two JSON values swapped", lambda rows: swap(rows, "j")),
    ("two undeclared values swapped", lambda rows: swap(rows, "x")),
    ("two keys swapped", lambda rows: swap(rows, "id")),
    ("values between columns", lambda rows: rows[0].update(v=rows[0]["w"], w=rows[0]["v"])),
]


def swap(rows: list[dict[str, Any]], name: str) -> None:
    rows[0][name], rows[1][name] = rows[1][name], rows[0][name]


@pytest.mark.one_in(3)
@pytest.mark.parametrize("change", [change for _, change in SWAPS], ids=[name for name, _ in SWAPS])
def test_any_change_of_the_rows_changes_the_content_hash(
    tmp_path: Path, change: Callable[[list[dict[str, Any]]], None]
) -> None:
    bench = Bench.of(tmp_path, "columns: {id: integer, v: string, w: string, j: json}")
    records: list[dict[str, Any]] = [
        {"id": 1, "v": "a", "w": "b", "j": {"k": 1}, "x": 1},
        {"id": 2, "v": "c", "w": "d", "j": {"k": 2}, "x": 2},
        {"id": 3, "v": None},
    ]
    before = bench.cleaned(records).manifest.details["content_hash"]
    change(records)
    assert bench.cleaned(records).manifest.details["content_hash"] != before


def test_cleaning_again_gives_the_same_files(tmp_path: Path) -> None:
    bench = Bench.of(tmp_path, LENIENT + DAILY)
    records = [{"id": n, "t": at("05T09:00"), "n": n if n % 7 else "?"} for n in range(100)]
    first = bench.cleaned(records, day=DAY, run_id="one").manifest
    second = bench.clean(day=DAY, run_id="two").manifest
    assert second.details["content_hash"] == first.details["content_hash"]
    assert [file.rows for file in second.files] == [file.rows for file in first.files]
    assert second.run_id == "two"


def test_a_manifest_tells_where_the_rows_came_from(tmp_path: Path) -> None:
    bench = Bench.of(tmp_path, DAILY)
    raw = bench.land([Page([{"id": 1, "t": at("05T09:00")}])], day=DAY, run_id="extracted")
    manifest = bench.clean(day=DAY, run_id="cleaned").manifest
    assert (manifest.layer, manifest.partition, manifest.run_id) == ("clean", "2026-01-05", "cleaned")
    assert manifest.window == ("2026-01-05T00:00:00+09:00", "2026-01-06T00:00:00+09:00")
    assert manifest.details["raw"]["run_id"] == "extracted"
    assert manifest.details["raw"]["files"] == [file.name for file in raw.files]


# Broken input


def raw_file(bench: Bench) -> Path:
    folder = bench.folder("raw", None)
    return folder.path / folder.manifest().files[0].name


@pytest.mark.parametrize(
    "harm",
    [
        lambda file: file.unlink(),
        lambda file: file.write_bytes(file.read_bytes()[:-1]),
        lambda file: file.write_bytes(file.read_bytes()[:-1] + b"\0"),
        lambda file: (file.parent / "manifest.json").unlink(),
    ],
    ids=["missing", "cut", "altered", "unsealed"],
)
def test_raw_files_that_are_not_whole_are_never_cleaned(tmp_path: Path, harm: Callable[[Path], Any]) -> None:
    bench = Bench.of(tmp_path, "columns: {id: integer}")
    bench.cleaned([{"id": 1}])
    before = bench.folder("clean", None).manifest()
    harm(raw_file(bench))
    with pytest.raises(LandingError):
        bench.clean()
    assert bench.folder("clean", None).manifest() == before


def test_rows_that_cannot_be_read_back_fail_the_step(tmp_path: Path) -> None:
    bench = Bench.of(tmp_path, "columns: {id: integer}")
    manifest = bench.land([Page([{"id": 1}])])
    path = bench.folder("raw", None).path / "manifest.json"
    path.write_text(path.read_text().replace(f'"rows": {manifest.rows},', '"rows": 2,', 1))
    with pytest.raises(LandingError, match="2 rows were received, 1 read back"):
        bench.clean()


def test_a_landing_whose_clean_folder_is_a_file_is_said_to_be_unwritable(tmp_path: Path) -> None:
    bench = Bench.of(tmp_path, "columns: {id: integer}")
    bench.land([Page([{"id": 1}])])
    (tmp_path / "landing" / "clean").write_text("")
    with pytest.raises(LandingError, match="cannot be written"):
        bench.clean()


@pytest.mark.parametrize("name", ["a b", "日本", "a'b", 'a"b', "a[1]", "a*b", "{x,y}", "100%"])
def test_the_data_folder_may_have_any_name(tmp_path: Path, name: str) -> None:
    root = tmp_path / name
    root.mkdir()
    bench = Bench.of(root, "columns: {id: integer}")
    assert bench.loaded([{"id": 1}, {"id": "?"}]).rows == 1
    assert bench.table("id") == [{"id": 1}]


# The transform hook

HOOKED = """
transform: "{module}:{function}"
window: {{column: t}}
columns: {{id: integer, t: timestamp, big: integer, flag: boolean, price: "decimal(12,2)", d: date, j: json, s: string}}
derived: {{label: {{type: string}}, twice: {{type: integer}}}}
"""


def hooked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, *, module: str, function: str = "change"
) -> Bench:
    (tmp_path / f"{module}.py").write_text(textwrap.dedent(code))
    monkeypatch.syspath_prepend(str(tmp_path))
    return Bench.of(tmp_path, HOOKED.format(module=module, function=function))


ADDING = """
def change(frame):
    frame["label"] = frame["s"].str.upper()
    frame["twice"] = frame["big"]
    return frame
"""


def test_a_transform_adds_columns_and_bends_no_value(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = hooked(tmp_path, monkeypatch, ADDING, module="hook_adding")
    record = {"id": 2**53 + 1, "t": at("05T09:00:00.123456"), "big": 2**63 - 1, "flag": True, "price": "9999999999.99"}
    record |= {"d": "9999-12-31", "j": {"a": [1, None, "é"]}, "s": "é\N{GRINNING FACE}", "undeclared": 2**53 + 1}
    bench.cleaned([record, {"id": 2, "t": at("05T10:00")}], day=DAY)
    empty, full = bench.rows(day=DAY)
    assert full == {
        "id": 2**53 + 1,
        "t": utc("2026-01-05 00:00:00.123456"),
        "big": 2**63 - 1,
        "flag": True,
        "price": Decimal("9999999999.99"),
        "d": date(9999, 12, 31),
        "j": '{"a":[1,null,"é"]}',
        "s": "é\N{GRINNING FACE}",
        "label": "É\N{GRINNING FACE}",
        "twice": 2**63 - 1,
        "_extra": '{"undeclared":9007199254740993}',
    }
    assert empty == {**dict.fromkeys(full), "id": 2, "t": utc("2026-01-05 01:00")}


def test_a_transform_is_given_the_rows_batch_by_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("etl_assets.clean._TRANSFORM_ROWS", 10)
    code = """
    def change(frame):
        assert len(frame) <= 10
        frame["label"], frame["twice"] = "x", frame["id"] * 2
        return frame.iloc[::-1]
    """
    bench = hooked(tmp_path, monkeypatch, code, module="hook_batches")
    cleaned = bench.cleaned([{"id": n, "t": at("05T09:00")} for n in range(95)], day=DAY)
    assert [(row["id"], row["twice"]) for row in bench.rows(day=DAY)] == [(n, 2 * n) for n in range(95)]
    assert cleaned.manifest.rows == 95


def test_a_transform_of_no_rows_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = hooked(tmp_path, monkeypatch, ADDING, module="hook_empty")
    assert bench.cleaned([], day=DAY).manifest.rows == 0
    assert bench.rows(day=DAY) == []


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("return frame.iloc[1:]", "as many rows as it got"),
        ("return None", "as many rows as it got"),
        ("return [1, 2]", "as many rows as it got"),
        ("return frame.drop(columns=['price'])", "has no column price"),
        ("return frame.drop(columns=['_extra'])", "has no column _extra"),
        ("frame['id'] = 1\n    return frame", "the keys are no longer unique"),
        ("frame['big'] = 'many'\n    return frame", "cannot be cleaned"),
    ],
)
def test_a_transform_that_breaks_its_promise_is_a_final_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, said: str
) -> None:
    module = f"hook_{zlib.crc32(body.encode())}"
    bench = hooked(tmp_path, monkeypatch, f"def change(frame):\n    {body}\n", module=module)
    with pytest.raises(FinalError, match=said):
        bench.cleaned([{"id": n, "t": at("05T09:00")} for n in range(3)], day=DAY)
    with pytest.raises(LandingError, match="no complete clean files"):
        bench.folder("clean", DAY).manifest()


@pytest.mark.parametrize(("module", "function"), [("hook_absent", "change"), ("hook_present", "nope")])
def test_a_transform_that_does_not_exist_is_a_final_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, function: str
) -> None:
    (tmp_path / "hook_present.py").write_text("change = None")
    monkeypatch.syspath_prepend(str(tmp_path))
    bench = Bench.of(tmp_path, HOOKED.format(module=module, function=function))
    with pytest.raises(FinalError, match=f"transform '{module}:{function}'"):
        bench.cleaned([{"id": 1, "t": at("05T09:00")}], day=DAY)


def test_folders_of_different_days_do_not_touch_each_other(tmp_path: Path) -> None:
    bench = Bench.of(tmp_path, DAILY)
    bench.cleaned([{"id": 1, "t": at("05T09:00")}], day=DAY)
    bench.cleaned([{"id": 1, "t": at("06T09:00")}], day=date(2026, 1, 6))
    bench.cleaned([], day=date(2026, 1, 6))
    assert [row["id"] for row in bench.rows(day=DAY)] == [1]
    assert bench.rows(day=date(2026, 1, 6)) == []


@pytest.mark.parametrize(("form", "delimiter"), [("tsv", "\t"), ("csv", ",")])
def test_a_text_file_brings_every_value_back(tmp_path: Path, form: str, delimiter: str) -> None:
    import csv

    bench = Bench.of(tmp_path, f"delimited: {form}\ncolumns: {{id: integer, v: string, w: string, j: json, n: number}}")
    texts = ["plain", "a\tb", "a\nb", "a\r\nb", 'say "so"', "a,b", "", " 日本 ", None, "NULL", "\\t"]
    bench.cleaned([{"id": n, "v": text, "w": "x", "j": {"k": ["a\tb", '"']}, "n": 0.1} for n, text in enumerate(texts)])
    manifest = bench.folder("clean", None).manifest()
    (entry,) = [file for file in manifest.files if file.name.startswith("table-")]
    assert (entry.name.rsplit(".", 1)[1], entry.rows) == (form, len(texts))
    written = (bench.folder("clean", None).path / entry.name).read_text("utf-8")
    with (bench.folder("clean", None).path / entry.name).open(encoding="utf-8", newline="") as file:
        header, *rows = list(csv.reader(file, delimiter=delimiter))
    assert header == ["id", "v", "w", "j", "n", "_extra"]
    assert [row[1] for row in rows] == [text or "" for text in texts]
    assert {row[3] for row in rows} == {'{"k":["a\\tb","\\""]}'}
    assert f'6{delimiter}""{delimiter}x' in written  # an empty text is not NULL
    assert f"8{delimiter}{delimiter}x" in written
    assert len(bench.folder("clean", None).files(manifest)) == 1  # no step reads it
    assert bench.load().rows == len(texts)
