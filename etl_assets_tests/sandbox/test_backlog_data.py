"""Backlog's data: the same from the same seed, of any size, and consistent with their own history."""

import time
from collections import Counter
from collections.abc import Iterator
from datetime import date, timedelta
from itertools import pairwise

import pytest

from etl_assets.sandbox.backlog.activities import BULK, Activities, issue_ids
from etl_assets.sandbox.backlog.base import Issue
from etl_assets.sandbox.backlog.data import Tracker
from etl_assets.sandbox.backlog.docs import Docs
from etl_assets.sandbox.times import at, wall
from etl_assets.sandbox.world import ISSUE_PROJECTS

JAPAN = "Asia/Tokyo"
ALIVE = frozenset({101, 102, 103})
FIRST = date(2026, 1, 5)


def tracker(seed: int = 1, days: int = 3, scale: float = 1) -> Tracker:
    return Tracker(seed=seed, days=days, scale=scale)


def log_of(tracker: Tracker) -> Activities:
    base = tracker.base
    return Activities(tracker, Docs(seed=1, begin=base.starts[0], end=base.end))


def of_day(tracker: Tracker, day: int) -> list[Issue]:
    start = at(JAPAN, FIRST + timedelta(days=day))
    return list(tracker.issues(ALIVE, updated=(start, start + 86_400)))


def total(rows: list[Issue]) -> tuple[int, int, int, int]:
    return len(rows), sum(row.id for row in rows), sum(row.updated for row in rows), sum(row.status_id for row in rows)


@pytest.fixture(params=["Asia/Kathmandu", "America/Los_Angeles"])
def machine_zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setenv("TZ", request.param)
        time.tzset()
        yield
    time.tzset()


def test_the_data_of_a_seed_never_change() -> None:
    assert total(of_day(tracker(), 0)) == (45, 9_023_805, 79_541_259_017, 101_900)


@pytest.mark.usefixtures("machine_zone")
def test_the_zone_of_the_machine_does_not_matter() -> None:
    test_the_data_of_a_seed_never_change()


def test_equal_parameters_give_equal_rows_and_another_seed_others() -> None:
    first, second, other = tracker(seed=7), tracker(seed=7), tracker(seed=8)
    assert of_day(first, 1) == of_day(second, 1) != of_day(other, 1)
    assert [first.comments(row.id) for row in of_day(first, 1)] == [second.comments(row.id) for row in of_day(first, 1)]


@pytest.mark.parametrize(
    ("scale", "days", "issues", "a_day"),
    [(0.1, 3, 918, 14), (1, 3, 927, 45), (1, 60, 3_780, 45), (10, 3, 9_270, 450), (112, 3, 103_824, 5_040)],
)
def test_scale_multiplies_issues_and_updates_a_day(scale: float, days: int, issues: int, a_day: int) -> None:
    rows = tracker(scale=scale, days=days)
    assert len(rows.found(ALIVE)) == issues
    for day in (0, 1, days - 1):
        start = at(JAPAN, FIRST + timedelta(days=day))
        assert len(rows.found(ALIVE, updated=(start, start + 86_400))) == a_day


@pytest.mark.parametrize("scale", [0, -1, 20_001])
def test_an_impossible_scale_is_refused(scale: float) -> None:
    with pytest.raises(ValueError, match="scale"):
        tracker(scale=scale)


@pytest.mark.parametrize("scale", [1, 3])
def test_issues_come_in_order_of_creation_and_are_never_updated_before(scale: float) -> None:
    rows = list(tracker(scale=scale).issues(ALIVE))
    assert rows == sorted(rows, key=lambda row: (row.created, row.id))
    assert all(row.created <= row.updated for row in rows)
    assert any(row.created == following.created for row, following in pairwise(rows))
    assert any(row.created == row.updated for row in rows)


@pytest.mark.parametrize("day", [-200, -30, -1, 0, 1, 2, 3])
def test_searching_by_time_finds_what_a_look_at_every_issue_finds(day: int) -> None:
    rows = tracker()
    start = at(JAPAN, FIRST + timedelta(days=day))
    for end in (start + 3_600, start + 86_400, start + 40 * 86_400):
        expected = [row.id for row in rows.issues(ALIVE) if start <= row.updated < end]
        assert rows.found(ALIVE, updated=(start, end)) == expected


