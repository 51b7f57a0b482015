"""Deleted rows: marked and kept, whoever tells of the deletion and whatever is loaded first.

Backlog tells in two ways: an activity, and that an issue is no longer among all the others.
"""

import shutil
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from etl_assets.errors import FinalError
from etl_assets.reconcile import reconcile
from etl_assets.sandbox.world import FIRST_DAY
from etl_assets.spec import Quarantine
from etl_assets.warehouse.protocol import Loaded
from etl_assets_tests.sources.truth import RUN_ID, Lab, Row, day, lab

LIVE = "_deleted_at IS NULL"
NEXT_CENTURY = date(2100, 1, 1)
ARCHIVED = date(2025, 7, 7)  # when the issues of the archived project were updated last
DEMO = 101


@pytest.fixture(params=["duckdb", "bigquery"])
def x(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Lab]:
    env = request.getfixturevalue("env") if request.param == "bigquery" else {}
    with lab("backlog", tmp_path, env=env) as ready:
        yield ready


@pytest.fixture
def accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sweep may mark as much as it likes. To be asked for before the lab's first load."""
    monkeypatch.setenv("ETL_ACCEPT_DELETIONS", "tmetric/tags, backlog/issues")


def load(x: Lab, stream: str, *days: date) -> list[Loaded]:
    """Read and load a stream, for each of the days in this order."""
    done = []
    for on in days or (None,):
        x.extract(stream, on)
        done.append(x.load(stream, on))
    return done


def truth(x: Lab, on: date) -> list[int]:
    """The issues that were updated last in the day."""
    return sorted(row["id"] for row in x.sandbox.truth(stream="issues", day=on.isoformat()))


def live(x: Lab, stream: str = "issues", column: str = "id") -> list[int]:
    where = LIVE if stream == "issues" else "true"
    return sorted({row[column] for row in x.table(stream, where)})


def marked(x: Lab) -> dict[int, datetime]:
    return {row["id"]: row["_deleted_at"] for row in x.table("issues", f"NOT ({LIVE})")}


def deleted(x: Lab) -> int:
    """Delete an issue of the first day."""
    gone = truth(x, FIRST_DAY)[7]
    x.sandbox.change("issues", delete=[gone])
    return gone


def without_activities(x: Lab) -> None:
    """Nothing is told of what happened, as if it were too long ago."""
    x.sandbox.fault(path="/space/activities", body=[], times=-1)


def told_by(x: Lab, teller: str) -> None:
    """Learn of deletions in one way and not in the other."""
    if teller == "sweep":
        without_activities(x)
        load(x, "deleted_issues")
        load(x, "issue_keys")
    else:
        load(x, "deleted_issues")


TELLERS = pytest.mark.parametrize("teller", ["activity", "sweep"])


def test_an_activity_marks_the_issue_with_the_time_of_its_deletion(x: Lab) -> None:
    load(x, "issues", FIRST_DAY)
    before = {row["id"]: row for row in x.table("issues")}
    gone = deleted(x)
    load(x, "deleted_issues")
    told = {row["issue_id"]: row["created"] for row in x.table("deleted_issues")}
    assert marked(x) == {gone: told[gone]}
    after = {row["id"]: row for row in x.table("issues")}
    assert after == before | {gone: {**before[gone], "_deleted_at": told[gone]}}
    assert live(x) == truth(x, FIRST_DAY)


def test_a_sweep_marks_what_went_without_an_activity_with_the_time_it_began(x: Lab) -> None:
    load(x, "issues", FIRST_DAY)
    gone = deleted(x)
    without_activities(x)
    load(x, "deleted_issues")
    assert (marked(x), x.table("deleted_issues")) == ({}, [])
    start = datetime.now(UTC)
    x.extract("issue_keys")
    end = datetime.now(UTC)
    x.load("issue_keys")
    (when,) = marked(x).values()
    assert list(marked(x)) == [gone]
    assert start <= when <= end
    assert live(x) == truth(x, FIRST_DAY)


