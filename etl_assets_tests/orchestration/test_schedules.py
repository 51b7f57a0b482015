"""What the schedules ask for, tick by tick."""

import itertools
from datetime import date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import dagster as dg
import pytest
from dagster._utils.schedules import schedule_execution_time_iterator

from etl_assets.definitions import defs
from etl_assets_tests.orchestration.lab import TOKYO, Lab, stream_file

NEW_YORK = ZoneInfo("America/New_York")
BRANCH = """
source: branch
title: Branch
base_url: https://branch.example
timezone: America/New_York
start: 2026-01-01
reload_days: 3
streams:
  - {name: sales, path: /sales, key: [id], columns: {id: integer, sold: timestamp}, window: {column: sold}}
"""


def asked(schedule: str, tick: datetime) -> list[dg.RunRequest]:
    """The run requests of a tick."""
    loaded = defs()
    context = dg.build_schedule_context(
        scheduled_execution_time=tick, repository_def=loaded.get_repository_def(), resources=loaded.resources
    )
    with context:
        return list(loaded.resolve_schedule_def(schedule).evaluate_tick(context).run_requests or [])


def days(requests: list[dg.RunRequest]) -> list[str]:
    return [str(request.partition_key) for request in requests]


def ticks(schedule: str, after: datetime, number: int) -> list[datetime]:
    """The next ticks of a schedule, as its cron has them."""
    declared = defs().resolve_schedule_def(schedule)
    times = schedule_execution_time_iterator(after.timestamp(), declared.cron_schedule, declared.execution_timezone)
    return list(itertools.islice(times, number))


def test_each_morning_asks_for_yesterday_and_the_days_before_each_as_a_run() -> None:
    requests = asked("tmetric_daily_schedule", datetime(2026, 1, 20, 5, tzinfo=TOKYO))
    assert days(requests) == [f"2026-01-{day}" for day in (19, 18, 17, 16, 15, 14, 13)]


@pytest.mark.parametrize(("variable", "number"), [("1", 1), ("3", 3), ("0", 1)])
def test_how_many_days_are_loaded_again_is_a_variable(
    monkeypatch: pytest.MonkeyPatch, variable: str, number: int
) -> None:
    monkeypatch.setenv("TMETRIC_RELOAD_DAYS", variable)
    requests = asked("tmetric_daily_schedule", datetime(2026, 1, 20, 5, tzinfo=TOKYO))
    assert days(requests) == [f"2026-01-{19 - back}" for back in range(number)]


def test_no_day_before_the_first_is_asked_for() -> None:
    assert days(asked("tmetric_daily_schedule", datetime(2024, 1, 3, 5, tzinfo=TOKYO))) == ["2024-01-02", "2024-01-01"]
    assert days(asked("tmetric_daily_schedule", datetime(2024, 1, 1, 5, tzinfo=TOKYO))) == []


def test_a_day_asked_for_on_two_mornings_is_two_runs_and_one_morning_asked_twice_is_not() -> None:
    mornings = ticks("tmetric_daily_schedule", datetime(2026, 1, 20, tzinfo=TOKYO), 3)
    keys = [request.run_key for tick in mornings for request in asked("tmetric_daily_schedule", tick)]
    assert len(keys) == len(set(keys)) == 21
    again = [request.run_key for request in asked("tmetric_daily_schedule", mornings[0])]
    assert again == keys[:7]


def test_the_morning_is_the_sources_morning_wherever_the_scheduler_runs() -> None:
    (tick,) = ticks("tmetric_daily_schedule", datetime(2026, 1, 20, tzinfo=TOKYO), 1)
    assert tick == datetime(2026, 1, 20, 5, tzinfo=TOKYO)
    utc = tick.astimezone(ZoneInfo("UTC"))
    assert utc.date() == date(2026, 1, 19)
    assert days(asked("tmetric_daily_schedule", utc))[0] == "2026-01-19"


@pytest.mark.parametrize("change", [date(2026, 3, 8), date(2026, 11, 1)], ids=["clocks forward", "clocks back"])
def test_no_day_is_missed_or_doubled_when_clocks_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: date
) -> None:
    monkeypatch.setenv("ETL_SOURCES_DIR", str(stream_file(tmp_path / "sources", BRANCH)))
    start = datetime(change.year, change.month, change.day, tzinfo=NEW_YORK) - timedelta(days=2)
    mornings = ticks("branch_daily_schedule", start, 5)
    assert [tick.astimezone(NEW_YORK).isoformat()[:16] for tick in mornings] == [
        f"{start.date() + timedelta(days=n)}T05:00" for n in range(5)
    ]
    partitions = defs().resolve_assets_def(dg.AssetKey(["raw", "branch", "sales"])).partitions_def
    assert isinstance(partitions, dg.DailyPartitionsDefinition)
    for tick in mornings:
        yesterday = tick.astimezone(NEW_YORK).date() - timedelta(days=1)
        requests = asked("branch_daily_schedule", tick)
        assert days(requests) == [str(yesterday - timedelta(days=back)) for back in range(3)]
        for day in days(requests):
            assert partitions.has_partition_key(day)
            assert partitions.time_window_for_partition_key(day).end <= tick


def test_a_snapshot_is_asked_for_once_a_morning_and_for_no_day() -> None:
    (tick,) = ticks("tmetric_snapshot_schedule", datetime(2026, 1, 20, tzinfo=TOKYO), 1)
    assert tick == datetime(2026, 1, 20, 4, 30, tzinfo=TOKYO)
    (request,) = asked("tmetric_snapshot_schedule", tick)
    assert request.partition_key is None


def test_what_a_schedule_asks_for_runs(lab: Lab) -> None:
    requests = asked("tmetric_daily_schedule", datetime(2026, 1, 7, 5, tzinfo=TOKYO))
    run = lab.job("tmetric_daily", days(requests)[0])
    assert run.success
    assert run.made == {f"{layer}/tmetric/time_entries" for layer in ("raw", "clean", "warehouse")}
    assert lab.content() == lab.expected("2026-01-06")


def test_schedules_are_delivered_stopped() -> None:
    for schedule in defs().schedules or ():
        assert schedule.default_status is dg.DefaultScheduleStatus.STOPPED
