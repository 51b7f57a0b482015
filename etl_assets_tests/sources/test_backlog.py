"""Backlog through the steps against its simulator: tables equal the truth, whatever happens to rows and requests.

Deletions of issues are in `test_deletions.py`.
"""

import json
import logging
import stat
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from etl_assets.clean import Cleaned
from etl_assets.errors import ApiError, EtlError, RetryableError, SettingError
from etl_assets.extract import check_access
from etl_assets.reconcile import reconcile
from etl_assets.sandbox.server import running
from etl_assets.streamfiles import packaged_files, read_source
from etl_assets_tests.sources.truth import RUN_ID, Lab, Row, day, lab, leaks, output

FILE = next(file for file in packaged_files() if file.stem == "backlog")
STREAMS = [stream.name for stream in read_source(FILE).streams]
DAILY = ["issues", "issue_custom_fields", "issue_comments"]
SNAPSHOTS = [name for name in STREAMS if name not in DAILY]
ORDER = (3, 1, 2, 1)  # of the data days
DEMO, SHOP = 101, 102
CALLER = 1001
TEXT, AREA, NUMBER, DATE, SINGLE, MULTIPLE, CHECKBOX, RADIO = range(1, 9)

# Columns of which the truth says nothing; `test_every_column_holds_what_the_answer_says` looks at them.
LISTS = {"category", "versions", "milestone", "custom_fields", "attachments", "shared_files", "stars"}
WRITTEN = {"created_user_id": "creator_id", "updated_user_id": "updater_id", "pushed_at": "pushed"}
DATES = ("startDate", "dueDate", "releaseDueDate")


def load(x: Lab, stream: str, *days: date) -> None:
    """Read and load a stream, for each of the days in this order, without its child tables."""
    for on in days or (None,):
        x.extract(stream, on)
        x.load(stream, on)


def truth(x: Lab, stream: str = "issues", on: date | None = None) -> list[Row]:
    return x.sandbox.truth(stream=stream, **({"day": on.isoformat()} if on else {}))


def ids(rows: Iterable[Row]) -> list[int]:
    return sorted(row["id"] for row in rows)


def comments_of(x: Lab, issues: Iterable[Row]) -> list[Row]:
    """The comments of these issues, as rows of `issue_comments`."""
    updated = {issue["id"]: issue["updated"] for issue in issues}
    found = [row for row in truth(x, "comments") if row["issue_id"] in updated]
    return [{**row, "issue_updated": updated[row["issue_id"]]} for row in found]


def fields_of(issues: Iterable[Row]) -> list[Row]:
    """The custom fields of these issues, as rows of `issue_custom_fields`."""
    return [{**field, "issue_id": i["id"], "updated": i["updated"]} for i in issues for field in i["custom_fields"]]


def assert_true(x: Lab, stream: str, rows: Iterable[Row], unknown: Iterable[str], **more: Any) -> None:
    """The table has these rows, the columns in `unknown` aside: the truth has nothing of them, or something else."""
    known = [{name: value for name, value in row.items() if name not in unknown} for row in rows]
    x.assert_true(stream, known, unknown=unknown, **more)


def assert_issues(x: Lab, issues: list[Row], where: str = "true") -> None:
    """`issues` holds these issues, with their lists."""
    assert_true(x, "issues", issues, LISTS | {"external_file_links"}, where=where)
    found = {row["id"]: row for row in x.table("issues", where)}
    for issue in issues:
        row = found[issue["id"]]
        for name in ("category", "versions", "milestone"):
            assert [entry["name"] for entry in row[name]] == issue[name]
        for name in ("attachments", "shared_files", "stars"):
            assert [entry["id"] for entry in row[name]] == issue[name]


def assert_fields(x: Lab, issues: list[Row], where: str = "true") -> None:
    """`issue_custom_fields` holds the custom fields of these issues, their values in the column of their kind."""
    values = ["value", "value_text", "value_number", "value_date", "value_names"]
    assert_true(x, "issue_custom_fields", fields_of(issues), values, where=where)
    told = {(row["issue_id"], row["id"]): row for row in x.table("issue_custom_fields", where)}
    for field in fields_of(issues):
        row = told[field["issue_id"], field["id"]]
        assert {name: row[name] for name in values[1:]} == typed(field["field_type_id"], field["value"])


def typed(kind: int, value: Any) -> Row:
    """The value columns that a custom field's value belongs into."""
    row = {"value_text": None, "value_number": None, "value_date": None, "value_names": None}
    if kind in (TEXT, AREA, SINGLE, RADIO):
        row["value_text"] = value
    elif kind == NUMBER:
        row["value_number"] = None if value is None else float(value)
    elif kind == DATE:
        row["value_date"] = None if value is None else date.fromisoformat(value)
    else:
        row["value_names"] = value
    return row


