"""Writes to Backlog, by its API and by control actions, and what they leave behind."""

from typing import Any

import pytest

from etl_assets.sandbox.handle import Sandbox
from etl_assets_tests.sandbox.backlog_api import CALLER, DAYS, DEMO, SALES, SHOP, Row, Space, ids

pytest_plugins = ("etl_assets_tests.sandbox.backlog_fixtures",)

NOON = "2026-01-06T03:00:00Z"
LATER = "2026-01-07T03:00:00Z"


def form(space: Space, **changes: Any) -> Row:
    """What a new issue needs."""
    kind = space.get("projects/DEMO/issueTypes")[0]["id"]
    return {"projectId": DEMO, "summary": "新しい課題", "issueTypeId": kind, "priorityId": 3, **changes}


def create(space: Space, **changes: Any) -> Row:
    response = space.send("POST", "issues", data=form(space, **changes))
    assert response.status_code == 201, response.text
    row: Row = response.json()
    return row


def patch(space: Space, key: str, **form: Any) -> Row:
    response = space.send("PATCH", f"issues/{key}", data=form)
    assert response.status_code == 200, response.text
    row: Row = response.json()
    return row


def newest(space: Space, count: int = 1) -> list[Row]:
    rows: list[Row] = space.get("space/activities", count=count)
    return rows


def test_a_new_issue_is_found_at_once_and_told(space: Space) -> None:
    before = space.get("issues/count")["count"]
    row = create(space, description="", dueDate="2026-02-01", estimatedHours="1.5", assigneeId=CALLER)
    assert space.get(f"issues/{row['issueKey']}") == row
    assert (row["status"]["id"], row["resolution"], row["assignee"]["id"]) == (1, None, CALLER)
    assert (row["dueDate"], row["startDate"], row["estimatedHours"]) == ("2026-02-01T00:00:00Z", None, 1.5)
    assert row["created"] == row["updated"]
    assert (row["createdUser"]["id"], row["updatedUser"]["id"]) == (CALLER, CALLER)
    assert space.get("issues/count")["count"] == before + 1
    assert space.get("issues", count=1) == [row]
    (told,) = newest(space)
    assert (told["type"], told["content"]) == (
        1,
        {"id": row["id"], "key_id": row["keyId"], "summary": row["summary"], "description": ""},
    )


def test_a_new_issue_gets_the_next_number_of_its_project(space: Space) -> None:
    last = max(row["keyId"] for row in space.all("issues", projectId=DEMO))
    assert [create(space)["issueKey"] for _ in range(2)] == [f"DEMO-{last + 1}", f"DEMO-{last + 2}"]


@pytest.mark.parametrize(
    "change",
    [
        {"projectId": ""},
        {"projectId": SALES},
        {"summary": ""},
        {"issueTypeId": 1},
        {"priorityId": 1},
        {"dueDate": "2026/02/01"},
        {"estimatedHours": "long"},
        {"assigneeId": 5},
        {"categoryId[]": 5},
        {"parentIssueId": 1},
        {"attachmentId[]": 1},
        {"customField_5": 1},
        {"customField_914[]": 1},
        {"customField_916": 9},
    ],
)
def test_a_new_issue_that_makes_no_sense_is_refused(space: Space, change: Row) -> None:
    assert space.refusal("POST", "issues", data=form(space, **change)) == (400, 7)


def test_only_forms_are_read(space: Space) -> None:
    assert space.refusal("POST", "issues", json=form(space)) == (400, 7)
    assert space.refusal("PATCH", "issues/DEMO-1", json={"summary": "x"}) == (400, 7)
    assert space.refusal("POST", "issues/DEMO-1/comments", json={"content": "x"}) == (400, 7)
    assert space.refusal("POST", "issues", data="summary=x", headers={"Content-Type": "text/plain"}) == (400, 7)


def test_a_change_is_seen_in_the_issue_its_comments_and_the_activities(space: Space) -> None:
    row = create(space)
    new = patch(space, row["issueKey"], statusId=4, resolutionId=0, assigneeId=CALLER + 1, comment="終わり")
    assert (new["status"]["id"], new["resolution"]["id"], new["assignee"]["id"]) == (4, 0, CALLER + 1)
    assert new["updated"] >= row["updated"]
    (comment,) = space.get(f"issues/{row['id']}/comments")
    assert comment["content"] == "終わり"
    assert {change["field"]: (change["originalValue"], change["newValue"]) for change in comment["changeLog"]} == {
        "status": ("未対応", "完了"),
        "resolution": (None, "対応済み"),
        "assigner": (None, "佐藤 健"),
    }
    (told,) = newest(space)
    assert (told["type"], told["content"]["comment"]) == (2, {"id": comment["id"], "content": "終わり"})
    assert {change["field"] for change in told["content"]["changes"]} == {"status", "resolution", "assigner"}


