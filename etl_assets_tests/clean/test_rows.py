"""Every received row is loaded, quarantined, a duplicate or outside the day."""

import json
import random
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from etl_assets.errors import QuarantineError
from etl_assets_tests.clean.material import DAILY, LENIENT, at
from etl_assets_tests.data import DAY, Bench, Page

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
