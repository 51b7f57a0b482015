"""Backlog's other lists: space, users, projects, comments, activities, wikis, documents, git."""

import pytest

from etl_assets.sandbox.handle import Sandbox
from etl_assets_tests.sandbox.backlog_api import (
    CALLER,
    DEMO,
    FORMER,
    GUEST,
    INFRA,
    MASTERS,
    NULLS,
    OLD,
    SALES,
    SHOP,
    Row,
    Space,
    ids,
)

pytest_plugins = ("etl_assets_tests.sandbox.backlog_fixtures",)


def test_the_space_names_its_zone(space: Space) -> None:
    assert space.get("space")["timezone"] == "Asia/Tokyo"


def test_users_come_whole_in_both_forms_and_without_former_ones(space: Space, backlog: Sandbox) -> None:
    users = {row["id"]: row for row in space.get("users")}
    assert list(users) == ids(backlog.truth(stream="users"))
    assert len(users) == 19
    assert FORMER not in users
    assert not {"userId", "nulabAccount", "mailAddress", "lastLoginTime"} & users[GUEST].keys()
    assert (users[NULLS]["nulabAccount"], users[NULLS]["mailAddress"], users[NULLS]["lastLoginTime"]) == (None,) * 3
    assert users[CALLER]["nulabAccount"].keys() == {"nulabId", "name", "uniqueId"}
    assert {row["lang"] for row in users.values()} == {"ja", "en", None}
    assert space.get("users/myself") == space.get(f"users/{CALLER}") == users[CALLER]
    assert space.refusal("GET", f"users/{FORMER}") == (404, 6)
    assert space.send("GET", f"users/{CALLER}/icon").headers["Content-Type"] == "image/png"


def test_constants_of_the_space(space: Space) -> None:
    assert ids(space.get("priorities")) == [2, 3, 4]
    assert ids(space.get("resolutions")) == [0, 1, 2, 3, 4]


def test_projects_can_be_archived_hidden_and_all(space: Space) -> None:
    assert ids(space.get("projects")) == [DEMO, SHOP, INFRA, OLD]
    assert ids(space.get("projects", archived="false")) == [DEMO, SHOP, INFRA]
    assert ids(space.get("projects", archived="true")) == [OLD]
    assert ids(space.get("projects", all="true")) == [DEMO, SHOP, INFRA, OLD, SALES]
    assert space.refusal("GET", "projects", {"archived": "1"}) == (400, 7)
    assert space.get("projects/DEMO") == space.get(f"projects/{DEMO}") == space.get("projects")[0]


@pytest.mark.parametrize("path", ["", *(f"/{name}" for name in MASTERS), "/users", "/activities", "/git/repositories"])
def test_what_is_in_an_unknown_or_hidden_project_is_not_found(space: Space, path: str) -> None:
    for project in ("SALES", SALES, "NONE", 1):
        assert space.refusal("GET", f"projects/{project}{path}") == (404, 6)
    assert space.status(f"projects/DEMO{path}") == 200


@pytest.mark.parametrize(
    ("path", "stream"),
    [
        ("statuses", "statuses"),
        ("issueTypes", "issue_types"),
        ("categories", "categories"),
        ("versions", "versions"),
        ("customFields", "custom_fields"),
    ],
)
def test_master_data_are_whole_lists_per_project(space: Space, backlog: Sandbox, path: str, stream: str) -> None:
    truth = backlog.truth(stream=stream)
    for key, project_id in (("DEMO", DEMO), ("SHOP", SHOP), ("INFRA", INFRA), ("OLD", OLD)):
        rows = space.get(f"projects/{key}/{path}")
        assert ids(rows) == [row["id"] for row in truth if row["project_id"] == project_id]
        assert {row["projectId"] for row in rows} <= {project_id}
        if path != "customFields":
            assert [row["displayOrder"] for row in rows] == sorted({row["displayOrder"] for row in rows})


def test_statuses_beyond_four_differ_by_project(space: Space) -> None:
    own = {key: set(ids(space.get(f"projects/{key}/statuses"))) - {1, 2, 3, 4} for key in ("DEMO", "SHOP")}
    assert own["DEMO"]
    assert own["DEMO"].isdisjoint(own["SHOP"])


def test_custom_fields_are_defined_by_their_kind(space: Space) -> None:
    fields = {row["typeId"]: row for row in space.get("projects/DEMO/customFields")}
    assert fields.keys() == set(range(1, 9))
    assert {"min", "max", "initialValue", "unit"} <= fields[3].keys()
    assert fields[4]["initialDate"]["date"] == "2026-01-31T00:00:00Z"
    for kind in (5, 6, 7, 8):
        assert fields[kind]["items"][0].keys() == {"id", "name", "displayOrder"}
        assert fields[kind].get("allowInput", False) == (kind > 6)


def test_members_of_a_project_are_users(space: Space) -> None:
    assert ids(space.get("projects/OLD/users")) == [1001, 1002, 1003, 1004, 1005]
    assert space.get("projects/DEMO/users") == space.get("users")


