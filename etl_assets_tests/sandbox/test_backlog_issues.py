"""Backlog's issues as its fact sheet describes them: pages, filters, order, looks."""

import itertools
from datetime import date, timedelta
from typing import Any

import pytest
import requests

from etl_assets.sandbox.handle import Sandbox
from etl_assets.sandbox.server import running
from etl_assets_tests.sandbox.backlog_api import DAYS, DEMO, FORMER, INFRA, OLD, SALES, SHOP, Row, Space, ids

pytest_plugins = ("etl_assets_tests.sandbox.backlog_fixtures",)

DATES = ("created", "updated", "startDate", "dueDate")


@pytest.fixture(scope="module")
def issues() -> list[Row]:
    """All issues as they are at first."""
    with running(vendors=("backlog",)) as sandbox, requests.Session() as session:
        return Space(sandbox, session).all("issues")


def test_a_day_holds_the_issues_updated_in_it_in_tokyo(space: Space, backlog: Sandbox) -> None:
    for day in DAYS:
        truth = backlog.truth(stream="issues", day=day, zone="Asia/Tokyo")
        rows = space.updated(day, day)
        assert {row["id"]: row["updated"] for row in rows} == {row["id"]: row["updated"] for row in truth}
        assert 30 <= len(rows) <= 60
        before = (date.fromisoformat(day) - timedelta(days=1)).isoformat()
        assert {f"{before}T15:00:00Z", f"{day}T14:59:59Z"} <= {row["updated"] for row in rows}


def test_days_are_inclusive_and_add_up(space: Space) -> None:
    parts = [row for day in DAYS for row in space.updated(day, day)]
    assert sorted(ids(parts)) == ids(sorted(space.updated(DAYS[0], DAYS[-1]), key=lambda row: row["id"]))
    assert sorted(ids(parts)) == sorted(ids(space.all("issues", updatedSince=DAYS[0])))
    assert space.updated(DAYS[1], DAYS[0]) == []


def test_the_zone_of_days_can_be_another_one(space: Space, backlog: Sandbox) -> None:
    backlog.change("settings", zone="UTC")
    rows = space.updated(DAYS[0], DAYS[0])
    assert {row["updated"][:10] for row in rows} == {DAYS[0]}
    assert sorted(ids(rows)) == sorted(ids(backlog.truth(day=DAYS[0], zone="UTC")))


@pytest.mark.parametrize("value", ["2026-1-5", "20260105", "2026-02-30", "2026-01-05T00:00:00", "today"])
def test_bad_dates_are_refused(space: Space, value: str) -> None:
    for name in DATES:
        for end in ("Since", "Until"):
            assert space.refusal("GET", "issues", {name + end: value}) == (400, 7)
            assert space.refusal("GET", "issues/count", {name + end: value}) == (400, 7)


@pytest.mark.parametrize(
    "query",
    [
        {"count": 0},
        {"count": 101},
        {"count": "ten"},
        {"count": ""},
        {"offset": -1},
        {"hasDueDate": "true"},
        {"attachment": "maybe"},
        {"sort": "issueKey"},
        {"sort": "customField_1"},
        {"order": "up"},
        {"statusId[]": "open"},
        {"parentChild": 11},
        {"customField_1": "x"},
        {"customField_912_min": "cheap"},
    ],
)
def test_parameters_that_make_no_sense_are_refused(space: Space, query: Row) -> None:
    assert space.refusal("GET", "issues", query) == (400, 7)


def test_a_page_has_20_rows_unless_it_is_told_otherwise(space: Space) -> None:
    assert len(space.get("issues")) == 20
    assert [len(space.get("issues", count=count)) for count in (1, 100)] == [1, 100]
    assert space.get("issues", count=100, offset=5_000) == []


def test_pages_follow_each_other_and_count_tells_how_many_rows_there_are(space: Space, backlog: Sandbox) -> None:
    rows = space.all("issues", sort="created")
    assert ids(rows) == ids(backlog.truth(stream="issues"))
    assert space.get("issues/count") == {"count": len(rows)} == {"count": 933}
    assert rows == sorted(rows, key=lambda row: (row["created"], row["id"]))