def assert_comments(x: Lab, issues: list[Row], where: str = "true") -> None:
    """`issue_comments` holds all comments of these issues, with their changes."""
    wanted = comments_of(x, issues)
    assert_true(x, "issue_comments", wanted, {"change_log", "created_user_name", "stars", "notifications"}, where=where)
    found = {row["id"]: row["change_log"] for row in x.table("issue_comments", where)}
    changes = {key: [[c["field"], c["originalValue"], c["newValue"]] for c in log] for key, log in found.items()}
    assert changes == {row["id"]: row["changes"] for row in wanted}


def requests(x: Lab, path: str) -> list[dict[str, str]]:
    """The queries of the requests whose path ends like this, in order."""
    return [dict(row["query"]) for row in x.sandbox.log(path) if row["path"].endswith(path)]


def offsets(x: Lab) -> list[int]:
    return [int(query["offset"]) for query in requests(x, "/issues")]


@pytest.fixture
def x(tmp_path: Path) -> Iterator[Lab]:
    with lab("backlog", tmp_path) as ready:
        yield ready


@pytest.fixture
def by_token(tmp_path: Path) -> Iterator[Lab]:
    """A lab without an API key, but with OAuth's variables."""
    with running(vendors=("backlog",)) as sandbox:
        env = {**sandbox.change("oauth"), "BACKLOG_API_KEY": None}
        with lab("backlog", tmp_path, sandbox=sandbox, env=env) as ready:
            yield ready


# Every stream


@dataclass(frozen=True)
class Everything:
    """A lab in which every stream is loaded, the data days in the order of `ORDER`."""

    lab: Lab
    landed: dict[str, list[Row]]
    cleaned: dict[str, list[Cleaned]]
    changed: dict[str, list[bool]]


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Everything]:
    with lab("backlog", tmp_path_factory.mktemp("everything")) as x:
        all_of = Everything(x, {}, {}, {})
        for name in STREAMS:
            days = [day(number) for number in ORDER] if name in DAILY else [None]
            landed, cleaned, changed = {}, [], []
            for on in days:
                if x.stream(name).of is None:
                    landed[on] = x.extract(name, on)
                window = x.window(name, on)
                cleaned.append(x.pipeline.clean(x.source, x.stream(name), window, RUN_ID))
                changed.append(x.pipeline.load(x.source, x.stream(name), window, RUN_ID).changed)
            all_of.landed[name] = [row for on in landed for row in landed[on] if _lies_in(x, name, row, on)]
            all_of.cleaned[name], all_of.changed[name] = cleaned, changed
        yield all_of


def _lies_in(x: Lab, stream: str, row: Row, on: date | None) -> bool:
    window = x.window(stream, on)
    time_of = row.get("issue_updated") or row.get("updated")
    return window is None or window.start <= datetime.fromisoformat(str(time_of)) < window.end


SNAPSHOT_TRUTHS: dict[str, tuple[str, dict[str, str], set[str]]] = {
    "projects": (
        "projects",
        {"project_key": "key"},
        {"chart_enabled", "use_resolved_for_chart", "subtasking_enabled", "grandchild_issue_enabled",
         "project_leader_can_edit_project_leader", "use_wiki", "use_file_sharing", "use_wiki_tree_view",
         "use_original_image_size_at_wiki", "use_subversion", "use_git", "use_dev_attributes", "display_order"},
    ),
    "users": ("users", {}, {"nulab_account_name", "nulab_account_unique_id", "keyword"}),
    "priorities": ("priorities", {}, set()),
    "resolutions": ("resolutions", {}, set()),
    "statuses": ("statuses", {}, {"display_order"}),
    "issue_types": ("issue_types", {}, {"display_order"}),
    "categories": ("categories", {}, {"display_order"}),
    "versions": ("versions", {}, {"display_order"}),
    "custom_fields": (
        "custom_fields",
        {},
        {"description", "required", "use_issue_type", "applicable_issue_types", "display_order", "version", "min",
         "max", "initial_value", "initial_date", "unit", "items", "allow_add_item", "allow_input"},
    ),
    "wikis": ("wikis", WRITTEN, {"tags", "created_user_name", "updated_user_name"}),
    "wiki_pages": (
        "wikis",
        WRITTEN,
        {"tags", "created_user_name", "updated_user_name", "attachments", "shared_files", "stars"},
    ),
    "git_repositories": (
        "repositories",
        WRITTEN,
        {"hook_url", "http_url", "ssh_url", "display_order", "created_user_name", "updated_user_name"},
    ),
    "pull_requests": (
        "pull_requests",
        WRITTEN,
        {"base", "status_name", "assignee_name", "issue_issue_key", "base_commit", "branch_commit", "merge_commit",
         "close_at", "merge_at", "created_user_name", "updated_user_name", "attachments", "stars"},
    ),
    "documents": (
        "documents",
        {**WRITTEN, "id": "code"},
        {"content_json", "status_id", "attachments", "tags", "created_user_name", "updated_user_name"},
    ),
    "issue_keys": ("issues", {}, set()),
    "activities": ("activities", {}, {"project_project_key", "content", "created_user_name"}),
    "deleted_issues": ("activities", {}, {"project_project_key", "issue_id", "key_id", "created_user_name"}),
}  # fmt: skip