@pytest.fixture
def talkative(space: Space, backlog: Sandbox) -> str:
    """An issue with 5 comments."""
    rows = backlog.truth(stream="comments", project="DEMO")
    counts = {row["issue_id"]: sum(other["issue_id"] == row["issue_id"] for other in rows) for row in rows}
    return next(f"issues/{issue_id}/comments" for issue_id, count in counts.items() if count == 5)


def test_comments_page_by_exclusive_ids(space: Space, talkative: str) -> None:
    newest = ids(space.get(talkative))
    assert newest == sorted(newest, reverse=True)
    assert len(newest) == 5
    assert ids(space.get(talkative, order="asc")) == newest[::-1]
    assert ids(space.get(talkative, maxId=newest[1], count=2)) == newest[2:4]
    assert ids(space.get(talkative, minId=newest[-1], order="asc", count=2)) == newest[-2:-4:-1]
    assert ids(space.get(talkative, minId=newest[3], maxId=newest[1])) == [newest[2]]
    assert space.get(talkative, maxId=newest[-1]) == []
    assert space.get(f"{talkative}/count") == {"count": 5}


def test_bounds_of_ids_can_be_inclusive(space: Space, backlog: Sandbox, talkative: str) -> None:
    backlog.change("settings", bounds="inclusive")
    newest = ids(space.get(talkative))
    assert ids(space.get(talkative, maxId=newest[1], count=2)) == newest[1:3]
    assert ids(space.get(talkative, minId=newest[3], maxId=newest[3])) == [newest[3]]
    told = ids(space.get("space/activities", count=3))
    assert ids(space.get("space/activities", maxId=told[1], count=2)) == told[1:]


@pytest.mark.parametrize("path", ["issues/DEMO-1/comments", "space/activities", "projects/DEMO/activities"])
@pytest.mark.parametrize("query", [{"count": 0}, {"count": 101}, {"minId": "x"}, {"order": "newest"}])
def test_pages_by_id_that_make_no_sense_are_refused(space: Space, path: str, query: Row) -> None:
    assert space.refusal("GET", path, query) == (400, 7)


def test_comments_of_every_kind(space: Space, backlog: Sandbox) -> None:
    issues = sorted({row["issue_id"] for row in backlog.truth(stream="comments", day="2026-01-05", project="DEMO")})
    rows = [row for issue in issues for row in space.get(f"issues/{issue}/comments")]
    kinds = {(row["content"], bool(row["changeLog"])) for row in rows}
    assert {(None, True), ("", True)} <= kinds
    assert any(content and not changed for content, changed in kinds)
    assert any(content and changed for content, changed in kinds)
    assert all(row["content"] or row["changeLog"] for row in rows)
    logs = [change for row in rows for change in row["changeLog"]]
    assert all(
        log.keys() == {"field", "newValue", "originalValue", "attachmentInfo", "attributeInfo", "notificationInfo"}
        for log in logs
    )
    assert {"status", "notification"} <= {log["field"] for log in logs}
    assert {"type": "issue.create"} in [log["notificationInfo"] for log in logs]
    assert any(row["notifications"] for row in rows)


def test_the_truth_of_comments_is_what_the_issues_give(space: Space, backlog: Sandbox) -> None:
    truth = backlog.truth(stream="comments", project="INFRA")
    issues = sorted({row["issue_id"] for row in truth})[:40]
    rows = [row for issue in issues for row in space.get(f"issues/{issue}/comments", order="asc")]
    assert [[row["id"], row["issueId"], row["content"], row["createdUser"]["id"], row["created"]] for row in rows] == [
        [row[name] for name in ("id", "issue_id", "content", "created_user_id", "created")]
        for row in truth
        if row["issue_id"] in issues
    ]


def test_comments_of_an_unknown_issue_are_not_found(space: Space) -> None:
    assert space.refusal("GET", "issues/SALES-1/comments") == (404, 6)
    assert space.refusal("GET", "issues/DEMO-1/comments/1") == (404, 6)


def test_activities_page_by_id_through_all_that_happened(space: Space, backlog: Sandbox) -> None:
    truth = backlog.truth(stream="activities")
    rows = space.every_activity()
    assert ids(rows) == ids(truth)
    assert [row["created"] for row in rows] == sorted(row["created"] for row in rows)
    back: list[Row] = space.get("space/activities", count=100)
    while len(page := space.get("space/activities", count=100, maxId=back[-1]["id"])) == 100:
        back += page
    assert ids(back + page) == ids(rows)[::-1]
    assert SALES not in {row["project"]["id"] for row in rows}
    assert {row["type"] for row in rows} >= {1, 2, 3, 4, 5, 6, 12, 13, 14, 18, 19, 21, 36, 99}
    assert all(row["notifications"] == [] for row in rows)


def test_activities_of_one_project_and_of_some_types(space: Space) -> None:
    rows = space.every_activity()
    for project in ("DEMO", "OLD"):
        of_project = space.every_activity(f"projects/{project}/activities")
        assert of_project == [row for row in rows if row["project"]["projectKey"] == project] != []
    some = space.get("space/activities", [("activityTypeId[]", 4), ("activityTypeId[]", 99), ("count", 100)])
    assert some == [row for row in reversed(rows) if row["type"] in (4, 99)]
    assert {row["type"] for row in some} == {4, 99}
    assert space.get(f"activities/{rows[7]['id']}") == rows[7]
    assert space.refusal("GET", "activities/1") == (404, 6)


