"""Days and slices of days, and how APIs want them written."""

import os
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest

from etl_assets.window import Window, since, until

NEW_YORK, TOKYO, SAO_PAULO, HAVANA = "America/New_York", "Asia/Tokyo", "America/Sao_Paulo", "America/Havana"
HOUR = timedelta(hours=1)


def length(window: Window) -> timedelta:
    return window.end.astimezone(UTC) - window.start.astimezone(UTC)


def utc(instant: datetime) -> str:
    return instant.astimezone(UTC).strftime("%m-%d %H:%M:%S")


# Days


@pytest.mark.parametrize(
    ("zone", "day", "start", "hours"),
    [
        (TOKYO, date(2026, 1, 5), "01-04 15:00:00", 24),
        (TOKYO, date(2026, 3, 8), "03-07 15:00:00", 24),
        (NEW_YORK, date(2026, 1, 5), "01-05 05:00:00", 24),
        (NEW_YORK, date(2026, 3, 7), "03-07 05:00:00", 24),
        (NEW_YORK, date(2026, 3, 8), "03-08 05:00:00", 23),
        (NEW_YORK, date(2026, 3, 9), "03-09 04:00:00", 24),
        (NEW_YORK, date(2026, 11, 1), "11-01 04:00:00", 25),
        (NEW_YORK, date(2026, 11, 2), "11-02 05:00:00", 24),
        (SAO_PAULO, date(2018, 11, 3), "11-03 03:00:00", 24),
        (SAO_PAULO, date(2018, 11, 4), "11-04 03:00:00", 23),
        (SAO_PAULO, date(2018, 2, 17), "02-17 02:00:00", 25),
        (HAVANA, date(2024, 11, 3), "11-03 04:00:00", 25),
        ("UTC", date(2024, 12, 31), "12-31 00:00:00", 24),
        ("Asia/Kathmandu", date(2026, 1, 5), "01-04 18:15:00", 24),
    ],
)
def test_a_day_is_as_long_as_the_clocks_of_its_zone_make_it(zone: str, day: date, start: str, hours: int) -> None:
    window = Window.of_day(day, zone)
    assert utc(window.start) == start
    assert length(window) == hours * HOUR
    assert window.day == day


@pytest.mark.parametrize("zone", [NEW_YORK, TOKYO, SAO_PAULO, HAVANA, "Asia/Shanghai", "Africa/Cairo"])
@pytest.mark.parametrize("year", [2018, 2024, 2026])
def test_the_days_of_a_year_follow_each_other_without_gap_or_overlap(zone: str, year: int) -> None:
    days = [Window.of_day(date(year, 1, 1) + timedelta(days=n), zone) for n in range(365)]
    for before, after in pairwise(days):
        assert before.end.astimezone(UTC) == after.start.astimezone(UTC)
        assert timedelta(hours=23) <= length(before) <= timedelta(hours=25)


def test_a_window_given_in_another_zone_has_the_day_of_its_own() -> None:
    start, end = datetime(2026, 1, 4, 15, tzinfo=UTC), datetime(2026, 1, 5, 15, tzinfo=UTC)
    window = Window(start, end, ZoneInfo(TOKYO))
    assert window.day == date(2026, 1, 5)
    assert (since(window, "date"), until(window, "date", inclusive=True)) == ("2026-01-05", "2026-01-05")


# Wider windows


@pytest.mark.parametrize("day", [date(2026, 3, 7), date(2026, 3, 8), date(2026, 3, 9), date(2026, 11, 1)])
def test_a_widened_day_is_whole_days_where_clocks_change(day: date) -> None:
    wide = Window.of_day(day, NEW_YORK).widened(timedelta(days=1))
    assert since(wide, "date") == str(day - timedelta(days=1))
    assert until(wide, "date", inclusive=True) == str(day + timedelta(days=1))
    assert until(wide, "date", inclusive=False) == str(day + timedelta(days=2))
    assert wide.start.hour == wide.end.hour == 0


def test_a_window_widened_by_hours_asks_for_the_days_it_touches() -> None:
    wide = Window.of_day(date(2026, 1, 5), TOKYO).widened(6 * HOUR)
    assert (since(wide, "iso"), until(wide, "iso", inclusive=False)) == ("2026-01-04T09:00:00Z", "2026-01-05T21:00:00Z")
    assert (since(wide, "date"), until(wide, "date", inclusive=True)) == ("2026-01-04", "2026-01-06")


def test_a_window_widened_by_nothing_is_the_same() -> None:
    window = Window.of_day(date(2026, 1, 5), TOKYO)
    assert window.widened(timedelta(0)) == window


# Slices