@pytest.mark.parametrize("stream", SNAPSHOTS)
def test_every_snapshot_equals_the_truth(everything: Everything, stream: str) -> None:
    x = everything.lab
    name, names, unknown = SNAPSHOT_TRUTHS[stream]
    rows = truth(x, name)
    if stream == "deleted_issues":
        rows = [row for row in rows if row["type"] == 4]
        assert sorted(row["issue_id"] for row in x.table(stream)) == ids(truth(x, "deleted"))
    assert rows
    assert_true(x, stream, rows, unknown, names=names)


@pytest.mark.parametrize("number", sorted(set(ORDER)))
def test_every_day_equals_the_truth_whatever_the_order_of_days(everything: Everything, number: int) -> None:
    x, issues = everything.lab, truth(everything.lab, on=day(number))
    assert len(issues) > 40
    assert_issues(x, issues, f"_partition = DATE '{day(number)}'")
    assert_fields(x, issues, f"_partition = DATE '{day(number)}'")
    assert_comments(x, issues, f"_partition = DATE '{day(number)}'")


@pytest.mark.parametrize("stream", DAILY)
def test_a_day_loaded_again_changes_nothing(everything: Everything, stream: str) -> None:
    assert everything.changed[stream] == [True, True, True, False]


@pytest.mark.parametrize("stream", [name for name in STREAMS if name != "issue_custom_fields"])
def test_every_column_holds_what_the_answer_says(everything: Everything, stream: str) -> None:
    rows = {tuple(str(row[n]) for n in ("project_id", "id") if n in row): row for row in everything.landed[stream]}
    days = [{**row, **{name: row[name][:10] for name in DATES if row.get(name)}} for row in rows.values()]
    everything.lab.assert_true(stream, days)


@pytest.mark.parametrize("stream", STREAMS)
def test_nothing_is_undeclared_or_quarantined(everything: Everything, stream: str) -> None:
    for cleaned in everything.cleaned[stream]:
        assert (dict(cleaned.undeclared), cleaned.rows_quarantined) == ({}, 0)


def test_the_text_of_a_wiki_comes_from_the_page_and_not_from_the_list(everything: Everything) -> None:
    x = everything.lab
    pages = {row["id"]: row["content"] for row in x.table("wiki_pages")}
    assert pages == {row["id"]: row["content"] for row in truth(x, "wikis")}
    assert {"", "議事録 📝\r\n- 決定事項: なし"} <= set(pages.values())
    assert not any("content" in row for row in everything.landed["wikis"])


def test_pull_requests_of_all_repositories_are_read(everything: Everything) -> None:
    x = everything.lab
    found = x.sql("SELECT repository_id, count(*) FROM backlog.pull_requests GROUP BY ALL ORDER BY ALL")
    assert found == [(repository, 25) for repository in ids(truth(x, "repositories"))]


def test_activities_of_unknown_types_keep_their_content(everything: Everything) -> None:
    found = everything.lab.table("activities", "type = 99")
    assert [row["content"] for row in found] == [{"new_thing": [1]}] * 3


def test_ids_that_look_odd_or_false_are_values(everything: Everything) -> None:
    x = everything.lab
    assert x.sql("SELECT DISTINCT status_name FROM backlog.issues WHERE status_id > 4") == [("レビュー待ち",)]
    assert x.sql("SELECT DISTINCT resolution_name FROM backlog.issues WHERE resolution_id = 0") == [("対応済み",)]
    assert x.table("resolutions", "id = 0")


@pytest.mark.parametrize(
    "column", ["assignee_id", "resolution_id", "start_date", "due_date", "estimated_hours", "actual_hours"]
)
def test_what_an_issue_does_not_have_is_null(everything: Everything, column: str) -> None:
    x = everything.lab
    without = [i["id"] for n in set(ORDER) for i in truth(x, on=day(n)) if i[column] is None]
    assert without
    assert ids(x.table("issues", f"{column} IS NULL")) == sorted(without)


@pytest.mark.parametrize("kind", range(TEXT, RADIO + 1))
def test_a_custom_field_has_its_value_in_the_column_of_its_kind(everything: Everything, kind: int) -> None:
    column = {NUMBER: "value_number", DATE: "value_date", MULTIPLE: "value_names", CHECKBOX: "value_names"}
    wanted = column.get(kind, "value_text")
    rows = [row for row in everything.lab.table("issue_custom_fields", f"field_type_id = {kind}") if row["value"]]
    filled = {name for row in rows for name in row if name.startswith("value_") and row[name] is not None}
    assert (bool(rows), filled) == (True, {wanted})


def test_the_other_value_of_a_choice_is_kept(everything: Everything) -> None:
    found = everything.lab.sql("SELECT DISTINCT field_type_id, other_value FROM backlog.issue_custom_fields "
                               "WHERE other_value IS NOT NULL ORDER BY ALL")  # fmt: skip
    assert found == [(CHECKBOX, "その他の環境"), (RADIO, "その他の環境")]