def test_empty_values_clear_what_can_be_empty(space: Space) -> None:
    categories = ids(space.get("projects/DEMO/categories"))
    row = create(space, **{"dueDate": "2026-02-01", "assigneeId": CALLER, "categoryId[]": categories[:2]})
    assert ids(row["category"]) == categories[:2]
    new = patch(space, row["issueKey"], **{"dueDate": "", "assigneeId": "", "categoryId[]": ""})
    assert (new["dueDate"], new["assignee"], new["category"]) == (None, None, [])


def test_custom_fields_are_written_by_index(space: Space) -> None:
    fields = {field["typeId"]: f"customField_{field['id']}" for field in space.get("projects/DEMO/customFields")}
    given = {
        fields[1]: "型番9",
        fields[3]: "2.5",
        fields[4]: "2026-03-01",
        fields[5]: 2,
        f"{fields[6]}[0]": 1,
        f"{fields[6]}[1]": 3,
        f"{fields[7]}[0]": 2,
        f"{fields[7]}_otherValue": "他",
    }
    values = {field["fieldTypeId"]: field for field in create(space, **given)["customFields"]}
    assert (values[1]["value"], values[3]["value"], values[4]["value"]) == ("型番9", 2.5, "2026-03-01T00:00:00Z")
    assert (values[5]["value"]["id"], ids(values[6]["value"])) == (2, [1, 3])
    assert (ids(values[7]["value"]), values[7]["otherValue"]) == ([2], "他")


def test_a_change_of_nothing_is_refused(space: Space) -> None:
    row = create(space)
    for nothing in ({}, {"summary": row["summary"]}):
        assert space.refusal("PATCH", f"issues/{row['id']}", data=nothing) == (400, 7)


def test_a_deleted_issue_lives_on_in_the_activities_alone(space: Space, backlog: Sandbox) -> None:
    row = space.get("issues/SHOP-7")
    assert space.send("DELETE", "issues/SHOP-7").json() == row
    assert space.refusal("GET", "issues/SHOP-7") == (404, 6)
    assert space.refusal("DELETE", f"issues/{row['id']}") == (404, 6)
    assert space.get("issues", [("id[]", row["id"])]) == []
    (told,) = newest(space)
    assert (told["type"], told["content"]) == (4, {"id": row["id"], "key_id": 7})
    assert row["id"] in ids(backlog.truth(stream="deleted"))
    assert row["id"] not in ids(backlog.truth(stream="issues"))


def test_a_comment_is_written_changed_and_deleted(space: Space) -> None:
    before = space.get("issues/DEMO-1")
    response = space.send("POST", "issues/DEMO-1/comments", data={"content": "一言", "notifiedUserId[]": CALLER + 1})
    comment = response.json()
    assert response.status_code == 201
    assert [row["user"]["id"] for row in comment["notifications"]] == [CALLER + 1]
    assert space.get("issues/DEMO-1/comments", count=1) == [comment]
    after = space.get("issues/DEMO-1")
    assert after["updated"] == comment["created"] > before["updated"]
    assert newest(space)[0]["type"] == 3
    path = f"issues/DEMO-1/comments/{comment['id']}"
    assert space.send("PATCH", path, data={"content": "二言"}).json()["content"] == "二言"
    assert space.get(path)["content"] == "二言"
    assert space.send("DELETE", path).json()["id"] == comment["id"]
    assert space.refusal("GET", path) == (404, 6)
    assert space.refusal("POST", "issues/DEMO-1/comments", data={"content": ""}) == (400, 7)


def test_whether_a_comment_updates_its_issue_is_a_setting(space: Space, backlog: Sandbox) -> None:
    backlog.change("settings", comments_update=False)
    before = space.get("issues/DEMO-1")
    assert space.send("POST", "issues/DEMO-1/comments", data={"content": "x"}).status_code == 201
    assert space.get("issues/DEMO-1") == before


