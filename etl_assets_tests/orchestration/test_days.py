"""A day in the table is what the vendor holds of that day now, whatever was loaded before, after or in between."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from etl_assets.definitions import defs
from etl_assets_tests.http import answer, serving
from etl_assets_tests.orchestration.lab import NEW_YORKER, Lab, day_start, following, stream_file

DAY, NEXT, LAST = "2026-01-05", "2026-01-06", "2026-01-07"
DAYS = (DAY, NEXT, LAST)
TOKYOITE = 700


def test_a_day_is_the_truth_in_every_column(lab: Lab) -> None:
    run = lab.load(DAY)
    assert lab.content() == lab.expected(DAY)
    assert {row["_run_id"] for row in lab.table()} == {run.id}
    assert all(timedelta(0) < datetime.now(UTC) - row["_loaded_at"] < timedelta(minutes=2) for row in lab.table())


def test_repeating_a_day_touches_no_row(lab: Lab) -> None:
    lab.load(DAY)
    before = lab.table()
    again = lab.load(DAY)
    assert lab.table() == before
    assert again.metadata("warehouse/tmetric/time_entries")["changed"] is False


@pytest.mark.one_in(3)
@pytest.mark.parametrize(
    "order",
    [DAYS, DAYS[::-1], (NEXT, DAY, NEXT, LAST, DAY)],
    ids=["forwards", "backwards", "to and fro"],
)
def test_the_order_of_days_leaves_no_trace(lab: Lab, order: tuple[str, ...]) -> None:
    for day in order:
        lab.load(day)
    assert lab.content() == sorted((row for day in DAYS for row in lab.expected(day)), key=lambda row: row["id"])


def test_changes_at_the_vendor_arrive_with_the_day_they_are_on(lab: Lab) -> None:
    lab.load(DAY)
    lab.load(NEXT)
    neighbours = lab.table(NEXT)
    first, second, third, *_ = lab.expected(DAY)
    lab.sandbox.change(
        "entries",
        update=[
            {
                "id": first["id"],
                "note": "written later ✍",
                "is_billable": not first["is_billable"],
                "tag_ids": [43, 46],
            },
            {"id": second["id"], "end_utc": None, "task_id": None, "project_id": None},
        ],
        delete=[third["id"]],
        insert=[{"user_id": TOKYOITE, "start_utc": "2026-01-05T03:00:00Z", "end_utc": "2026-01-05T03:00:01Z"}],
    )
    lab.load(DAY)
    assert lab.content(DAY) == lab.expected(DAY)
    assert third["id"] not in {row["id"] for row in lab.table()}
    assert [row["note"] for row in lab.table(DAY) if row["id"] == first["id"]] == ["written later ✍"]
    assert lab.table(NEXT) == neighbours


def test_an_entry_that_moves_to_another_day_ends_up_there_alone(lab: Lab) -> None:
    lab.load(DAY)
    lab.load(NEXT)
    moved = lab.expected(DAY)[0]["id"]
    lab.sandbox.change(
        "entries", update=[{"id": moved, "start_utc": "2026-01-06T03:00:00Z", "end_utc": "2026-01-06T04:00:00Z"}]
    )
    lab.load(NEXT)
    lab.load(DAY)
    assert [str(row["_partition"]) for row in lab.table() if row["id"] == moved] == [NEXT]
    assert lab.content() == sorted(lab.expected(DAY) + lab.expected(NEXT), key=lambda row: row["id"])


def test_an_emptied_day_is_emptied_in_the_table_and_no_other(lab: Lab) -> None:
    lab.load(DAY)
    lab.load(NEXT)
    kept = lab.table(NEXT)
    lab.sandbox.change("entries", delete=[row["id"] for row in lab.table(DAY)])
    run = lab.load(DAY)
    assert lab.table() == kept
    assert run.metadata("warehouse/tmetric/time_entries")["dagster/partition_row_count"] == 0


def test_a_day_without_entries_is_a_success_on_an_empty_warehouse(lab: Lab) -> None:
    lab.load("2025-06-01")
    assert lab.table() == []
    assert [row["rows_loaded"] for row in lab.query("FROM ops.loads")] == [0]


def test_every_load_is_recorded_with_its_run(lab: Lab) -> None:
    runs = [lab.load(day) for day in (DAY, NEXT, DAY)]
    recorded = lab.query("FROM ops.loads ORDER BY loaded_at")
    assert [row["run_id"] for row in recorded] == [run.id for run in runs]
    (declared,) = [
        spec for spec in defs().resolve_all_asset_specs() if spec.key.path == ["warehouse", "tmetric", "time_entries"]
    ]
    for row, run, day in zip(recorded, runs, (DAY, NEXT, DAY), strict=True):
        rows = len(lab.expected(day))
        assert (row["source"], row["stream"], str(row["partition"])) == ("tmetric", "time_entries", day)
        assert (row["window_start"], row["window_end"]) == (day_start(day), day_start(following(day)))
        assert (row["rows_raw"], row["rows_loaded"]) == (rows, rows)
        assert (row["rows_quarantined"], row["rows_duplicate"]) == (0, 0)
        clean = run.metadata("clean/tmetric/time_entries")
        assert row["landing_uri"] == clean["dagster/uri"]
        assert row["code_version"] == declared.code_version
    assert recorded[0]["content_hash"] == recorded[2]["content_hash"] != recorded[1]["content_hash"]


@pytest.mark.one_in(2)
@pytest.mark.parametrize("user", [TOKYOITE, NEW_YORKER], ids=["a Tokyoite's", "a New Yorker's"])
def test_entries_at_the_edge_of_a_day_are_in_the_day_in_which_they_start_in_tokyo(lab: Lab, user: int) -> None:
    midnight = day_start(NEXT)
    starts = {
        "last second": (midnight - timedelta(seconds=1), DAY),
        "midnight": (midnight, NEXT),
        "first second": (midnight + timedelta(seconds=1), NEXT),
        "across": (midnight - timedelta(hours=1), DAY),
        "last second of the next": (day_start(LAST) - timedelta(seconds=1), NEXT),
        "midnight after the next": (day_start(LAST), LAST),
    }
    lab.sandbox.change(
        "entries",
        insert=[
            {"user_id": user, "start_utc": start.isoformat(), "end_utc": (start + timedelta(hours=2)).isoformat(),
             "note": name}
            for name, (start, _) in starts.items()
        ],
    )  # fmt: skip
    for day in DAYS:
        lab.load(day)
        assert lab.content(day) == lab.expected(day)
    where = {row["note"]: str(row["_partition"]) for row in lab.table() if row["note"] in starts}
    assert where == {name: day for name, (_, day) in starts.items()}
    ids = [row["id"] for row in lab.table()]
    assert len(ids) == len(set(ids))


STAMPS = """
source: clock
title: Clock
base_url: {url}
timezone: Asia/Tokyo
start: 2026-01-01
streams:
  - name: ticks
    path: /ticks
    key: [at]
    columns: {{at: string, time: {{type: timestamp, path: at}}}}
    window: {{column: time}}