@pytest.mark.parametrize("content", [None, ""])
def test_a_comment_that_only_changes_something_is_kept(everything: Everything, content: str | None) -> None:
    found = [row for row in everything.lab.table("issue_comments") if row["content"] == content]
    assert found
    assert all(row["change_log"] for row in found)


def test_an_issue_without_comments_has_none(everything: Everything) -> None:
    silent = everything.lab.sql(
        "SELECT id FROM backlog.issues ANTI JOIN backlog.issue_comments ON issue_id = issues.id"
    )
    commented = {row["issue_id"] for row in truth(everything.lab, "comments")}
    assert silent
    assert commented.isdisjoint(issue for (issue,) in silent)


# Days


@pytest.mark.parametrize("zone", ["Etc/GMT+12", "Pacific/Kiritimati"])
def test_an_issue_lies_in_one_day_in_whatever_zone_the_api_reads_days(x: Lab, zone: str) -> None:
    x.sandbox.change("settings", zone=zone)
    load(x, "issues", day(1), day(2))
    for on in (day(1), day(2)):
        assert_issues(x, truth(x, on=on), f"_partition = DATE '{on}'")
        edges = x.sql(f"""SELECT DISTINCT strftime(timezone('Asia/Tokyo', updated), '%H:%M:%S') FROM backlog.issues
                          WHERE _partition = DATE '{on}'""")
        assert {("00:00:00",), ("08:59:59",), ("09:00:00",), ("23:59:59",)} <= set(edges)


@pytest.mark.parametrize("dates", ["00Z", "15Z"])
def test_a_date_is_the_same_day_at_whichever_hour_it_is_sent(x: Lab, dates: str) -> None:
    x.sandbox.change("settings", dates=dates)
    x.run("issues", day(1))
    x.run("versions")
    assert_issues(x, truth(x, on=day(1)))
    assert_fields(x, truth(x, on=day(1)))
    assert_true(x, "versions", truth(x, "versions"), {"display_order"})
    assert x.table("issue_custom_fields", "value_date = DATE '2026-01-31'")


def test_users_in_their_short_form_are_read_alike(x: Lab) -> None:
    x.sandbox.change("settings", users="short")
    load(x, "issues", day(1))
    assert_issues(x, truth(x, on=day(1)))


# Changes between loads


def at(number: int, time_of_day: str) -> str:
    """A moment of a data day in Tokyo."""
    return f"{day(number)}T{time_of_day}+09:00"


def edited(x: Lab) -> None:
    """Edits of issues of the first two days: within a day, into another, moves, new ones."""
    first, second = ([row["id"] for row in truth(x, on=day(number))] for number in (1, 2))
    x.sandbox.change(
        "issues",
        update=[
            {"id": first[0], "summary": "changed on the same day", "updated": at(1, "23:59:58")},
            {"id": first[1], "summary": "changed on the next day", "updated": at(2, "00:00:00"), "assignee_id": None},
            {"id": second[0], "status_id": 4, "resolution_id": 0, "updated": at(2, "23:00:00")},
        ],
        move=[
            {"id": first[2], "project": "OLD", "updated": at(2, "12:00:00")},
            {"id": second[1], "project": "OLD"},
        ],
        insert=[
            {"project_id": SHOP, "summary": "late", "updated": at(1, "00:00:00")},
            {"project_id": DEMO, "summary": "new", "created": at(1, "09:00:00"), "updated": at(2, "09:00:00")},
        ],
    )


@pytest.mark.one_in(2)
@pytest.mark.parametrize("order", [(1, 2), (2, 1)])
def test_edits_moves_and_inserts_are_followed_in_any_order_of_days(x: Lab, order: Sequence[int]) -> None:
    for stream in ("issues", "issue_comments"):
        x.run(stream, day(1), day(2))
    keys = dict(x.sql("SELECT id, issue_key FROM backlog.issues"))
    edited(x)
    for stream in ("issues", "issue_comments"):
        x.run(stream, *(day(number) for number in order))
    for on in (day(1), day(2)):
        assert_issues(x, truth(x, on=on), f"_partition = DATE '{on}'")
        assert_fields(x, truth(x, on=on), f"_partition = DATE '{on}'")
        assert_comments(x, truth(x, on=on), f"_partition = DATE '{on}'")
    moved = x.sql("SELECT id, issue_key FROM backlog.issues WHERE issue_key LIKE 'OLD-%'")
    assert len([issue for issue, key in moved if keys[issue] != key]) == 2


def test_a_day_read_before_an_edit_and_loaded_after_it_leaves_the_newer_version(x: Lab) -> None:
    issue = truth(x, on=day(1))[0]
    for stream in ("issues", "issue_comments"):
        x.extract(stream, day(1))
    x.sandbox.change("issues", update=[{"id": issue["id"], "summary": "newer", "updated": at(2, "10:00:00")}])
    for stream in ("issues", "issue_comments"):
        x.run(stream, day(2))
        for loaded in (stream, "issue_custom_fields"):
            x.load(loaded, day(1))
    both = truth(x, on=day(1)) + truth(x, on=day(2))
    assert_issues(x, both)
    assert_fields(x, both)
    assert_comments(x, both)