def test_control_inserts_updates_and_deletes_leave_the_same_traces(space: Space, backlog: Sandbox) -> None:
    made = backlog.change("issues", insert=[{"project_id": SHOP, "summary": "置物", "updated": NOON}])
    (row,) = space.get("issues", [("id[]", made["inserted"][0])])
    assert [row["issueKey"]] == made["keys"]
    assert (row["summary"], row["created"], row["updated"]) == ("置物", NOON, NOON)
    backlog.change("issues", update=[{"id": row["id"], "status_id": 2, "updated": LATER, "updater_id": CALLER + 1}])
    (comment,) = space.get(f"issues/{row['id']}/comments")
    assert (comment["content"], comment["created"]) == (None, LATER)
    assert comment["changeLog"][0]["newValue"] == "処理中"
    assert row["id"] in ids(backlog.truth(day=DAYS[2]))
    assert row["id"] not in ids(backlog.truth(day=DAYS[1]))
    backlog.change("issues", delete=[row["id"]])
    told = newest(space, count=3)
    assert [(activity["type"], activity["content"]["id"]) for activity in told] == [
        (kind, row["id"]) for kind in (4, 2, 1)
    ]
    assert [row["created"] for row in told] == sorted((row["created"] for row in told), reverse=True)


def test_a_control_change_of_nothing_but_the_time_leaves_no_comment(space: Space, backlog: Sandbox) -> None:
    row = space.get("issues/DEMO-1")
    comments = space.get("issues/DEMO-1/comments")
    backlog.change("issues", update=[{"id": row["id"], "updated": LATER}])
    assert space.get("issues/DEMO-1") == row | {"updated": LATER}
    assert space.get("issues/DEMO-1/comments") == comments


def test_a_moved_issue_keeps_its_id_and_changes_its_key(space: Space, backlog: Sandbox) -> None:
    row = space.get("issues/DEMO-2")
    comments = space.get("issues/DEMO-2/comments", count=100)
    keys = backlog.change("issues", move=[{"id": row["id"], "project": "SHOP", "updated": LATER}])["keys"]
    moved = space.get(f"issues/{row['id']}")
    assert [moved["issueKey"]] == keys == [f"SHOP-{moved['keyId']}"]
    assert (moved["projectId"], moved["summary"], moved["updated"]) == (SHOP, row["summary"], LATER)
    assert moved["issueType"]["projectId"] == moved["status"]["projectId"] == SHOP
    assert space.get(f"issues/{moved['issueKey']}") == moved
    assert space.refusal("GET", "issues/DEMO-2") == (404, 6)
    assert space.get("issues", [("id[]", row["id"]), ("projectId[]", DEMO)]) == []
    after = space.get(f"issues/{row['id']}/comments", count=100)
    assert ids(after)[1:] == ids(comments)
    assert {comment["projectId"] for comment in after} == {SHOP}
    (truth,) = [issue for issue in backlog.truth(stream="issues") if issue["id"] == row["id"]]
    assert truth["issue_key"] == moved["issueKey"]


def test_a_project_can_get_another_key(space: Space, backlog: Sandbox) -> None:
    row = space.get("issues/DEMO-3")
    backlog.change("projects", update=[{"id": DEMO, "key": "DEMO2"}])
    assert space.get("issues/DEMO2-3") == row | {"issueKey": "DEMO2-3", "stars": space.get("issues/DEMO2-3")["stars"]}
    assert space.refusal("GET", "issues/DEMO-3") == (404, 6)


def test_control_changes_of_comments(space: Space, backlog: Sandbox) -> None:
    row = space.get("issues/DEMO-1")
    payload = {"issue_id": row["id"], "content": "x", "created": "2026-01-08T00:00:00Z"}
    (comment_id,) = backlog.change("comments", insert=[payload])["inserted"]
    assert space.get("issues/DEMO-1")["updated"] == "2026-01-08T00:00:00Z"
    backlog.change("comments", update=[{"id": comment_id, "content": "y"}])
    assert space.get(f"issues/DEMO-1/comments/{comment_id}")["content"] == "y"
    truth = [comment for comment in backlog.truth(stream="comments") if comment["id"] == comment_id]
    assert [comment["content"] for comment in truth] == ["y"]
    backlog.change("comments", delete=[comment_id], after={"path": "/comments/count"})
    counts = [space.get("issues/DEMO-1/comments/count")["count"] for _ in range(2)]
    assert counts[0] - counts[1] == 1


def test_master_data_can_change(space: Space, backlog: Sandbox) -> None:
    row = next(row for row in space.all("issues", projectId=DEMO) if row["category"])
    category = row["category"][0]["id"]
    backlog.change("categories", update=[{"id": category, "name": "改名"}])
    assert space.get(f"issues/{row['id']}")["category"][0]["name"] == "改名"
    backlog.change("categories", delete=[category])
    assert category not in ids(space.get(f"issues/{row['id']}")["category"])
    backlog.change("users", update=[{"id": CALLER, "name": "New Name"}])
    assert space.get("users/myself")["name"] == "New Name"