def test_without_sort_the_newest_come_first(space: Space) -> None:
    newest = space.get("issues", count=5)
    assert newest == space.get("issues", count=5, sort="created", order="desc")
    assert newest == sorted(newest, key=lambda row: row["created"], reverse=True)


@pytest.mark.parametrize("name", ["statusId[]", "statusId[0]", "statusId"])
def test_lists_can_be_written_in_three_ways(space: Space, name: str) -> None:
    second = "statusId[1]" if name == "statusId[0]" else name
    rows = space.get("issues", [(name, 3), (second, 4), ("count", 100)])
    assert {row["status"]["id"] for row in rows} == {3, 4}
    assert space.get("issues/count", [(name, 3), (second, 4)])["count"] > 100


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("projectId", ("projectId",)),
        ("issueTypeId", ("issueType", "id")),
        ("categoryId", ("category", "*", "id")),
        ("versionId", ("versions", "*", "id")),
        ("milestoneId", ("milestone", "*", "id")),
        ("statusId", ("status", "id")),
        ("priorityId", ("priority", "id")),
        ("assigneeId", ("assignee", "id")),
        ("createdUserId", ("createdUser", "id")),
        ("resolutionId", ("resolution", "id")),
        ("parentIssueId", ("parentIssueId",)),
        ("id", ("id",)),
    ],
)
def test_every_list_filters_and_two_of_them_together(space: Space, name: str, path: tuple[str, ...]) -> None:
    rows = space.all("issues", **{"projectId[]": DEMO})
    values = sorted({value for row in rows for value in found(row, path)})[:2]
    assert values
    chosen = space.all("issues", **{f"{name}[]": values, "projectId[]": DEMO})
    assert ids(chosen) == [row["id"] for row in rows if not set(values).isdisjoint(found(row, path))] != []


def found(row: Any, path: tuple[str, ...]) -> list[Any]:
    if row is None or not path:
        return [] if row is None else [row]
    if path[0] == "*":
        return [value for item in row for value in found(item, path[1:])]
    return found(row[path[0]], path[1:])


@pytest.mark.parametrize("name", DATES)
def test_dates_filter_by_inclusive_days(space: Space, issues: list[Row], name: str) -> None:
    first, last = "2025-12-01", "2026-01-05"
    rows = space.all("issues", **{f"{name}Since": first, f"{name}Until": last})
    shift = timedelta(hours=9) if name in ("created", "updated") else timedelta()
    assert ids(rows) == [row["id"] for row in issues if row[name] and first <= day(row[name], shift) <= last] != []


def day(text: str, shift: timedelta) -> str:
    seconds = timedelta(hours=int(text[11:13]), minutes=int(text[14:16]), seconds=int(text[17:19])) + shift
    return (date.fromisoformat(text[:10]) + timedelta(days=seconds.days)).isoformat()


def test_flags_and_keywords_filter(space: Space, issues: list[Row]) -> None:
    rows = issues
    for name, field in (("attachment", "attachments"), ("sharedFile", "sharedFiles")):
        for flag in ("true", "false"):
            expected = [row["id"] for row in rows if bool(row[field]) == (flag == "true")]
            assert ids(space.all("issues", **{name: flag})) == expected != []
    assert ids(space.all("issues", hasDueDate="false")) == [row["id"] for row in rows if row["dueDate"] is None]
    assert ids(space.all("issues", keyword="ログイン")) == [
        row["id"] for row in rows if "ログイン" in row["summary"] + row["description"]
    ]


def test_parents_and_children_can_be_told_apart(space: Space) -> None:
    rows = space.all("issues", projectId=DEMO)
    children = {row["id"] for row in rows if row["parentIssueId"]}
    parents = {row["parentIssueId"] for row in rows} - {None}
    everything = {row["id"] for row in rows}
    expected = {
        0: everything,
        1: everything - children,
        2: children,
        3: everything - children - parents,
        4: parents,
        5: set[int](),
        6: children,
        7: everything - children,
        8: everything,
        9: children,
        10: everything - parents,
    }
    for kind, wanted in expected.items():
        assert set(ids(space.all("issues", parentChild=kind, projectId=DEMO))) == wanted
    (row,) = space.get("issues", [("id[]", min(parents)), ("expand[]", "childIssueSummary")])
    assert row["childIssueSummary"]["total"] == sum(child["parentIssueId"] == row["id"] for child in rows)
    assert not any("childIssueSummary" in row for row in rows)