@pytest.mark.parametrize("number", [1, 2])
def test_a_custom_field_removed_from_an_issue_disappears(x: Lab, number: int) -> None:
    x.run("issues", day(1))
    issue = next(row for row in truth(x, on=day(1)) if len(row["custom_fields"]) == 8)
    left = [{"field_id": issue["custom_fields"][0]["id"], "value": "only this"}]
    x.sandbox.change("issues", update=[{"id": issue["id"], "values": left, "updated": at(number, "23:59:59")}])
    x.run("issues", day(number))
    found = x.table("issue_custom_fields", f"issue_id = {issue['id']}")
    assert [(row["id"], row["value_text"]) for row in found] == [(left[0]["field_id"], "only this")]


# Comments


@pytest.mark.parametrize("which", [slice(0, 1), slice(None)], ids=["one", "all"])
def test_a_deleted_comment_disappears_when_its_issue_is_touched(x: Lab, which: slice) -> None:
    x.run("issue_comments", day(1))
    comments = Counter(row["issue_id"] for row in truth(x, "comments"))
    issue = next(row for row in truth(x, on=day(1)) if comments[row["id"]] > 2)
    x.sandbox.change("comments", delete=ids(comments_of(x, [issue]))[which])
    # Not a field of the change log, so that no comment tells of it.
    x.sandbox.change("issues", update=[{"id": issue["id"], "updated": at(2, "01:00:00")}])
    x.run("issue_comments", day(2))
    left = ids(comments_of(x, truth(x, on=day(2)))) + ids(comments_of(x, truth(x, on=day(1))))
    assert ids(x.table("issue_comments")) == sorted(left)


def test_a_new_comment_and_an_edited_one_are_found_with_their_issue(x: Lab) -> None:
    x.run("issue_comments", day(1))
    old = comments_of(x, truth(x, on=day(1)))[0]
    x.sandbox.change("comments", update=[{"id": old["id"], "content": "edited", "updated": at(1, "23:00:00")}])
    x.sandbox.change("comments", insert=[{"issue_id": old["issue_id"], "created": at(2, "08:00:00"), "content": "new"}])
    x.run("issue_comments", day(2), day(1))
    both = truth(x, on=day(1)) + truth(x, on=day(2))
    assert_comments(x, both)
    assert {"edited", "new"} <= {row["content"] for row in x.table("issue_comments", f"issue_id = {old['issue_id']}")}


@pytest.mark.parametrize("bounds", ["exclusive", "inclusive"])
def test_long_lists_of_comments_and_deletions_are_whole_however_the_api_reads_bounds(x: Lab, bounds: str) -> None:
    x.sandbox.change("settings", bounds=bounds)
    issue = truth(x, on=day(1))[0]
    x.sandbox.change(
        "comments",
        insert=[{"issue_id": issue["id"], "created": at(1, "01:00:00"), "content": str(n)} for n in range(250)],
    )
    x.run("issue_comments", day(1))
    assert_comments(x, truth(x, on=day(1)))
    assert len(requests(x, f"/issues/{issue['id']}/comments")) == 3
    elsewhere = [row["id"] for row in truth(x) if row["updated"] < issue["updated"]]
    x.sandbox.change("issues", delete=elsewhere[:150])
    x.run("deleted_issues")
    assert sorted(row["issue_id"] for row in x.table("deleted_issues")) == sorted(ids(truth(x, "deleted")))
    assert len(requests(x, "/space/activities")) == 2


def test_an_issue_deleted_between_the_list_and_its_comments_fails_the_step_and_a_new_run_is_right(x: Lab) -> None:
    x.run("issue_comments", day(1))
    before = x.table("issue_comments")
    gone = truth(x, on=day(1))[-1]["id"]
    x.sandbox.change("issues", after={"path": "/api/v2/issues", "query": {"offset": 99}}, delete=[gone])
    with pytest.raises(ApiError, match="404"):
        x.extract("issue_comments", day(1))
    assert x.table("issue_comments") == before
    x.run("issue_comments", day(1))
    assert_comments(x, truth(x, on=day(1)))


# Changes between pages


def early(x: Lab, number: int) -> list[int]:
    """Issues of a day that stand on the first page of the window around the first day."""
    window = [row for n in (0, 1, 2) for row in truth(x, on=day(n))]
    page = sorted(window, key=lambda row: (row["created"], row["id"]))[:100]
    return [row["id"] for row in page if row["id"] in set(ids(truth(x, on=day(number))))]


def test_a_row_deleted_from_a_page_already_read_makes_the_list_be_read_again(x: Lab) -> None:
    x.sandbox.change("issues", after={"path": "/issues", "query": {"offset": 0}}, delete=early(x, 2)[:1])
    load(x, "issues", day(1))
    assert offsets(x) == [0, 99, 0, 99]
    assert_issues(x, truth(x, on=day(1)))