@pytest.mark.one_in(3)
@pytest.mark.parametrize(
    "order",
    [
        ("issues", "deleted_issues", "issue_keys"),
        ("deleted_issues", "issues", "issue_keys"),
        ("issue_keys", "issues", "deleted_issues"),
    ],
    ids=lambda order: order[0],
)
def test_live_rows_never_include_a_deleted_issue_whatever_is_loaded_first(x: Lab, order: Sequence[str]) -> None:
    load(x, "issues", FIRST_DAY, day(2))
    deleted(x)
    for stream in order:
        load(x, stream, FIRST_DAY)
        assert live(x) == sorted(truth(x, FIRST_DAY) + truth(x, day(2)))


def test_an_issue_read_before_its_deletion_and_loaded_after_it_was_told_is_marked(x: Lab) -> None:
    x.extract("issues", FIRST_DAY)
    gone = deleted(x)
    load(x, "deleted_issues")
    for _ in range(2):
        x.load("issues", FIRST_DAY)
        assert list(marked(x)) == [gone]
        assert live(x) == truth(x, FIRST_DAY)


def test_an_issue_deleted_while_the_list_was_read_is_marked_when_that_is_told(x: Lab) -> None:
    window = [row for on in (day(0), day(1), day(2)) for row in x.sandbox.truth(stream="issues", day=on.isoformat())]
    first_page = sorted(window, key=lambda row: (row["created"], row["id"]))[:99]
    gone = next(row["id"] for row in first_page if row["id"] in truth(x, FIRST_DAY))
    x.sandbox.change("issues", after={"path": "/api/v2/issues", "query": {"offset": 0}}, delete=[gone])
    load(x, "issues", FIRST_DAY)
    assert sorted({*live(x)} - {gone}) == truth(x, FIRST_DAY)
    load(x, "deleted_issues")
    assert live(x) == truth(x, FIRST_DAY)
    assert marked(x).keys() <= {gone}


@pytest.mark.one_in(2)
@TELLERS
def test_a_marked_row_stays_as_it_is_when_its_day_and_the_deletions_are_loaded_again(x: Lab, teller: str) -> None:
    load(x, "issues", FIRST_DAY)
    gone = deleted(x)
    told_by(x, teller)
    before = x.table("issues")
    x.sandbox.clear_faults()
    (again,) = load(x, "issues", FIRST_DAY)
    told_by(x, teller)
    assert not again.changed
    assert list(marked(x)) == [gone]
    assert x.table("issues") == before


@pytest.mark.one_in(2)
@TELLERS
def test_a_marked_row_stays_when_its_day_has_changed(x: Lab, teller: str) -> None:
    load(x, "issues", FIRST_DAY)
    gone = deleted(x)
    told_by(x, teller)
    before = x.table("issues", f"id = {gone}")
    new = {"project_id": DEMO, "summary": "new", "updated": f"{FIRST_DAY}T12:00:00+09:00"}
    x.sandbox.change("issues", insert=[new], update=[{"id": truth(x, FIRST_DAY)[0], "summary": "changed"}])
    load(x, "issues", day(2), FIRST_DAY)
    assert x.table("issues", f"id = {gone}") == before
    assert live(x) == sorted(truth(x, FIRST_DAY) + truth(x, day(2)))


def test_fields_and_comments_of_a_deleted_issue_go_with_its_day(x: Lab) -> None:
    for stream in ("issues", "issue_comments"):
        x.run(stream, FIRST_DAY)
    gone = next(n for n in live(x, "issue_custom_fields", "issue_id") if n in live(x, "issue_comments", "issue_id"))
    x.sandbox.change("issues", delete=[gone])
    load(x, "deleted_issues")
    for stream in ("issues", "issue_comments"):
        x.run(stream, FIRST_DAY)
    assert gone not in live(x, "issue_custom_fields", "issue_id") + live(x, "issue_comments", "issue_id")
    assert list(marked(x)) == [gone]