@pytest.mark.parametrize("zone", [NEW_YORK, TOKYO, HAVANA])
@pytest.mark.parametrize("day", [date(2026, *day) for day in ((3, 7), (3, 8), (6, 1), (10, 31), (11, 1))])
@pytest.mark.parametrize("minutes", [30, 40, 60, 7 * 60, 24 * 60, 1440 * 7])
@pytest.mark.parametrize("widen", [timedelta(0), timedelta(minutes=90), timedelta(minutes=150), timedelta(days=1)])
def test_slices_cover_the_window_in_order_and_none_is_too_long(
    zone: str, day: date, minutes: int, widen: timedelta
) -> None:
    window, longest = Window.of_day(day, zone).widened(widen), timedelta(minutes=minutes)
    slices = window.slices(longest)
    instants = [slices[0].start, *(part.end for part in slices)]
    assert [part.start.astimezone(UTC) for part in slices[1:]] == [one.end.astimezone(UTC) for one in slices[:-1]]
    assert (utc(instants[0]), utc(instants[-1])) == (utc(window.start), utc(window.end))
    assert all(timedelta(0) < length(part) <= longest for part in slices)
    assert len(slices) == -(-length(window) // longest)


def test_without_a_limit_the_window_is_its_only_slice() -> None:
    window = Window.of_day(date(2026, 1, 5), TOKYO)
    assert window.slices(None) == [window]


# How windows are written

DAY = Window.of_day(date(2026, 1, 5), TOKYO)
SPRING = Window.of_day(date(2026, 3, 8), NEW_YORK)
AUTUMN = Window.of_day(date(2026, 11, 1), NEW_YORK)
MIDNIGHT_TWICE = Window.of_day(date(2018, 2, 17), SAO_PAULO)  # at its midnight clocks went back to 23:00


@pytest.mark.parametrize(
    ("window", "form", "first", "last", "after"),
    [
        (DAY, "date", "2026-01-05", "2026-01-05", "2026-01-06"),
        (DAY, "%Y-%m-%d", "2026-01-05", "2026-01-05", "2026-01-06"),
        (DAY, "%Y%m%d", "20260105", "20260105", "20260106"),
        (DAY, "iso", "2026-01-04T15:00:00Z", "2026-01-05T14:59:59Z", "2026-01-05T15:00:00Z"),
        (DAY, "epoch_s", 1767538800, 1767625199, 1767625200),
        (DAY, "epoch_ms", 1767538800000, 1767625199999, 1767625200000),
        (DAY, "%Y-%m-%d %H:%M:%S", "2026-01-05 00:00:00", "2026-01-05 23:59:59", "2026-01-06 00:00:00"),
        (
            DAY,
            "%Y-%m-%dT%H:%M:%S%z",
            "2026-01-05T00:00:00+0900",
            "2026-01-05T23:59:59+0900",
            "2026-01-06T00:00:00+0900",
        ),
        (DAY, "%Y-%m-%d %H:%M", "2026-01-05 00:00", "2026-01-05 23:59", "2026-01-06 00:00"),
        (DAY, "%Y%m%d%H", "2026010500", "2026010523", "2026010600"),
        (DAY, "%F %T", "2026-01-05 00:00:00", "2026-01-05 23:59:59", "2026-01-06 00:00:00"),
        (SPRING, "date", "2026-03-08", "2026-03-08", "2026-03-09"),
        (SPRING, "iso", "2026-03-08T05:00:00Z", "2026-03-09T03:59:59Z", "2026-03-09T04:00:00Z"),
        (SPRING, "%Y-%m-%d %H:%M:%S", "2026-03-08 00:00:00", "2026-03-08 23:59:59", "2026-03-09 00:00:00"),
        (AUTUMN, "date", "2026-11-01", "2026-11-01", "2026-11-02"),
        (AUTUMN, "iso", "2026-11-01T04:00:00Z", "2026-11-02T04:59:59Z", "2026-11-02T05:00:00Z"),
        (AUTUMN, "epoch_s", 1793505600, 1793595599, 1793595600),
        (
            AUTUMN,
            "%Y-%m-%dT%H:%M:%S%z",
            "2026-11-01T00:00:00-0400",
            "2026-11-01T23:59:59-0500",
            "2026-11-02T00:00:00-0500",
        ),
        (MIDNIGHT_TWICE, "date", "2018-02-17", "2018-02-17", "2018-02-18"),
        (MIDNIGHT_TWICE, "iso", "2018-02-17T02:00:00Z", "2018-02-18T02:59:59Z", "2018-02-18T03:00:00Z"),
        (MIDNIGHT_TWICE, "epoch_s", 1518832800, 1518922799, 1518922800),
    ],
)
def test_a_window_is_written_in_the_form_of_the_api(
    window: Window, form: str, first: str | int, last: str | int, after: str | int
) -> None:
    assert since(window, form) == first
    assert until(window, form, inclusive=True) == last
    assert until(window, form, inclusive=False) == after


def test_an_inclusive_end_of_a_slice_is_not_before_its_start() -> None:
    for part in Window.of_day(date(2026, 11, 1), NEW_YORK).widened(timedelta(days=1)).slices(timedelta(days=1)):
        assert str(since(part, "date")) <= str(until(part, "date", inclusive=True))


_PRINT = """
from datetime import date, timedelta
from etl_assets.window import Window, since, until
for zone in ("America/New_York", "Asia/Tokyo"):
    for day in (date(2026, 1, 5), date(2026, 3, 8), date(2026, 11, 1)):
        wide = Window.of_day(day, zone).widened(timedelta(hours=3))
        for part in [wide, *wide.slices(timedelta(hours=5))]:
            for form in ("date", "iso", "epoch_s", "epoch_ms", "%Y-%m-%d %H:%M:%S%z"):
                ends = [until(part, form, inclusive=inclusive) for inclusive in (True, False)]
                print(part.day, since(part, form), *ends)
"""


def test_the_time_zone_of_the_machine_changes_nothing() -> None:
    printed = {
        subprocess.run(
            [sys.executable, "-c", _PRINT], env={**os.environ, "TZ": zone}, capture_output=True, text=True, check=True
        ).stdout
        for zone in ("UTC", "Asia/Tokyo", "America/New_York")
    }
    assert len(printed) == 1
    assert printed.pop().count("\n") > 150