def test_a_row_that_leaves_the_window_between_pages_makes_the_list_be_read_again(x: Lab) -> None:
    gone = {"id": early(x, 2)[0], "summary": "later", "updated": "2026-03-01T00:00:00Z"}
    x.sandbox.change("issues", after={"path": "/issues", "query": {"offset": 0}}, update=[gone])
    load(x, "issues", day(1))
    assert offsets(x) == [0, 99, 0, 99]
    assert_issues(x, truth(x, on=day(1)))


def test_the_last_row_of_a_page_deleted_behind_it_loses_no_other(x: Lab) -> None:
    rows = sorted((row for n in (0, 1, 2) for row in truth(x, on=day(n))), key=lambda row: (row["created"], row["id"]))
    x.sandbox.change("issues", after={"path": "/issues", "query": {"offset": 0}}, delete=[rows[99]["id"]])
    load(x, "issues", day(1))
    assert offsets(x) == [0, 99, 0, 99]
    assert set(ids(x.table("issues"))) - {rows[99]["id"]} == set(ids(truth(x, on=day(1))))


@pytest.mark.parametrize(
    ("created", "inserted"),
    [("2025-01-01T00:00:00Z", {}), (at(1, "23:00:00"), {"new"})],
    ids=["among those read", "behind them"],
)
def test_a_row_inserted_between_pages_loses_and_doubles_no_other(x: Lab, created: str, inserted: set[str]) -> None:
    before = set(ids(truth(x, on=day(1))))
    new = {"project_id": DEMO, "summary": "new", "created": created, "updated": at(1, "23:30:00")}
    x.sandbox.change("issues", after={"path": "/issues", "query": {"offset": 0}}, insert=[new])
    load(x, "issues", day(1))
    assert offsets(x) == [0, 99]
    found = {row["id"]: row["summary"] for row in x.table("issues")}
    assert before <= found.keys()
    assert {found[key] for key in found.keys() - before} == set(inserted)
    load(x, "issues", day(1))
    assert_issues(x, truth(x, on=day(1)))


def test_a_row_changed_between_pages_is_there_once_and_follows_with_its_day(x: Lab) -> None:
    same, other = early(x, 1)[:2]
    x.sandbox.change(
        "issues",
        after={"path": "/issues", "query": {"offset": 0}},
        update=[
            {"id": same, "summary": "changed", "updated": at(1, "23:59:59")},
            {"id": other, "summary": "changed", "updated": at(2, "09:00:00")},
        ],
    )
    before = ids(truth(x, on=day(1)))
    load(x, "issues", day(1))
    assert ids(x.table("issues")) == before
    load(x, "issues", day(2), day(1))
    for on in (day(1), day(2)):
        assert_issues(x, truth(x, on=on), f"_partition = DATE '{on}'")


def test_a_list_that_changes_each_time_it_is_read_ends_in_an_error_and_changes_nothing(x: Lab) -> None:
    load(x, "issues", day(1))
    before = x.table("issues")
    x.sandbox.clear_log()
    for count, issue in enumerate(early(x, 2)[:5], start=1):
        x.sandbox.change("issues", after={"path": "/issues", "query": {"offset": 0}, "count": count}, delete=[issue])
    with pytest.raises(RetryableError, match="changed each of the 5 times"):
        x.extract("issues", day(1))
    assert offsets(x) == [0, 99] * 5
    x.load("issues", day(1))
    assert x.table("issues") == before


# Credentials


def test_the_api_key_is_preferred_where_both_ways_are_set(tmp_path: Path) -> None:
    with (
        running(vendors=("backlog",)) as sandbox,
        lab("backlog", tmp_path, sandbox=sandbox, env=sandbox.change("oauth")) as x,
    ):
        x.run("priorities")
        (query,) = requests(x, "/priorities")
        assert (query["apiKey"], x.sandbox.count("oauth2")) == ("***", 0)


def test_a_refresh_token_is_exchanged_once_for_many_requests(by_token: Lab) -> None:
    by_token.run("statuses")
    log = by_token.sandbox.log()
    assert [row["path"] for row in log].count("/api/v2/oauth2/token") == 1
    assert log[0]["method"] == "POST"
    assert {row["status"] for row in log} == {200}
    assert not any("apiKey" in dict(row["query"]) for row in log)
    assert_true(by_token, "statuses", truth(by_token, "statuses"), {"display_order"})


def test_a_rotated_refresh_token_is_kept_in_secret_and_used_next_time(by_token: Lab) -> None:
    by_token.run("priorities")
    (file,) = by_token.token_files()
    kept = file.read_bytes()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    rotated = by_token.sandbox.change("oauth", expire=True)["BACKLOG_OAUTH_REFRESH_TOKEN"]
    assert rotated not in by_token.secrets()
    assert leaks(by_token.folder, [*by_token.secrets(), rotated]) == []
    Lab(by_token.sandbox, "backlog", by_token.folder).run("priorities")  # as another run, with the first token set
    assert [row["status"] for row in by_token.sandbox.log("oauth2")] == [200, 200]
    assert file.read_bytes() != kept