def test_deletions_loaded_before_there_are_issues_mark_nothing_that_exists(x: Lab) -> None:
    load(x, "deleted_issues")
    load(x, "issue_keys")
    load(x, "issues", FIRST_DAY)
    assert (live(x), marked(x)) == (truth(x, FIRST_DAY), {})


def test_a_sweep_does_not_mark_an_issue_that_was_created_after_it_began(x: Lab) -> None:
    x.extract("issue_keys")
    new = {"project_id": DEMO, "summary": "new", "updated": f"{NEXT_CENTURY}T12:00:00+09:00"}
    x.sandbox.change("issues", insert=[new])
    load(x, "issues", NEXT_CENTURY)
    x.load("issue_keys")
    assert marked(x) == {}
    assert live(x) == truth(x, NEXT_CENTURY) != []


def test_a_sweep_does_not_mark_an_issue_that_was_changed_after_it_began(x: Lab, accepted: None) -> None:
    unchanged, changed = truth(x, FIRST_DAY)[:2]
    x.sandbox.fault(path="/api/v2/issues", body=[])
    x.extract("issue_keys")
    later = {"id": changed, "summary": "changed", "updated": f"{NEXT_CENTURY}T12:00:00+09:00"}
    x.sandbox.change("issues", update=[later])
    load(x, "issues", FIRST_DAY, NEXT_CENTURY)
    x.load("issue_keys")
    assert unchanged in marked(x)
    assert live(x) == [changed]


def test_a_moved_issue_and_those_of_an_archived_project_exist_for_a_sweep(x: Lab) -> None:
    x.sandbox.change("issues", move=[{"id": truth(x, FIRST_DAY)[0], "project": "OLD"}])
    load(x, "issues", FIRST_DAY, ARCHIVED)
    load(x, "issue_keys")
    assert marked(x) == {}
    keys = {row["issue_key"] for row in x.table("issues", LIVE)}
    assert {f"OLD-{number}" for number in range(1, 8)} <= keys


def test_rows_that_a_sweep_missed_are_live_again_when_their_day_is_loaded(x: Lab, accepted: None) -> None:
    load(x, "issues", FIRST_DAY)
    x.sandbox.fault(path="/api/v2/issues", body=[])  # as for a user who has left all projects
    load(x, "issue_keys")
    assert live(x) == []
    load(x, "issues", FIRST_DAY)
    assert (live(x), marked(x)) == (truth(x, FIRST_DAY), {})


# A row that its day no longer lists


def test_a_row_that_its_day_no_longer_lists_is_marked_with_the_time_of_the_look_until_the_deletion_is_told(
    x: Lab,
) -> None:
    load(x, "issues", FIRST_DAY)
    before = {row["id"]: row for row in x.table("issues")}
    gone = deleted(x)
    start = datetime.now(UTC)
    load(x, "issues", FIRST_DAY)
    ((key, when),) = marked(x).items()
    assert (key, start <= when <= datetime.now(UTC)) == (gone, True)
    assert live(x) == truth(x, FIRST_DAY)
    load(x, "deleted_issues")
    told = {row["issue_id"]: row["created"] for row in x.table("deleted_issues")}
    assert x.table("issues", f"id = {gone}") == [{**before[gone], "_deleted_at": told[gone]}]
    assert len(x.table("issues")) == len(before)


@pytest.mark.one_in(3)
@pytest.mark.parametrize("last", ["issues", "deleted_issues", "issue_keys"])
def test_a_deletion_leaves_the_same_rows_whatever_is_loaded_last(x: Lab, last: str) -> None:
    load(x, "issues", FIRST_DAY)
    all_of_them = live(x)
    gone = deleted(x)
    for stream in sorted(("issues", "deleted_issues", "issue_keys"), key=last.__eq__):
        load(x, stream, FIRST_DAY)
    told = {row["issue_id"]: row["created"] for row in x.table("deleted_issues")}
    assert (live(x), marked(x)) == (sorted({*all_of_them} - {gone}), {gone: told[gone]})