def test_custom_fields_filter_by_their_kind(space: Space) -> None:
    fields = {field["typeId"]: field["id"] for field in space.get("projects/DEMO/customFields")}
    rows = {row["id"]: custom(row) for row in space.all("issues", **{"projectId[]": DEMO})}

    def chosen(**query: Any) -> list[Any]:
        return [rows[row_id] for row_id in ids(space.all("issues", **query))]

    assert {values[1]["value"] for values in chosen(**{f"customField_{fields[1]}": "hi"})} == {'say "hi", ok'}
    numbers = chosen(**{f"customField_{fields[3]}_min": -5, f"customField_{fields[3]}_max": 12.5})
    assert {values[3]["value"] for values in numbers} == {-3, 0, 12.5}
    dates = chosen(**{f"customField_{fields[4]}_min": "2026-01-01"})
    assert {values[4]["value"] for values in dates} == {"2026-01-31T00:00:00Z"}
    for kind, item in ((5, 3), (6, 3), (7, 3), (8, 2)):
        assert chosen(**{f"customField_{fields[kind]}[]": item})
        for values in chosen(**{f"customField_{fields[kind]}[]": item}):
            value = values[kind]["value"]
            assert item in ids(value if isinstance(value, list) else [value])


def custom(row: Row) -> dict[int, Row]:
    return {field["fieldTypeId"]: field for field in row["customFields"]}


def value(row: Row, sort: str) -> Any:
    if sort in ("category", "version", "milestone"):
        return min(ids(row["versions" if sort == "version" else sort]), default=None)
    if sort in ("attachment", "sharedFile"):
        return len(row[f"{sort}s"])
    if sort == "childIssue":
        return row["parentIssueId"]
    inside = row.get(sort)
    return inside["id"] if isinstance(inside, dict) else inside


@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize(
    "sort",
    [
        "issueType", "category", "version", "milestone", "summary", "status", "priority", "attachment", "sharedFile",
        "created", "createdUser", "updated", "updatedUser", "assignee", "startDate", "dueDate", "estimatedHours",
        "actualHours", "childIssue",
    ],
)  # fmt: skip
def test_issues_can_be_sorted_by_every_value(space: Space, sort: str, order: str) -> None:
    rows = space.get("issues", sort=sort, order=order, count=100, updatedSince=DAYS[0])
    keys = [(value(row, sort) is not None, value(row, sort), row["id"]) for row in rows]
    assert keys == sorted(keys, reverse=order == "desc")
    assert len(rows) == 100


def test_issues_can_be_sorted_by_a_custom_field(space: Space) -> None:
    (field,) = (field["id"] for field in space.get("projects/SHOP/customFields") if field["typeId"] == 3)
    rows = space.all("issues", sort=f"customField_{field}", **{"projectId[]": SHOP})
    numbers = [custom(row)[3]["value"] for row in rows if custom(row)[3]["value"] is not None]
    assert numbers == sorted(numbers)
    assert len(numbers) > 100


def test_an_issue_is_found_by_its_id_and_its_key_but_only_in_a_joined_project(space: Space) -> None:
    for row in space.get("issues", count=3):
        assert space.get(f"issues/{row['id']}") == space.get(f"issues/{row['issueKey']}") == row
    for name in ("SALES-1", "DEMO-0", "DEMO-99999", "NONE-1", "1", "demo-1", "DEMO-"):
        assert space.refusal("GET", f"issues/{name}") == (404, 6)


def test_issues_of_other_projects_are_hidden(space: Space, backlog: Sandbox) -> None:
    assert {row["projectId"] for row in space.all("issues")} == {DEMO, SHOP, INFRA, OLD}
    assert space.get("issues", [("projectId[]", SALES)]) == []
    assert space.get("issues/count", [("projectId[]", SALES), ("projectId[]", OLD)]) == {"count": 6}
    members = backlog.truth(stream="projects")[0]["members"]
    backlog.change("projects", update=[{"id": SALES, "members": members}])
    assert len(space.get("issues", [("projectId[]", SALES)])) == 4
    assert {row["project_id"] for row in backlog.truth(stream="issues")} == {DEMO, SHOP, INFRA, OLD, SALES}