def test_a_user_who_authorised_anew_goes_on_with_the_new_refresh_token(
    by_token: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_token.run("priorities")
    for name, value in by_token.sandbox.change("oauth", expire=True, renew=True).items():
        monkeypatch.setenv(name, value)
    Lab(by_token.sandbox, "backlog", by_token.folder).run("priorities")
    assert [row["status"] for row in by_token.sandbox.log("oauth2")] == [200, 200]


def test_processes_that_need_a_token_at_once_ask_for_one(by_token: Lab) -> None:
    by_token.sandbox.fault(path="/oauth2/token", delay=1.0)  # the second comes while the first still waits
    done = output(*[by_token.process((stream, None)) for stream in ("priorities", "resolutions")])
    assert [(code, text.split()[-1]) for code, text in done] == [(0, "3"), (0, "5")]
    assert by_token.sandbox.count("oauth2") == 1


@pytest.mark.parametrize("end", ["the clock", "the vendor"])
def test_a_token_found_expired_is_renewed_once_and_the_request_sent_again(by_token: Lab, end: str) -> None:
    by_token.run("priorities")
    if end == "the clock":
        by_token.sandbox.advance(3601)
    else:
        by_token.sandbox.change("oauth", expire=True)
    by_token.sandbox.clear_log()
    by_token.run("projects")
    assert [(row["path"].rsplit("/")[-1], row["status"]) for row in by_token.sandbox.log()] == [
        ("projects", 401),
        ("token", 200),
        ("projects", 200),
    ]


def test_a_token_is_renewed_before_its_end(by_token: Lab) -> None:
    by_token.sandbox.change("settings", token_seconds=300)
    by_token.run("priorities")
    by_token.run("resolutions")
    assert [(row["path"].rsplit("/")[-1], row["status"]) for row in by_token.sandbox.log()] == [
        ("token", 200),
        ("priorities", 200),
        ("token", 200),
        ("resolutions", 200),
    ]


def test_a_refresh_token_that_is_refused_is_told_without_it(by_token: Lab) -> None:
    by_token.sandbox.change("oauth", renew=True)
    with pytest.raises(ApiError, match=r"POST /api/v2/oauth2/token.*HTTP 400.*invalid_grant") as caught:
        check_access(by_token.api)
    assert leaks(by_token.folder, by_token.secrets(), str(caught.value)) == []
    assert by_token.sandbox.count() == 1


def test_a_revoked_api_key_is_a_final_error(x: Lab) -> None:
    (key,) = x.secrets()
    x.sandbox.change("key", revoke=key)
    with pytest.raises(ApiError, match=r"HTTP 401; the credential is wrong, expired or replaced") as caught:
        x.extract("priorities")
    assert caught.value.status == 401
    assert x.sandbox.count() == 1


@pytest.mark.parametrize("given", [{}, {"BACKLOG_OAUTH_CLIENT_ID": "half"}], ids=["nothing", "half of OAuth"])
def test_without_credentials_the_error_names_both_ways(tmp_path: Path, given: dict[str, str]) -> None:
    with lab("backlog", tmp_path, env={"BACKLOG_API_KEY": None, **given}) as x:
        with pytest.raises(SettingError) as caught:
            x.extract("priorities")
        text = str(caught.value)
        assert "BACKLOG_API_KEY: In Backlog open your personal settings" in text
        for name in ("BACKLOG_OAUTH_CLIENT_ID", "BACKLOG_OAUTH_CLIENT_SECRET", "BACKLOG_OAUTH_REFRESH_TOKEN"):
            assert name in text
        assert x.sandbox.count() == 0


def test_without_an_address_no_key_is_sent_anywhere(tmp_path: Path) -> None:
    with (
        lab("backlog", tmp_path, env={"BACKLOG_BASE_URL": None}) as x,
        pytest.raises(SettingError, match="BACKLOG_BASE_URL: "),
    ):
        x.extract("priorities")


# Limits


def test_requests_go_one_at_a_time_whoever_sends_them(x: Lab) -> None:
    x.sandbox.fault(delay=0.03, times=-1)
    other = Lab(x.sandbox, "backlog", x.folder)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda pair: pair[0].extract(pair[1]), [(x, "statuses"), (other, "categories")]))
    arrivals = [row["at"] for row in x.sandbox.log()]
    assert len(arrivals) == 10
    assert min(after - before for before, after in pairwise(arrivals)) >= 0.025