def test_an_issue_that_moved_to_another_day_is_live_again_with_that_day(x: Lab) -> None:
    load(x, "issues", FIRST_DAY, day(2))
    moved = truth(x, FIRST_DAY)[0]
    x.sandbox.change("issues", update=[{"id": moved, "summary": "moved", "updated": f"{day(2)}T12:00:00+09:00"}])
    load(x, "issues", FIRST_DAY)
    assert list(marked(x)) == [moved]
    load(x, "issues", day(2))
    assert marked(x) == {}
    assert live(x) == sorted(truth(x, FIRST_DAY) + truth(x, day(2)))


def test_a_day_read_before_its_issue_moved_to_a_day_that_was_read_before_that_leaves_the_issue_live(x: Lab) -> None:
    load(x, "issues", FIRST_DAY)
    moved = truth(x, FIRST_DAY)[0]
    x.sandbox.change("issues", update=[{"id": moved, "summary": "moved", "updated": f"{day(2)}T12:00:00+09:00"}])
    x.extract("issues", day(2))
    load(x, "issues", FIRST_DAY)  # marks it, later than day 2 was read
    x.load("issues", day(2))
    assert marked(x) == {}
    assert live(x) == sorted(truth(x, FIRST_DAY) + truth(x, day(2)))


@pytest.mark.one_in(2)
@pytest.mark.parametrize("version", ["same", "newer"])
def test_files_read_before_a_sweep_do_not_bring_back_what_it_marked(x: Lab, version: str) -> None:
    x.run("issues", FIRST_DAY)
    x.run("issues", day(2))
    gone = next(n for n in live(x, "issue_custom_fields", "issue_id") if n in truth(x, FIRST_DAY))
    if version == "newer":
        x.sandbox.change("issues", update=[{"id": gone, "summary": "!", "updated": f"{day(2)}T12:00:00+09:00"}])
        x.extract("issues", day(2))
    x.sandbox.change("issues", delete=[gone])
    without_activities(x)
    load(x, "issue_keys")
    assert list(marked(x)) == [gone]
    for _ in range(2):
        for on in (day(2), FIRST_DAY):
            for stream in ("issues", "issue_custom_fields"):
                x.load(stream, on)
        assert list(marked(x)) == [gone]
        assert gone not in live(x)
        assert live(x) == sorted(truth(x, FIRST_DAY) + truth(x, day(2)))


# It puts back files of a local landing; BigQuery does not load at all what was read earlier.
@pytest.mark.parametrize("x", ["duckdb"], indirect=True)
def test_files_read_before_a_deletion_do_not_bring_back_the_row_nor_its_children(x: Lab) -> None:
    x.run("issues", FIRST_DAY)
    landing = x.folder / "data" / "landing"
    shutil.copytree(landing, x.folder / "before")
    gone = live(x, "issue_custom_fields", "issue_id")[0]
    x.sandbox.change("issues", delete=[gone])
    x.run("issues", FIRST_DAY)
    before = x.table("issues"), x.table("issue_custom_fields")
    shutil.rmtree(landing)
    shutil.copytree(x.folder / "before", landing)
    for stream in ("issues", "issue_custom_fields"):
        assert not x.load(stream, FIRST_DAY).changed
    assert (x.table("issues"), x.table("issue_custom_fields")) == before
    assert (list(marked(x)), gone in live(x, "issue_custom_fields", "issue_id")) == ([gone], False)


def test_a_row_of_the_quarantine_is_live_again_when_the_same_files_are_cleaned_better(x: Lab) -> None:
    load(x, "issues", FIRST_DAY)
    before, stream, window = x.table("issues"), x.stream("issues"), x.window("issues", FIRST_DAY)
    due = stream.columns["dueDate"].model_copy(update={"required": True})
    update = {"columns": {**stream.columns, "dueDate": due}, "quarantine": Quarantine(rows=100)}
    strict = stream.model_copy(update=update)
    x.pipeline.clean(x.source, strict, window, RUN_ID)
    x.pipeline.load(x.source, strict, window, RUN_ID)
    assert sorted(marked(x)) == sorted(row["id"] for row in before if row["due_date"] is None) != []
    x.load("issues", FIRST_DAY)
    assert (live(x), marked(x)) == (sorted(row["id"] for row in before), {})