def test_every_field_of_an_issue_is_there(issues: list[Row]) -> None:
    fields = {
        "id", "projectId", "issueKey", "keyId", "issueType", "summary", "description", "resolution", "priority",
        "status", "assignee", "category", "versions", "milestone", "startDate", "dueDate", "estimatedHours",
        "actualHours", "parentIssueId", "createdUser", "created", "updatedUser", "updated", "customFields",
        "attachments", "sharedFiles", "stars",
    }  # fmt: skip
    for row in issues:
        assert row.keys() == fields | (set() if row["projectId"] == SHOP else {"externalFileLinks"})
        assert row["issueKey"].rpartition("-")[2] == str(row["keyId"])
        for name in ("created", "updated"):
            assert len(row[name]) == len("2026-01-05T00:00:00Z")
        for name in ("estimatedHours", "actualHours"):
            assert row[name] is None or isinstance(row[name], float)


def test_whatever_can_be_missing_is_missing_somewhere(issues: list[Row]) -> None:
    rows = issues
    for name in (
        "resolution",
        "assignee",
        "startDate",
        "dueDate",
        "estimatedHours",
        "actualHours",
        "parentIssueId",
        "updatedUser",
    ):
        assert {row[name] is None for row in rows} == {True, False}
    for name in ("category", "versions", "milestone", "customFields", "attachments", "sharedFiles", "stars"):
        assert {row[name] == [] for row in rows} == {True, False}
    assert {row["resolution"]["id"] for row in rows if row["resolution"]} == {0, 1, 2, 3, 4}
    assert {row["status"]["id"] for row in rows} > {1, 2, 3, 4}
    assert "" in {row["description"] for row in rows}
    assert {row["sharedFiles"][0]["updatedUser"] for row in rows if row["sharedFiles"]} == {None}


def test_summaries_have_every_kind_of_text(issues: list[Row]) -> None:
    text = "".join(row["summary"] for row in issues)
    assert all(
        part in text for part in ("🚨", "👨‍👩‍👧‍👦", '"', "\n", "\r\n", "\t", ",", "\\", "決済", "  ", "\u2028", "=SUM")
    )


def test_custom_fields_have_values_of_every_kind(space: Space, issues: list[Row]) -> None:
    rows = [custom(row) for row in issues if row["projectId"] == DEMO]
    assert all(row.keys() == set(range(1, 9)) for row in rows)
    kinds: dict[int, set[type]] = {
        1: {str}, 2: {str}, 3: {int, float}, 4: {str}, 5: {dict}, 6: {list}, 7: {list}, 8: {dict},
    }  # fmt: skip
    for kind, types in kinds.items():
        assert {type(row[kind]["value"]) for row in rows} - {type(None)} == types
        assert any(row[kind]["value"] in (None, []) for row in rows)
        assert ("otherValue" in rows[0][kind]) == (kind in (7, 8))
    assert {row[7]["otherValue"] for row in rows} == {None, "その他の環境"}
    assert rows[0][6]["value"] == [] or rows[0][6]["value"][0].keys() == {"id", "name", "displayOrder"}
    assert {row[1]["id"] for row in rows} == {space.get("projects/DEMO/customFields")[0]["id"]}
    assert {len(row["customFields"]) for row in issues if row["projectId"] in (SHOP, INFRA)} == {3, 0}


def test_dates_without_time_come_as_midnight_of_utc_or_of_tokyo(space: Space, backlog: Sandbox) -> None:
    truth = {row["id"]: row for row in backlog.truth(stream="issues")}
    for row in space.all("issues"):
        assert row["dueDate"] == (truth[row["id"]]["due_date"] and truth[row["id"]]["due_date"] + "T00:00:00Z")
    backlog.change("settings", dates="15Z")
    rows = space.all("issues")
    for row in rows:
        due = truth[row["id"]]["due_date"]
        before = due and (date.fromisoformat(due) - timedelta(days=1)).isoformat()
        assert row["dueDate"] == (before and before + "T15:00:00Z")
    dates = [row["startDate"] for row in rows] + [v["startDate"] for row in rows for v in row["versions"]]
    dates += [custom(row)[4]["value"] for row in rows if 4 in custom(row)]
    assert {text[11:] for text in dates if text} == {"15:00:00Z"}


