"""TMetric's data: the same from the same seed, of any size, and right where clocks change."""

import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest

from etl_assets.sandbox.times import at, iso, offset, wall
from etl_assets.sandbox.tmetric.data import Entry, Workspace

JAPAN, NEW_YORK = "Asia/Tokyo", "America/New_York"


def of_day(workspace: Workspace, day: str, zone: str = JAPAN) -> list[Entry]:
    first = date.fromisoformat(day)
    return list(workspace.started(at(zone, first), at(zone, first + timedelta(days=1))))


@pytest.fixture(params=["Asia/Kathmandu", "America/Los_Angeles"])
def machine_zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setenv("TZ", request.param)
        time.tzset()
        yield
    time.tzset()


def total(rows: list[Entry]) -> tuple[int, int, int]:
    return len(rows), sum(row.id for row in rows), sum((row.end or row.start) - row.start for row in rows)


def test_the_data_of_a_seed_never_change() -> None:
    workspace = Workspace(seed=1, days=3, scale=1)
    assert total(of_day(workspace, "2026-01-05")) == (99, 89_107_507, 406_309)


@pytest.mark.usefixtures("machine_zone")
def test_the_zone_of_the_machine_does_not_matter() -> None:
    test_the_data_of_a_seed_never_change()


def test_equal_parameters_give_equal_rows_and_another_seed_others() -> None:
    first, second, other = (Workspace(seed=seed, days=3, scale=2) for seed in (7, 7, 8))
    assert of_day(first, "2026-01-06") == of_day(second, "2026-01-06") != of_day(other, "2026-01-06")
    assert first.tasks == second.tasks != other.tasks
    assert first.members == other.members


def test_a_day_is_the_same_in_whatever_order_days_are_asked_for() -> None:
    workspace = Workspace(seed=1, days=3, scale=1)
    days = ("2026-01-05", "2026-01-06", "2026-01-07")
    forth = [of_day(workspace, day) for day in days]
    back = [of_day(workspace, day) for day in reversed(days)]
    assert forth == back[::-1]


@pytest.mark.parametrize(
    ("scale", "members", "entries"), [(0.5, 20, 50), (1, 20, 100), (10, 200, 1_000), (1_000, 1_000, 100_000)]
)
def test_scale_multiplies_members_then_entries(scale: float, members: int, entries: int) -> None:
    workspace = Workspace(seed=1, days=3, scale=scale)
    assert len(workspace.members) == members
    assert len(of_day(workspace, "2026-01-06")) == pytest.approx(entries, rel=0.2)


@pytest.mark.parametrize("scale", [0, -1, 100_001])
def test_an_impossible_scale_is_refused(scale: float) -> None:
    with pytest.raises(ValueError, match="scale"):
        Workspace(seed=1, days=1, scale=scale)


@pytest.mark.parametrize("scale", [1, 30, 10_000])
def test_a_members_entries_never_overlap_and_ids_never_repeat(scale: float) -> None:
    workspace = Workspace(seed=3, days=3, scale=scale)
    ids: list[int] = []
    for member in list(workspace.members.values())[:20]:
        rows = workspace.entries(member, at(member.zone, date(2026, 1, 1)), at(member.zone, date(2026, 1, 31)))
        assert rows == sorted(rows, key=lambda row: row.start)
        for row, following in pairwise(rows):
            assert row.end is not None
            assert row.start < row.end <= following.start
        ids += [row.id for row in rows]
    assert len(ids) == len(set(ids))


def test_data_days_are_days_of_the_members_calendar() -> None:
    workspace = Workspace(seed=1, days=2, scale=1)
    for member in workspace.members.values():
        rows = workspace.entries(member, 0, 1 << 34)
        assert {wall(member.zone, row.start)[:10] for row in rows} <= {"2026-01-05", "2026-01-06"}
        assert rows


def test_any_entry_is_found_by_its_id() -> None:
    workspace = Workspace(seed=1, days=3, scale=1)
    rows = of_day(workspace, "2026-01-07")
    assert [workspace.entry(row.id) for row in rows] == rows
    assert workspace.entry(1) is None
    assert workspace.entry(10**9) is None


def test_working_hours_follow_the_wall_clock_over_a_change_of_clocks() -> None:
    workspace = Workspace(seed=1, days=70, scale=1)
    member = next(member for member in workspace.members.values() if member.zone == NEW_YORK)
    openings = {}
    for day in (date(2026, 3, 6), date(2026, 3, 9)):
        rows = workspace.entries(member, at(NEW_YORK, day, 8 * 3600), at(NEW_YORK, day, 12 * 3600))
        openings[day] = datetime.fromtimestamp(rows[0].start, UTC).hour
        assert wall(NEW_YORK, rows[0].start)[11:13] == "09"
    assert list(openings.values()) == [14, 13]


@pytest.mark.parametrize("zone", [JAPAN, NEW_YORK, "Asia/Kathmandu", "Australia/Lord_Howe"])
def test_fast_wall_clocks_agree_with_the_calendar(zone: str) -> None:
    for instant in range(at("UTC", date(2026, 1, 1)), at("UTC", date(2027, 1, 1)), 86_400 * 3 + 1_801):
        local = datetime.fromtimestamp(instant, ZoneInfo(zone))
        assert wall(zone, instant) == local.strftime("%Y-%m-%dT%H:%M:%S")
        assert timedelta(seconds=offset(zone, instant)) == local.utcoffset()


@pytest.mark.parametrize("hour", [5, 6])
def test_clocks_are_set_back_at_the_right_hour(hour: int) -> None:
    instant = int(datetime(2026, 11, 1, hour, 30, tzinfo=UTC).timestamp())
    assert wall(NEW_YORK, instant) == "2026-11-01T01:30:00"
    assert iso(instant) == f"2026-11-01T0{hour}:30:00"