def test_deleted_issues_are_activities_and_nothing_else(space: Space, backlog: Sandbox) -> None:
    deleted = space.get("space/activities", [("activityTypeId[]", 4), ("count", 100)])
    gone = sorted(row["content"]["id"] for row in deleted)
    assert gone == ids(backlog.truth(stream="deleted"))
    assert len(gone) == 9
    assert all(row["content"].keys() == {"id", "key_id"} for row in deleted)
    assert space.get("issues", [("id[]", issue_id) for issue_id in gone]) == []
    for row in deleted:
        assert space.status(f"issues/{row['project']['projectKey']}-{row['content']['key_id']}") == 404


def test_wikis_are_a_whole_list_without_content(space: Space, backlog: Sandbox) -> None:
    rows = space.get("wikis", projectIdOrKey="DEMO")
    assert ids(rows) == [row["id"] for row in backlog.truth(stream="wikis") if row["project_id"] == DEMO]
    assert space.get("wikis/count", projectIdOrKey=DEMO) == {"count": len(rows)} == {"count": 4}
    assert not any("content" in row for row in rows)
    whole = [space.get(f"wikis/{row['id']}") for row in rows]
    assert {row["content"] for row in whole} == {
        row["content"] for row in backlog.truth(stream="wikis") if row["project_id"] == DEMO
    }
    assert whole[0].keys() - rows[0].keys() == {"content", "attachments", "sharedFiles", "stars"}
    assert len(space.get("wikis", projectIdOrKey="DEMO", keyword="faq")) == 1
    assert space.refusal("GET", "wikis") == space.refusal("GET", "wikis/count") == (400, 7)
    assert space.refusal("GET", "wikis", {"projectIdOrKey": "SALES"}) == (404, 6)
    assert space.refusal("GET", "wikis/1") == space.refusal("GET", f"wikis/{SALES * 600}") == (404, 6)


def test_documents_need_an_offset_and_have_text_ids(space: Space, backlog: Sandbox) -> None:
    assert space.refusal("GET", "documents") == (400, 7)
    assert space.refusal("GET", "documents", {"offset": 0, "sort": "title"}) == (400, 7)
    assert len(space.get("documents", offset=0)) == 20
    rows = space.all("documents")
    assert {row["id"] for row in rows} == {row["code"] for row in backlog.truth(stream="documents")}
    assert len(rows) == 27
    assert rows == sorted(rows, key=lambda row: row["created"])
    assert all(isinstance(row["id"], str) and isinstance(row["json"], str) for row in rows)
    updated = space.all("documents", sort="updated", **{"projectId[]": DEMO})
    assert [row["updated"] for row in updated] == sorted(row["updated"] for row in updated)
    assert space.get("documents/count", projectIdOrKey="DEMO") == {"count": len(updated)} == {"count": 9}
    assert space.get(f"documents/{rows[0]['id']}") == rows[0]
    assert space.refusal("GET", "documents/abc") == (404, 6)
    assert space.refusal("GET", "documents/count") == (400, 7)


def test_repositories_have_pull_requests_by_number(space: Space, backlog: Sandbox) -> None:
    repositories = space.get("projects/INFRA/git/repositories")
    assert [row["name"] for row in repositories] == ["infra", "terraform"]
    assert [row["pushedAt"] is None for row in repositories] == [False, True]
    path = "projects/INFRA/git/repositories/infra"
    assert space.get(path) == space.get(f"projects/{INFRA}/git/repositories/{repositories[0]['id']}") == repositories[0]
    rows = space.get(f"{path}/pullRequests", count=100, order="asc", sort="updated")
    assert [row["number"] for row in rows] == list(range(25, 0, -1))
    assert rows == space.get(f"{path}/pullRequests") + space.get(f"{path}/pullRequests", offset=20)
    assert space.get(f"{path}/pullRequests/count") == {"count": 25}
    assert space.get(f"{path}/pullRequests/7") == rows[18]
    assert {row["status"]["name"] for row in rows} == {"Open", "Closed", "Merged"}
    assert all((row["mergeAt"] is None) == (row["status"]["id"] != 3) for row in rows)
    issues = [row["issue"] for row in rows if row["issue"]]
    assert 0 < len(issues) < 25
    assert issues[0] == space.get(f"issues/{issues[0]['id']}")
    opened = space.get(f"{path}/pullRequests", [("statusId[]", 1), ("count", 100)])
    assert opened == [row for row in rows if row["status"]["id"] == 1]
    assert space.get(f"{path}/pullRequests/count", [("statusId[]", 1)]) == {"count": len(opened)}
    assert len(backlog.truth(stream="pull_requests")) == 100
    for missing in (f"{path}/pullRequests/99", "projects/DEMO/git/repositories/infra"):
        assert space.refusal("GET", missing) == (404, 6)