"""


def test_a_fraction_of_a_second_before_midnight_is_still_the_day(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = {
        "2026-01-04T23:59:59.999999": None,
        "2026-01-05T00:00:00": DAY,
        "2026-01-05T23:59:59": DAY,
        "2026-01-05T23:59:59.999": DAY,
        "2026-01-05T23:59:59.999999": DAY,
        "2026-01-05T14:59:59.999Z": DAY,
        "2026-01-05T09:59:59.999-05:00": DAY,
        "2026-01-06T00:00:00": NEXT,
        "2026-01-06T00:00:00.000": NEXT,
        "2026-01-05T15:00:00Z": NEXT,
        "2026-01-05T10:00:00-05:00": NEXT,
        "2026-01-06T00:00:00.001": NEXT,
        "2026-01-07T00:00:00": None,
    }
    body = json.dumps([{"at": at} for at in where]).encode()
    with serving(lambda seen: answer(body)) as server:
        monkeypatch.setenv("ETL_SOURCES_DIR", str(stream_file(tmp_path / "sources", STAMPS.format(url=server.url))))
        for day in (NEXT, DAY):
            run = lab.run("clock/ticks", day=day)
            assert run.success, run.failures
    landed = {row["at"]: str(row["_partition"]) for row in lab.query("FROM clock.ticks")}
    assert landed == {at: day for at, day in where.items() if day}


@pytest.mark.one_in(3)
@pytest.mark.parametrize(
    ("settings", "reading"),
    [
        ({"z": True}, "user_wall_clock"),
        ({"z": True, "utc": True}, "offset_aware"),
        ({"shuffle": True, "user_field": True}, "offset_aware"),
        ({"v2": False, "projects": False}, "offset_aware"),
        ({"dates": "caller", "match": "overlap"}, "offset_aware"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else value,
)
def test_the_ways_in_which_accounts_differ_give_the_same_table(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, settings: dict[str, object], reading: str
) -> None:
    lab.sandbox.change("settings", **settings)
    monkeypatch.setenv("TMETRIC_TIME_READING", reading)
    lab.load(NEXT)
    assert lab.content() == lab.expected(NEXT)


def test_a_decorative_z_read_as_utc_is_another_time(lab: Lab) -> None:
    # Why the reading is a setting: the same answers, taken at their word, put a Tokyo morning into the evening.
    lab.sandbox.change("settings", z=True)
    lab.load(NEXT)
    assert lab.content() != lab.expected(NEXT)