def test_an_answer_that_says_nothing_remains_holds_the_next_request_back(x: Lab) -> None:
    x.extract("users")
    reset = int(time.time()) + 3
    headers = {"X-RateLimit-Limit": "600", "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(reset)}
    x.sandbox.fault(path="/priorities", body=[{"id": 3, "name": "中"}], headers=headers)
    x.extract("priorities")
    x.extract("issue_keys")  # of another bucket
    x.extract("resolutions")
    assert x.sandbox.log("/issues")[0]["at"] < reset <= x.sandbox.log("/resolutions")[0]["at"]


def test_a_request_beyond_the_limit_is_sent_again_after_the_reset(x: Lab) -> None:
    x.sandbox.change("settings", limits={"search": 1})
    x.sandbox.advance(-59)  # so that the minute that begins now ends in a second for everybody else
    x.sandbox.change("settings", after={"path": "/issues", "count": 2}, limits={"search": 150})
    load(x, "issues", day(1))
    log = x.sandbox.log("/issues")
    assert [row["status"] for row in log] == [200, 429, 200]
    assert_issues(x, truth(x, on=day(1)))


def test_too_many_requests_are_waited_out_by_the_reset_time(x: Lab) -> None:
    x.extract("users")
    reset = int(time.time()) + 3
    error = {"errors": [{"message": "Too many requests.", "code": 13, "moreInfo": ""}]}
    x.sandbox.fault(path="/priorities", status=429, body=error, headers={"X-RateLimit-Reset": str(reset)})
    x.run("priorities")
    first, second = x.sandbox.log("/priorities")
    assert (first["status"], second["status"]) == (429, 200)
    assert first["at"] < reset <= second["at"]


def test_searches_have_a_rate_of_their_own(tmp_path: Path) -> None:
    def slow(tree: Row) -> None:
        tree["limits"]["rates"]["search"] = ["2/1s"]

    with lab("backlog", tmp_path, change=slow) as x:
        x.extract("issues", day(1))
        x.extract("statuses")
        x.extract("issues", day(2))
        first, _, third, *_ = [row["at"] for row in x.sandbox.log("/issues")]
    assert third - first >= 1


def test_the_declared_limits_are_those_seen_on_paid_plans() -> None:
    limits = read_source(FILE).limits
    rates = {bucket: [(rate.count, rate.seconds) for rate in given] for bucket, given in limits.rates.items()}
    assert (limits.parallel, rates) == (1, {"default": [(600, 60)], "search": [(150, 60)]})


# Secrets


@pytest.mark.one_in(3)
@pytest.mark.parametrize(
    "fault",
    [
        {"status": 500, "html": True, "times": -1},
        {"reset": True, "times": -1},
        {"cut": 10, "times": -1},
        {"html": True, "times": -1},
        {"status": 400, "body": "echo"},
        {"status": 302, "headers": {"Location": "https://elsewhere.example/?apiKey=echo"}},
    ],
    ids=["500", "reset", "cut", "html", "400", "redirect"],
)
def test_the_api_key_is_in_no_text_log_or_file(x: Lab, caplog: pytest.LogCaptureFixture, fault: dict[str, Any]) -> None:
    caplog.set_level(logging.DEBUG)
    (key,) = x.secrets()
    x.run("priorities")
    x.sandbox.fault(path="/resolutions", **json.loads(json.dumps(fault).replace("echo", key)))
    with pytest.raises(EtlError) as caught:
        x.extract("resolutions")
    assert "GET /api/v2/resolutions" in str(caught.value)
    said = [repr(caught.value), *(f"{record.getMessage()} {record.exc_text}" for record in caplog.records)]
    assert any("/api/v2/priorities?apiKey=***" in text for text in said)
    assert leaks(x.folder, [key], *said) == []


# Reconciliation


def differing(x: Lab, first: int, last: int) -> dict[tuple[str, date], tuple[int, int, int]]:
    """What `reconcile` finds missing, changed and too many, by stream and day."""
    found = reconcile(x.pipeline, x.api, day(first), day(last), RUN_ID)
    each = {(one.stream, one.day): one.difference for one in found}
    return {key: (d.missing, d.changed, d.surplus) for key, d in each.items() if d}


def loads(x: Lab) -> dict[tuple[str, date], int]:
    """How often each stream and day was loaded."""
    counted = x.sql("SELECT stream, partition, count(*) FROM ops.loads GROUP BY ALL")
    return {(stream, on): count for stream, on, count in counted}


def test_reconciliation_finds_late_changes_insertions_and_deletions_and_loads_their_days_only(x: Lab) -> None:
    for stream in ("issues", "issue_comments"):
        x.run(stream, day(1), day(2))
    before = loads(x)
    comments = Counter(row["issue_id"] for row in truth(x, "comments"))
    changed, gone = [row for row in truth(x, on=day(1)) if comments[row["id"]] == 1][:2]
    x.sandbox.change(
        "issues",
        # A move leaves `updated` as it was, is told by a comment, and changes the project of the other one.
        move=[{"id": changed["id"], "project": "OLD"}],
        insert=[{"project_id": DEMO, "summary": "inserted", "updated": at(1, "11:11:11")}],
        delete=[gone["id"]],
    )
    assert differing(x, 1, 2) == {("issues", day(1)): (1, 1, 1), ("issue_comments", day(1)): (1, 1, 1)}
    assert {key for key, count in loads(x).items() if count > before[key]} == {(stream, day(1)) for stream in DAILY}
    both = truth(x, on=day(1)) + truth(x, on=day(2))
    assert_issues(x, both, "_deleted_at IS NULL")
    assert_fields(x, both)
    assert_comments(x, both)