def test_users_come_in_both_forms(space: Space, backlog: Sandbox) -> None:
    users = [user for row in space.all("issues") for user in (row["createdUser"], row["assignee"]) if user]
    forms = {tuple(user) for user in users}
    assert any("userId" not in form and "nulabAccount" not in form for form in forms)
    assert any(user.get("nulabAccount", 0) is None for user in users)
    assert any(user.get("nulabAccount") for user in users)
    assert {user["userId"] for user in users if user["id"] == FORMER} == {None}
    backlog.change("settings", users="short")
    assert set(space.get("issues")[0]["createdUser"]) == {"id", "name", "roleType", "lang"}


def test_the_truth_says_what_a_right_extract_holds(issues: list[Row], backlog: Sandbox) -> None:
    truth = {row["id"]: row for row in backlog.truth(stream="issues")}
    for row in issues:
        expected = truth[row["id"]]
        assert expected["issue_key"] == row["issueKey"]
        for name in ("summary", "description", "created", "updated"):
            assert expected[name] == row[name]
        for name, field in (("resolution", "resolution"), ("status", "status"), ("assignee", "assignee")):
            inside = row[field] or {"id": None, "name": None}
            assert (expected[f"{name}_id"], expected[f"{name}_name"]) == (inside["id"], inside["name"])
        for name in ("category", "versions", "milestone"):
            assert expected[name] == [item["name"] for item in row[name]]
        assert expected["estimated_hours"] == row["estimatedHours"]
        for wanted, field in zip(expected["custom_fields"], row["customFields"], strict=True):
            assert (wanted["id"], wanted["name"]) == (field["id"], field["name"])
            assert wanted["other_value"] == field.get("otherValue")
            plain = field["value"]
            plain = [item["name"] for item in plain] if isinstance(plain, list) else plain
            plain = plain["name"] if isinstance(plain, dict) else plain
            assert wanted["value"] == (plain[:10] if wanted["field_type_id"] == 4 and plain else plain)


def test_the_truth_can_be_only_counted(backlog: Sandbox) -> None:
    rows = backlog.truth(day=DAYS[0])
    (total,) = backlog.truth(day=DAYS[0], total="true")
    assert (total["rows"], total["ids"]) == (len(rows), sum(ids(rows)))
    assert len(backlog.truth(project="SHOP")) == 309


def test_rows_that_change_between_pages_move_the_others(space: Space, backlog: Sandbox) -> None:
    first, second = space.get("issues", sort="created", order="asc", count=2)
    backlog.change("issues", after={"path": "/issues", "query": {"offset": 0}}, delete=[first["id"]])
    pages = [space.get("issues", sort="created", order="asc", count=1, offset=offset)[0] for offset in (0, 1)]
    assert pages[0] == first
    assert pages[1]["id"] not in (first["id"], second["id"])
    assert space.get("issues", sort="created", order="asc", count=1) == [second]


def test_an_update_between_pages_moves_a_row_to_the_end(space: Space, backlog: Sandbox) -> None:
    query = {"sort": "updated", "order": "asc", "count": 100, "updatedSince": DAYS[0]}
    rows = space.all("issues", **query)
    change = {"id": rows[0]["id"], "summary": "Moved", "updated": "2026-01-07T14:59:59Z"}
    backlog.change("issues", after={"path": "/issues", "query": {"offset": 0}}, update=[change])
    seen = space.all("issues", **query)
    assert ids(seen[:100]) == ids(rows[:100])
    assert rows[100]["id"] not in ids(seen)
    assert [row["summary"] for row in seen if row["id"] == rows[0]["id"]] == [rows[0]["summary"], "Moved"]


def test_pages_of_ids_can_be_asked_for_in_any_chunks(space: Space) -> None:
    some = ids(space.get("issues", count=100))
    parts = [space.get("issues", [("count", 100), *(("id[]", i) for i in some[n : n + 30])]) for n in range(0, 100, 30)]
    assert ids(list(itertools.chain(*parts))) == some