def test_every_project_has_the_numbers_that_time_entries_link_to() -> None:
    rows = tracker()
    for key in ISSUE_PROJECTS:
        issues = [rows.named(f"{key}-{number}") for number in range(1, 301)]
        assert [issue and rows.key(issue) for issue in issues] == [f"{key}-{number}" for number in range(1, 301)]
    assert rows.named("DEMO-0") is rows.named("DEMO-1000") is rows.named("NONE-1") is rows.named("DEMO-x") is None


@pytest.mark.parametrize("scale", [0.1, 1])
def test_every_data_day_has_updates_at_its_very_edges(scale: float) -> None:
    for day in range(3):
        times = {wall(JAPAN, row.updated)[11:] for row in of_day(tracker(scale=scale), day)}
        assert {"00:00:00", "23:59:59", "09:00:00", "08:59:59"} <= times
    assert [wall(JAPAN, row.updated)[11:] for row in of_day(tracker(scale=scale), -1)].count("23:59:59") >= 2


def test_comments_lead_from_creation_to_the_last_update() -> None:
    rows = tracker()
    counts = Counter[int]()
    for issue in rows.issues(ALIVE):
        comments = rows.comments(issue.id)
        counts[len(comments)] += 1
        assert [comment.id for comment in comments] == sorted({comment.id for comment in comments})
        assert bool(comments) == (issue.updated > issue.created)
        if comments:
            assert comments[-1].created == issue.updated
            assert comments[-1].author_id == issue.updater_id
        assert all(comment.content or comment.changes for comment in comments)
        assert [rows.comment(comment.id) for comment in comments] == comments
    assert counts.keys() == {0, 1, 2, 3, 4, 5}


def test_the_last_change_of_a_status_leads_to_the_present_one() -> None:
    rows = tracker()
    for issue in rows.issues(ALIVE):
        changes = [change for comment in rows.comments(issue.id) for change in comment.changes]
        status = [change.new for change in changes if change.field == "status"][-1:] or ["未対応"]
        assert status == [rows.space.statuses[issue.project_id][issue.status_id].name]
        assert (issue.resolution_id is not None) == any(change.field == "resolution" for change in changes)


def test_activities_tell_every_issue_comment_and_deletion_in_order() -> None:
    rows = tracker()
    log = list(log_of(rows).every(ALIVE))
    assert [activity.id for activity in log] == sorted(activity.id for activity in log)
    assert [activity.created for activity in log] == sorted(activity.created for activity in log)
    told = Counter((activity.type, issue_id) for activity in log for issue_id in issue_ids(activity))
    assert max(count for (kind, _), count in told.items() if kind in (1, 4)) == 1
    alive = {issue.id for issue in rows.issues(ALIVE)}
    assert {issue_id for kind, issue_id in told if kind == 1} == alive | set(rows.deleted)
    assert {issue_id for kind, issue_id in told if kind == 4} == set(rows.deleted)
    for issue_id in alive:
        comments = rows.comments(issue_id)
        assert sum(told[kind, issue_id] for kind in (2, 3, BULK)) == len(comments)
        assert told[3, issue_id] == sum(not comment.changes for comment in comments)


def test_the_last_activity_of_an_issue_is_its_last_update() -> None:
    rows = tracker()
    last = {issue_id: activity for activity in log_of(rows).every(ALIVE) for issue_id in issue_ids(activity)}
    for issue in rows.issues(ALIVE):
        assert (last[issue.id].created, last[issue.id].author_id) == (issue.updated, issue.updater_id)


def test_a_bulk_update_is_one_activity_about_several_issues_of_a_project() -> None:
    rows = tracker()
    bulk = [activity for activity in log_of(rows).every(ALIVE) if activity.type == BULK]
    assert len(bulk) == 3
    for activity in bulk:
        issues = [rows.issue(issue_id) for issue_id in issue_ids(activity)]
        assert len({issue.project_id for issue in issues if issue}) == 1
        assert {issue.updated for issue in issues if issue} == {activity.created}


def test_a_hundred_thousand_updates_of_a_day_are_found_at_once() -> None:
    rows = tracker(scale=2222)
    start = at(JAPAN, FIRST)
    found = rows.found(ALIVE, updated=(start, start + 86_400))
    assert len(found) == len(set(found)) == 99_990
    assert all(start <= rows.times(issue_id)[1] < start + 86_400 for issue_id in found[::997])