# A sweep that lists too little


def test_an_empty_sweep_is_refused_and_changes_nothing(x: Lab) -> None:
    load(x, "issues", FIRST_DAY)
    load(x, "issue_keys")
    keys, issues, loads = x.table("issue_keys"), x.table("issues"), x.sql("SELECT count(*) FROM ops.loads")
    x.sandbox.fault(path="/api/v2/issues", body=[])  # as for a user who has left all projects
    x.extract("issue_keys")
    with pytest.raises(FinalError) as caught:
        x.load("issue_keys")
    count = len(issues)
    assert str(caught.value) == (
        f"backlog/issue_keys: it lists 0 rows, and {count} of the {count} live rows of backlog/issues are not among "
        "them; nothing was loaded and none was marked as deleted. Check that the credential still sees everything. "
        "If the rows are really gone, load it once more with ETL_ACCEPT_DELETIONS=backlog/issues"
    )
    assert x.table("issue_keys") == keys != []
    assert (x.table("issues"), x.sql("SELECT count(*) FROM ops.loads")) == (issues, loads)


@pytest.mark.parametrize(("count", "believed"), [(10, True), (11, False)])
def test_a_sweep_may_lack_ten_rows_of_a_small_table(x: Lab, count: int, believed: bool) -> None:
    load(x, "issues", FIRST_DAY)
    gone = live(x)[:count]
    x.sandbox.change("issues", delete=gone)
    x.extract("issue_keys")
    if believed:
        x.load("issue_keys")
    else:
        with pytest.raises(FinalError, match=rf"it lists \d+ rows, and {count} of the \d+ live rows of backlog/issues"):
            x.load("issue_keys")
    assert sorted(marked(x)) == (gone if believed else [])


def test_a_sweep_may_lack_a_fifth_of_a_large_table(x: Lab) -> None:
    load(x, "issues", FIRST_DAY, day(2), day(3))
    rows = live(x)
    x.sandbox.change("issues", delete=rows[: len(rows) // 5])
    load(x, "issue_keys")
    assert sorted(marked(x)) == rows[: len(rows) // 5] != []
    assert len(marked(x)) > 10


def test_a_sweep_that_lacks_much_marks_it_once_that_is_accepted(x: Lab, accepted: None) -> None:
    load(x, "issues", FIRST_DAY)
    rows = live(x)
    x.sandbox.change("issues", delete=rows[1:])
    load(x, "issue_keys")
    assert (live(x), sorted(marked(x))) == (rows[:1], rows[1:])


def found(x: Lab) -> Row:
    """What reconciling the issues of the first day finds."""
    done = reconcile(x.pipeline, x.api, FIRST_DAY, FIRST_DAY, RUN_ID)
    return vars(next(one.difference for one in done if one.stream == "issues"))


def test_reconciliation_brings_rows_back_that_a_sweep_missed(x: Lab, accepted: None) -> None:
    load(x, "issues", FIRST_DAY)
    x.sandbox.fault(path="/api/v2/issues", body=[])
    load(x, "issue_keys")
    assert found(x) == {"missing": len(truth(x, FIRST_DAY)), "changed": 0, "surplus": 0}
    assert live(x) == truth(x, FIRST_DAY)


def test_reconciliation_does_not_take_a_marked_row_for_a_difference(x: Lab) -> None:
    load(x, "issues", FIRST_DAY)
    gone = deleted(x)
    load(x, "deleted_issues")
    assert found(x) == {"missing": 0, "changed": 0, "surplus": 0}
    assert list(marked(x)) == [gone]
