"""Streams without days: the whole list each time, and no day even where the run has one."""

from datetime import UTC, date, datetime
from typing import Any

import pytest

from etl_assets_tests.orchestration.lab import TOKYO, Lab, Row

DAY = "2026-01-05"
STATUSES = {1: "active", 2: "done", 3: "archived"}


def at_home(seconds: int, thousandths: int) -> datetime:
    """What the vendor writes without a zone, read as Tokyo's wall clock."""
    wall = datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None, microsecond=1000 * thousandths)
    return wall.replace(tzinfo=TOKYO).astimezone(UTC)


def member(row: Row) -> dict[str, Any]:
    return {name: row[name] for name in ("id", "name", "role", "is_locked", "account_member_id")}


def project(row: Row) -> dict[str, Any]:
    return {
        **{name: row[name] for name in ("id", "name", "is_billable", "client_id")},
        "status": STATUSES[row["status"]],
    }


def task(row: Row) -> dict[str, Any]:
    same = ("id", "name", "is_completed", "creator_id", "assignee_id", "estimated_minutes", "project_id",
            "external_link_caption", "external_link_link", "external_link_issue_id")  # fmt: skip
    return {
        **{name: row[name] for name in same},
        "due_date": row["due_date"] and date.fromisoformat(row["due_date"]),
        "created": at_home(row["created"], row["id"] % 1000),
        "modified": at_home(row["modified"], row["id"] % 1000),
    }


STREAMS = {
    "members": member,
    "projects": project,
    "clients": lambda row: row,
    "tags": lambda row: row,
    "tasks": task,
}


def assert_true(lab: Lab, stream: str) -> None:
    expected = [STREAMS[stream](row) for row in lab.sandbox.truth(stream=stream)]
    columns = ", ".join(expected[0])
    assert lab.query(f"SELECT {columns} FROM tmetric.{stream} ORDER BY id") == expected


def test_the_snapshot_job_loads_every_list_in_full(lab: Lab) -> None:
    run = lab.job("tmetric_snapshot")
    assert run.success, run.failures
    for stream in STREAMS:
        assert_true(lab, stream)
    assert len(lab.query("FROM tmetric.member_statuses")) == len(lab.sandbox.truth(stream="members"))


def test_a_list_follows_the_vendor_in_both_directions(lab: Lab) -> None:
    lab.run("tmetric/tags")
    lab.sandbox.change(
        "tags",
        insert=[{"id": 99, "name": "新規", "is_work_type": False}],
        update=[{"id": 41, "name": "Dev"}],
        delete=[42],
    )
    assert lab.run("tmetric/tags").success
    assert_true(lab, "tags")


def test_an_emptied_list_empties_the_table(lab: Lab) -> None:
    lab.run("tmetric/tags")
    lab.sandbox.change("tags", delete=[row["id"] for row in lab.sandbox.truth(stream="tags")])
    assert lab.run("tmetric/tags").success
    assert lab.query("FROM tmetric.tags") == []


def test_a_repeated_list_touches_no_row_and_is_recorded(lab: Lab) -> None:
    first = lab.run("tmetric/tags")
    before = lab.query("FROM tmetric.tags")
    second = lab.run("tmetric/tags")
    assert lab.query("FROM tmetric.tags") == before
    assert [row["run_id"] for row in lab.query("FROM ops.loads ORDER BY loaded_at")] == [first.id, second.id]


@pytest.mark.one_in(3)
@pytest.mark.parametrize("settings", [{"v2": False}, {"projects": False}, {"v2": False, "projects": False}], ids=str)
def test_a_list_that_the_account_does_not_have_is_read_in_another_way(lab: Lab, settings: dict[str, bool]) -> None:
    lab.sandbox.change("settings", **settings)
    run = lab.run("tmetric/projects", "tmetric/members")
    assert run.success, run.failures
    for stream, columns in {"projects": "id, name, is_billable, client_id", "members": "id, name"}.items():
        expected = [{name: row[name] for name in columns.split(", ")} for row in lab.sandbox.truth(stream=stream)]
        assert lab.query(f"SELECT {columns} FROM tmetric.{stream} ORDER BY id") == expected


def test_a_list_in_a_run_for_a_day_is_still_no_days_list(lab: Lab) -> None:
    # Dagster tells an unpartitioned asset of such a run that it has a partition key, and a window.
    run = lab.run("tmetric/tags", "tmetric/time_entries", day=DAY)
    assert run.success, run.failures
    assert_true(lab, "tags")
    assert lab.content() == lab.expected(DAY)
    recorded = {row["stream"]: row for row in lab.query("FROM ops.loads")}
    assert (recorded["tags"]["partition"], recorded["tags"]["window_start"]) == (None, None)
    assert str(recorded["time_entries"]["partition"]) == DAY
    assert [path.name for path in (lab.data / "landing/raw/tmetric/tags").iterdir()] == ["snapshot"]
    assert [path.name for path in (lab.data / "landing/raw/tmetric/time_entries").iterdir()] == [DAY]
    (asked,) = lab.sandbox.log("timeentries/tags")
    assert asked["query"] == []
    assert "dagster/row_count" in run.metadata("warehouse/tmetric/tags")
    assert "dagster/partition_row_count" not in run.metadata("warehouse/tmetric/tags")
