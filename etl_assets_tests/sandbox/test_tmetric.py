"""TMetric's API as its fact sheet describes it."""

from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from requests.structures import CaseInsensitiveDict

from etl_assets.sandbox.handle import Sandbox
from etl_assets_tests.sandbox.api import (
    ACCOUNT,
    CALLER,
    LAST_SECOND,
    LEFT,
    MIDNIGHT,
    NEW_YORK,
    OVER_MIDNIGHT,
    RUNNING,
    TO_MIDNIGHT,
    ZONES,
    Api,
    utc,
)

EVENING = {"startTime": "2026-01-05T20:00:00", "endTime": "2026-01-05T21:00:00"}
DAY = {"startDate": "2026-01-05", "endDate": "2026-01-05"}


def times(rows: list[dict[str, Any]]) -> list[tuple[str, str | None]]:
    return [(row["startTime"], row["endTime"]) for row in rows]


def test_a_missing_or_unknown_token_is_refused(api: Api) -> None:
    assert api.status("/api/v3/user") == 200
    for header in ({"Authorization": "Bearer nonsense"}, {"Authorization": api.env["TMETRIC_TOKEN"]}):
        response = api.send("GET", "/api/v3/user", headers=header)
        assert response.status_code == 401
    assert api.send("GET", "/api/v3/user", headers={"Authorization": None}).status_code == 401


def test_a_new_token_kills_the_old_one(api: Api, sandbox: Sandbox) -> None:
    token = sandbox.change("token")["token"]
    assert token != api.env["TMETRIC_TOKEN"]
    assert api.status("clients") == 401
    assert api.send("GET", "clients", headers={"Authorization": f"Bearer {token}"}).status_code == 200


def test_a_token_can_be_ended_at_once_even_between_two_requests(api: Api, sandbox: Sandbox) -> None:
    sandbox.change("token", expire=True, after={"path": "/clients"})
    assert [api.status("clients"), api.status("clients")] == [200, 401]


def test_a_token_lives_for_a_year(api: Api, sandbox: Sandbox) -> None:
    sandbox.advance(364 * 86_400)
    assert api.status("clients") == 200
    sandbox.advance(86_400)
    assert api.status("clients") == 401


def test_the_caller_has_two_accounts_and_a_zone_other_than_utc(api: Api) -> None:
    user = api.get("/api/v3/user")
    assert user["id"] == CALLER
    assert user["timeZone"]["winterOffset"] == 540
    assert user["activeAccountId"] == int(api.env["TMETRIC_ACCOUNT_ID"])
    assert [account["id"] for account in user["accounts"]] == [5001, 5000]


@pytest.mark.parametrize("account", [5001, 9999])
def test_another_account_is_closed(api: Api, account: int) -> None:
    assert api.status(f"/api/v3/accounts/{account}/clients") == 403


@pytest.mark.parametrize("user", [{}, {"userId": 0}, {"userId": CALLER}])
def test_no_user_and_user_0_mean_the_caller(api: Api, user: dict[str, int]) -> None:
    assert api.get("timeentries", **DAY, **user) == api.entries(CALLER, last="2026-01-05") != []


def test_dates_are_inclusive_days_of_the_entry_user(api: Api) -> None:
    for user in (LAST_SECOND, NEW_YORK):
        both = api.entries(user, "2026-01-05", "2026-01-06")
        days = {row["startTime"][:10] for row in both}
        assert days == {"2026-01-05", "2026-01-06"}
        parts = api.entries(user, "2026-01-05", "2026-01-05") + api.entries(user, "2026-01-06", "2026-01-06")
        assert parts == both
    assert api.entries(CALLER, "2026-01-06", "2026-01-05") == []


def test_dates_can_be_days_of_the_caller_instead(api: Api, sandbox: Sandbox) -> None:
    sandbox.change("settings", dates="caller")
    starts = [utc(row["startTime"], NEW_YORK) for row in api.entries(NEW_YORK, "2026-01-06", "2026-01-06")]
    assert starts
    assert all("2026-01-05T15:00:00Z" <= start < "2026-01-06T15:00:00Z" for start in starts)
    assert sandbox.change("settings", dates="user")["dates"] == "user"


def test_an_entry_over_midnight_is_found_by_its_start_or_on_both_days(api: Api, sandbox: Sandbox) -> None:
    (night,) = [
        row for row in api.entries(OVER_MIDNIGHT, "2026-01-05", "2026-01-05") if row["startTime"][11:13] == "22"
    ]
    assert night["endTime"] == "2026-01-06T01:15:00"
    assert night not in api.entries(OVER_MIDNIGHT, "2026-01-06", "2026-01-06")
    sandbox.change("settings", match="overlap")
    assert night in api.entries(OVER_MIDNIGHT, "2026-01-05", "2026-01-05")
    assert night in api.entries(OVER_MIDNIGHT, "2026-01-06", "2026-01-06")


@pytest.mark.parametrize(
    "query",
    [
        {"endDate": "2026-01-05"},
        {"startDate": "20260105", "endDate": "2026-01-05"},
        {"startDate": "2026-01-05", "endDate": "2026-02-30"},
        {"startDate": "2026-01-05T00:00:00", "endDate": "2026-01-05"},
        {"StartDate": "2026-01-05", "EndDate": "2026-01-05"},
        {**DAY, "userId": "me"},
    ],
)
def test_parameters_that_make_no_sense_are_refused(api: Api, query: dict[str, str]) -> None:
    assert api.status("timeentries", **query) == 400


def test_without_an_end_date_entries_come_up_to_the_newest(api: Api) -> None:
    assert api.get("timeentries", userId=RUNNING, startDate="2026-01-06") == api.entries(RUNNING, "2026-01-06")


def test_the_widest_dates_give_all_there_is(api: Api) -> None:
    assert api.entries(CALLER, "0001-01-01", "9999-12-31") == api.entries(CALLER)


@pytest.mark.parametrize(("setting", "status"), [({}, 403), ({"forbidden_status": 404}, 404)])
def test_entries_of_a_user_without_rights_are_refused(
    api: Api, sandbox: Sandbox, setting: dict[str, Any], status: int
) -> None:
    (entry, *_) = api.entries(CALLER + 6)
    sandbox.change("settings", forbidden_users=[CALLER + 6], **setting)
    assert api.status("timeentries", userId=CALLER + 6, **DAY) == status
    assert api.status("timeentries/latest", userId=CALLER + 6) == status
    assert api.send("DELETE", f"timeentries/{entry['id']}").status_code == status
    assert api.status("timeentries", userId=CALLER, **DAY) == 200


def test_entries_of_a_user_without_rights_can_be_an_empty_list(api: Api, sandbox: Sandbox) -> None:
    sandbox.change("settings", forbidden_users=[CALLER + 6], forbidden_status=200)
    assert api.entries(CALLER + 6) == []


def test_a_stranger_is_refused(api: Api) -> None:
    assert api.status("timeentries", userId=1, **DAY) == 403


@pytest.mark.parametrize("user", [CALLER, NEW_YORK])
def test_times_are_the_users_wall_clock_without_an_offset(api: Api, sandbox: Sandbox, user: int) -> None:
    truth = {row["id"]: row["start_utc"] for day in range(4, 9) for row in sandbox.truth(day=f"2026-01-0{day}")}
    rows = api.entries(user)
    assert len(rows) > 10
    for row in rows:
        assert len(row["startTime"]) == len("2026-01-05T09:00:00")
        assert utc(row["startTime"], user) == truth[row["id"]]


@pytest.mark.parametrize("user", [CALLER, NEW_YORK])
def test_times_can_end_in_a_decorative_or_a_true_z(api: Api, sandbox: Sandbox, user: int) -> None:
    plain = [row["startTime"] for row in api.entries(user)]
    sandbox.change("settings", z=True)
    assert [row["startTime"] for row in api.entries(user)] == [text + "Z" for text in plain]
    sandbox.change("settings", utc=True)
    assert [row["startTime"] for row in api.entries(user)] == [utc(text, user) for text in plain]


def test_lists_are_whole_and_can_come_in_any_order(api: Api, sandbox: Sandbox) -> None:
    ordered = api.entries(CALLER)
    sandbox.change("settings", shuffle=True)
    shuffled = [api.entries(CALLER) for _ in range(5)]
    assert all(sorted(rows, key=lambda row: row["startTime"]) == ordered for rows in shuffled)
    assert any(rows != ordered for rows in shuffled)


def test_entries_name_their_user_only_if_told_to(api: Api, sandbox: Sandbox) -> None:
    assert not any("user" in row for row in api.entries(MIDNIGHT))
    sandbox.change("settings", user_field=True)
    assert {(row["user"]["id"], row["user"]["name"]) for row in api.entries(MIDNIGHT)} == {(MIDNIGHT, "佐藤 健")}


def test_entries_start_and_end_exactly_at_midnight_and_a_second_before(api: Api) -> None:
    assert times(api.entries(MIDNIGHT))[0] == ("2026-01-05T00:00:00", "2026-01-05T00:45:00")
    assert times(api.entries(LAST_SECOND))[-1] == ("2026-01-07T23:59:59", "2026-01-08T00:30:00")
    assert times(api.entries(TO_MIDNIGHT))[-1] == ("2026-01-07T23:15:00", "2026-01-08T00:00:00")


def test_one_timer_runs_on_the_last_day(api: Api) -> None:
    running = [row for row in api.entries(RUNNING) if row["endTime"] is None]
    assert [row["startTime"][:10] for row in running] == ["2026-01-07"]
    assert api.get("timeentries/latest", userId=RUNNING) == running[0]
    statuses = {row["user"]["id"]: row for row in api.get("timeentries/statuses")}
    assert statuses[RUNNING]["activeTimer"] == running[0]
    assert statuses[RUNNING]["startTime"] == running[0]["startTime"]
    assert statuses[CALLER]["activeTimer"] is None


def test_a_former_member_keeps_old_entries(api: Api) -> None:
    assert [row["isLocked"] for row in api.get("/api/accounts/5000/members") if row["userProfileId"] == LEFT] == [True]
    assert {row["startTime"][:10] for row in api.entries(LEFT)} == {"2026-01-05", "2026-01-06"}


@pytest.mark.parametrize("field", ["task", "project", "note"])
def test_what_an_entry_lacks_is_null_or_absent(api: Api, sandbox: Sandbox, field: str) -> None:
    rows = [row for user in sandbox.truth(stream="members") for row in api.entries(user["id"])]
    assert any(field in row and row[field] is None for row in rows)
    assert any(field not in row for row in rows)
    assert any(row.get(field) for row in rows)


def test_entries_have_every_kind_of_note_tag_and_link(api: Api, sandbox: Sandbox) -> None:
    rows = [row for user in sandbox.truth(stream="members") for row in api.entries(user["id"])]
    notes = "".join(row.get("note") or "" for row in rows)
    assert all(text in notes for text in ("\t", "\n", "\r\n", '"', "\\", "🚀", "週次"))
    assert any(row.get("note") == "" for row in rows)
    assert any(row.get("tags") == [] for row in rows)
    assert any("tags" not in row for row in rows)
    assert max(sum(tag["isWorkType"] for tag in row.get("tags") or []) for row in rows) == 1
    tasks = [row["task"] for row in rows if row.get("task")]
    links = [task["externalLink"] for task in tasks if "externalLink" in task]
    assert 0 < len(links) < len(tasks)
    assert {link["caption"].split("-")[0] for link in links} == {"DEMO", "SHOP", "INFRA"}
    assert all(1 <= int(link["caption"].split("-")[1]) <= 300 for link in links)
    assert {link.get("issueId", link["caption"]) == link["caption"] for link in links} == {True}
    assert len({"issueId" in link for link in links}) == 2


def test_all_ways_to_the_members_agree(api: Api, sandbox: Sandbox) -> None:
    ids = [row["id"] for row in sandbox.truth(stream="members")]
    assert len(ids) == 20
    assert [row["id"] for row in api.get("reports/projects/filter")["users"]] == ids
    assert [row["user"]["id"] for row in api.get("timeentries/statuses")] == ids
    assert [row["user"]["id"] for row in api.get("schedule", StartDate="2026-01-05", EndDate="2026-01-06")] == ids
    assert [row["userProfileId"] for row in api.get("/api/accounts/5000/members")] == ids
    assert [row["userProfileId"] for row in api.get("/api/accounts/5000/scope")["members"]] == ids


def test_statuses_name_zones_in_both_ways(api: Api) -> None:
    zones = {row["user"]["id"]: row["timeZone"] for row in api.get("timeentries/statuses")}
    assert {zone["id"] for zone in zones.values()} == {
        "Asia/Tokyo",
        "Tokyo Standard Time",
        "Eastern Standard Time",
    }
    assert (zones[NEW_YORK]["winterOffset"], zones[NEW_YORK]["summerOffset"]) == (-300, -240)


def test_statuses_can_be_narrowed_to_teams(api: Api) -> None:
    teams = [team["id"] for team in api.get("teams/managed")]
    parts = [len(api.get("timeentries/statuses", teamId=team)) for team in teams]
    assert sum(parts) == 20
    assert len(api.get("timeentries/statuses", teamId=teams[:2])) == parts[0] + parts[1]
    assert len(api.get("timeentries/statuses", teamId=f"{teams[0]},{teams[1]}")) == parts[0] + parts[1]


def test_projects_can_be_unsupported_and_still_be_found_elsewhere(api: Api, sandbox: Sandbox) -> None:
    projects = api.get("projects")
    assert {row["status"] for row in projects} == {"active", "done", "archived"}
    assert [row["projectId"] for row in api.get("/api/accounts/5000/projects")] == [row["id"] for row in projects]
    assert [row["project"] for row in api.get("reports/projects", includeDone="true")] == projects
    trackable = api.get("timeentries/projects", userId=CALLER)
    assert [row["id"] for row in trackable] == [row["id"] for row in projects if row["status"] == "active"]
    sandbox.change("settings", projects=False)
    assert api.status("projects") == 404


def test_tags_and_clients_are_the_same_in_both_versions(api: Api) -> None:
    assert [row["id"] for row in api.get("timeentries/tags")] == [
        row["tagId"] for row in api.get("/api/accounts/5000/tags")
    ]
    assert [row["name"] for row in api.get("clients")] == [
        row["clientName"] for row in api.get("/api/accounts/5000/clients")
    ]


def test_version_2_can_be_switched_off(api: Api, sandbox: Sandbox) -> None:
    sandbox.change("settings", v2=False)
    for path in ("members", "scope", "projects", "clients", "tags"):
        assert api.status(f"/api/accounts/5000/{path}") == 404
    assert api.status("/api/reports/detailed", AccountId=5000, StartDate="2026-01-05", EndDate="2026-01-06") == 404
    assert api.status("clients") == 200


def test_the_scope_holds_all_master_data(api: Api) -> None:
    scope = api.get("/api/accounts/5000/scope")
    for kind in ("members", "projects", "clients", "tags"):
        assert scope[kind] == api.get(f"/api/accounts/5000/{kind}")
    assert scope["account"]["editableDays"] == 35


def test_a_member_may_be_active_elsewhere_and_has_two_numbers(api: Api) -> None:
    members = api.get("/api/accounts/5000/members")
    assert {row["userProfile"]["activeAccountId"] for row in members} == {5000, 5001}
    assert not {row["accountMemberId"] for row in members} & {row["userProfileId"] for row in members}


def test_the_detailed_report_is_one_call_for_the_team_and_excludes_its_end(api: Api, sandbox: Sandbox) -> None:
    query = {"AccountId": 5000, "StartDate": "2026-01-05", "EndDate": "2026-01-06"}
    truth = sandbox.truth(day="2026-01-05")
    sandbox.change("settings", utc=True)
    rows = api.get("/api/reports/detailed", **query)
    assert sorted((row["startTime"], row["user"]) for row in rows) == sorted(
        (row["start_utc"], row["user_name"]) for row in truth
    )
    assert sorted(filter(None, (row["issueId"] for row in rows))) == sorted(
        filter(None, (row["task_external_link_caption"] for row in truth))
    )
    assert api.get("/api/reports/detailed", **query | {"EndDate": "2026-01-05"}) == []
    assert api.status("/api/reports/detailed", **query | {"AccountId": 1}) == 403


@pytest.mark.parametrize("projects", [["81", "82"], ["81,82"]])
def test_the_detailed_report_can_be_narrowed(api: Api, sandbox: Sandbox, projects: list[str]) -> None:
    query = {"AccountId": 5000, "StartDate": "2026-01-05", "EndDate": "2026-01-06"}
    truth = sandbox.truth(day="2026-01-05")
    of_projects = [row for row in truth if row["project_id"] in (81, 82)]
    assert 0 < len(of_projects) < len(truth)
    assert len(api.get("/api/reports/detailed", **query, ProjectList=projects)) == len(of_projects)
    of_client = [row for row in truth if row["project_client_id"] == 21]
    assert len(api.get("/api/reports/detailed", **query, ClientList=21)) == len(of_client)
    tagged = [row for row in truth if "会議" in row["tags"]]
    assert len(api.get("/api/reports/detailed", **query, TagList=42)) == len(tagged)


@pytest.mark.parametrize(("name", "values"), [("userId", ["700", "706"]), ("userId", ["700,706"])])
def test_project_totals_are_the_sums_of_entries(api: Api, sandbox: Sandbox, name: str, values: list[str]) -> None:
    report = api.get("reports/projects", includeDone="true", **DAY, **{name: values})
    sums: dict[int, float] = {}
    for row in sandbox.truth(day="2026-01-05"):
        if row["user_id"] in (700, 706) and row["project_id"]:
            lasts = datetime.fromisoformat(row["end_utc"]) - datetime.fromisoformat(row["start_utc"])
            sums[row["project_id"]] = sums.get(row["project_id"], 0) + lasts.total_seconds()
    assert {row["project"]["id"]: row["totalSeconds"] for row in report if row["totalSeconds"]} == sums != {}


def test_project_reports_leave_out_what_is_done_unless_asked(api: Api) -> None:
    assert {row["project"]["status"] for row in api.get("reports/projects")} == {"active"}
    assert [row["project"]["id"] for row in api.get("reports/projects", projectId=[81, 87])] == [81]
    assert [row["project"]["id"] for row in api.get("reports/projects", clientId=21, includeDone="true")] == [
        81,
        87,
    ]


def test_tasks_are_chosen_by_due_date_and_state(api: Api) -> None:
    tasks = api.get("tasks")
    assert len(tasks) == 960
    due = [row["id"] for row in tasks if row["dueDate"] and "2026-01-10" <= row["dueDate"] <= "2026-01-20"]
    assert [row["id"] for row in api.get("tasks", AfterDate="2026-01-10", BeforeDate="2026-01-20")] == due
    assert api.get("tasks", afterDate="2026-01-10", beforeDate="2026-01-20") == tasks
    done = [row["id"] for row in tasks if row["isCompleted"]]
    assert [row["id"] for row in api.get("tasks", Completed="true")] == done
    assert len(api.get("tasks", Completed="false")) == 960 - len(done)
    assert 0 < len(due) < 960
    assert 0 < len(done) < 960


@pytest.mark.parametrize("projects", [["81", "84"], ["81,84"]])
def test_tasks_are_chosen_by_project_and_people(api: Api, projects: list[str]) -> None:
    assert {row["project"]["id"] for row in api.get("tasks", ProjectList=projects)} == {81, 84}
    assert {row["assignee"] for row in api.get("tasks", Assignee=0)} == {None}
    assert {row["assignee"]["id"] for row in api.get("tasks", Assignee=701)} == {701}
    assert {row["creator"]["id"] for row in api.get("tasks", Creator=702)} == {702}
    assert {row["project"]["client"]["id"] for row in api.get("tasks", ClientList=23)} == {23}


def test_task_times_have_milliseconds_and_no_zone(api: Api) -> None:
    task = api.get("tasks/31001")
    assert task == api.get("tasks")[0]
    for field in ("created", "modified"):
        assert datetime.fromisoformat(task[field]).tzinfo is None
        assert len(task[field].split(".")[1]) == 3
    assert api.status("tasks/1") == 404


def test_the_schedule_ignores_lower_case_dates(api: Api) -> None:
    days = [day["date"] for day in api.get("schedule", StartDate="2026-01-06", EndDate="2026-01-07")[0]["days"]]
    assert days == ["2026-01-06", "2026-01-07"]
    assert len(api.get("schedule", startDate="2026-01-06", endDate="2026-01-06")[0]["days"]) == 3


def test_a_new_entry_is_stored_in_the_zone_of_its_user(api: Api, sandbox: Sandbox) -> None:
    body = {
        "startTime": "2026-01-05T20:00:00",
        "endTime": "2026-01-05T21:00:00",
        "note": "late",
        "project": {"id": 82},
        "tags": [{"id": 41}, {"id": 44}],
        "isBillable": True,
    }
    (made,) = api.send("POST", "timeentries", params={"userId": NEW_YORK}, json=body).json()
    assert made in api.entries(NEW_YORK)
    assert times([made]) == [("2026-01-05T20:00:00", "2026-01-05T21:00:00")]
    (row,) = [row for row in sandbox.truth(day="2026-01-06") if row["id"] == made["id"]]
    assert (row["user_id"], row["start_utc"], row["end_utc"]) == (
        NEW_YORK,
        "2026-01-06T01:00:00Z",
        "2026-01-06T02:00:00Z",
    )
    assert (row["note"], row["project_id"], row["tags"], row["is_billable"]) == (
        "late",
        82,
        ["Development", "urgent"],
        True,
    )


def test_a_new_entry_cuts_what_it_overlaps_and_all_touched_entries_are_answered(api: Api) -> None:
    morning, noon, *rest = api.entries(CALLER, last="2026-01-05")
    start = datetime.fromisoformat(morning["endTime"]) - timedelta(minutes=10)
    end = datetime.fromisoformat(noon["startTime"]) + timedelta(minutes=10)
    body = {"startTime": start.isoformat(), "endTime": end.isoformat()}
    touched = api.send("POST", "timeentries", json=body).json()
    assert [row["id"] for row in touched[1:]] == [morning["id"], noon["id"]]
    day = api.entries(CALLER, last="2026-01-05")
    assert times(day[:3]) == [
        (morning["startTime"], body["startTime"]),
        (body["startTime"], body["endTime"]),
        (body["endTime"], noon["endTime"]),
    ]
    assert day[3:] == rest


def test_a_new_entry_removes_what_it_covers_and_splits_what_covers_it(api: Api) -> None:
    before = api.entries(CALLER, last="2026-01-05")
    body = {"startTime": "2026-01-05T08:00:00", "endTime": "2026-01-05T19:00:00"}
    api.send("POST", "timeentries", json=body)
    (whole,) = api.entries(CALLER, last="2026-01-05")
    assert whole["id"] not in [row["id"] for row in before]
    api.send("POST", "timeentries", json={"startTime": "2026-01-05T10:00:00", "endTime": "2026-01-05T11:00:00"})
    parts = api.entries(CALLER, last="2026-01-05")
    assert times(parts) == [
        ("2026-01-05T08:00:00", "2026-01-05T10:00:00"),
        ("2026-01-05T10:00:00", "2026-01-05T11:00:00"),
        ("2026-01-05T11:00:00", "2026-01-05T19:00:00"),
    ]
    assert len({row["id"] for row in parts}) == 3


def test_a_new_timer_stops_the_one_that_runs(api: Api) -> None:
    old = api.get("timeentries/latest", userId=RUNNING)
    touched = api.send("POST", "timeentries", params={"userId": RUNNING}, json={}).json()
    new = api.get("timeentries/latest", userId=RUNNING)
    assert touched[0] == new
    assert new["endTime"] is None
    assert (touched[1]["id"], touched[1]["endTime"]) == (old["id"], new["startTime"])


def test_a_task_can_be_given_by_id_or_made_from_a_name(api: Api) -> None:
    (linked,) = api.send("POST", "timeentries", json=EVENING | {"task": {"id": 31_012}}).json()
    assert linked["task"]["externalLink"]["caption"] == "DEMO-12"
    assert linked["project"]["id"] == 81
    named = EVENING | {"task": {"name": "Brand new"}, "project": {"id": 84}}
    made = [api.send("POST", "timeentries", json=named).json()[0]["task"] for _ in range(2)]
    assert made[0] == made[1]
    assert api.get(f"tasks/{made[0]['id']}")["name"] == "Brand new"
    assert api.send("POST", "timeentries", json=EVENING | {"task": {"id": 1}}).status_code == 400


def test_an_entry_can_be_replaced_in_part_and_moved_to_another_day(api: Api) -> None:
    first = api.entries(CALLER)[0]
    path = f"timeentries/{first['id']}"
    (changed,) = api.send("PUT", path, json={"note": "edited"}).json()
    assert changed == {**first, "note": "edited"}
    api.send("PUT", path, json={"startTime": "2026-01-08T20:00:00", "endTime": "2026-01-08T21:00:00"})
    assert [row["id"] for row in api.entries(CALLER, "2026-01-08", "2026-01-08")] == [first["id"]]
    assert first["id"] not in [row["id"] for row in api.entries(CALLER)]


@pytest.mark.parametrize(
    "body",
    ['{"startTime": "soon"}', "{", '{"startTime": "2026-01-05T20:00:00", "endTime": "2026-01-05T19:00:00"}'],
)
def test_an_entry_that_makes_no_sense_is_refused(api: Api, body: str) -> None:
    before = api.entries(CALLER)
    assert api.send("POST", "timeentries", data=body).status_code == 400
    assert api.send("PUT", f"timeentries/{before[0]['id']}", data=body).status_code == 400
    assert api.entries(CALLER) == before


def test_a_deleted_entry_leaves_no_trace(api: Api, sandbox: Sandbox) -> None:
    first, *rest = api.entries(CALLER, last="2026-01-05")
    answer = api.send("DELETE", f"timeentries/{first['id']}")
    assert (answer.status_code, answer.content, answer.headers) == (204, b"", CaseInsensitiveDict())
    assert api.entries(CALLER, last="2026-01-05") == rest
    assert first["id"] not in [row["id"] for row in sandbox.truth(day="2026-01-05")]
    assert api.send("DELETE", f"timeentries/{first['id']}").status_code == 404


def test_entries_can_be_changed_from_outside(api: Api, sandbox: Sandbox) -> None:
    late, gone, *_ = api.entries(CALLER, last="2026-01-05")
    new = {
        "user_id": NEW_YORK,
        "start_utc": "2026-01-05T00:00:00Z",
        "end_utc": "2026-01-05T01:00:00Z",
        "task_id": 31_001,
        "note": "新規",
        "tag_ids": [42],
    }
    update = {"id": late["id"], "note": "edited late", "end_utc": None}
    (new_id,) = sandbox.change("entries", insert=[new], update=[update], delete=[gone["id"]])["inserted"]
    (inserted,) = [row for row in api.entries(NEW_YORK, "2026-01-04") if row["id"] == new_id]
    assert times([inserted]) == [("2026-01-04T19:00:00", "2026-01-04T20:00:00")]
    assert (inserted["task"]["id"], inserted["note"], inserted["tags"][0]["name"]) == (31_001, "新規", "会議")
    rows = {row["id"]: row for row in api.entries(CALLER, last="2026-01-05")}
    assert (rows[late["id"]]["note"], rows[late["id"]]["endTime"]) == ("edited late", None)
    assert gone["id"] not in rows
    truth = {row["id"]: row for row in sandbox.truth(day="2026-01-05")}
    assert (truth[new_id]["start_utc"], truth[new_id]["note"]) == ("2026-01-05T00:00:00Z", "新規")
    assert truth[late["id"]]["end_utc"] is None
    assert gone["id"] not in truth


def test_an_entry_can_go_to_another_user(api: Api, sandbox: Sandbox) -> None:
    first = api.entries(CALLER)[0]
    sandbox.change("entries", update=[{"id": first["id"], "user_id": CALLER + 6}])
    assert first["id"] not in [row["id"] for row in api.entries(CALLER)]
    assert first in api.entries(CALLER + 6)


def test_a_renamed_project_and_a_removed_client_show_in_entries(api: Api, sandbox: Sandbox) -> None:
    def projects() -> dict[int, Any]:
        rows = [row for user in range(700, 720) for row in api.entries(user)]
        return {row["project"]["id"]: row["project"] for row in rows if row.get("project")}

    assert projects()[81]["client"]["name"] == "ACME"
    sandbox.change("projects", update=[{"id": 81, "name": "Renamed"}])
    sandbox.change("clients", delete=[21])
    assert projects()[81]["name"] == "Renamed"
    assert "client" not in projects()[81]
    assert 21 not in [row["id"] for row in api.get("clients")]
    assert sandbox.truth(stream="projects")[0]["name"] == "Renamed"


@pytest.mark.parametrize("stream", ["members", "clients", "projects", "tags", "tasks"])
def test_rows_of_every_stream_can_be_added_and_removed(sandbox: Sandbox, stream: str) -> None:
    before = sandbox.truth(stream=stream)
    new = {**before[0], "id": 99_999}
    sandbox.change(stream, insert=[new])
    assert sandbox.truth(stream=stream) == [*before, new]
    sandbox.change(stream, delete=[99_999])
    assert sandbox.truth(stream=stream) == before


@pytest.mark.parametrize("day", ["2026-01-05", "2026-01-06", "2026-01-07"])
@pytest.mark.parametrize("zone", ["Asia/Tokyo", "UTC"])
def test_the_truth_is_what_a_careful_reader_of_the_api_finds(api: Api, sandbox: Sandbox, day: str, zone: str) -> None:
    around = [(date.fromisoformat(day) + timedelta(days=by)).isoformat() for by in (-1, 1)]
    found = set()
    for user in range(700, 720):
        for row in api.entries(user, *around):
            start = utc(row["startTime"], user)
            if datetime.fromisoformat(start).astimezone(ZoneInfo(zone)).date().isoformat() == day:
                end = row["endTime"] and utc(row["endTime"], user)
                found.add((row["id"], user, start, end, row.get("note"), (row.get("task") or {}).get("name")))
    truth = sandbox.truth(day=day, zone=zone)
    assert found == {
        (row["id"], row["user_id"], row["start_utc"], row["end_utc"], row["note"], row["task_name"]) for row in truth
    }
    assert len(truth) > 90
    (total,) = sandbox.truth(day=day, zone=zone, total="true")
    assert (total["rows"], total["ids"]) == (len(truth), sum(row["id"] for row in truth))


def test_the_truth_says_everything_about_an_entry(api: Api, sandbox: Sandbox) -> None:
    truth = {row["id"]: row for row in sandbox.truth(day="2026-01-05")}
    rows = [row for user in range(700, 719) for row in api.entries(user, last="2026-01-05")]
    assert len(rows) > 80
    for row in rows:
        told, task, project = truth[row["id"]], row.get("task") or {}, row.get("project") or {}
        link, client = task.get("externalLink", {}), project.get("client", {})
        assert told["task_id"] == task.get("id")
        assert told["task_external_link_caption"] == link.get("caption")
        assert told["task_external_link_link"] == link.get("link")
        assert told["task_external_link_issue_id"] == link.get("issueId")
        assert [told[f"project_{name}"] for name in ("id", "name", "status")] == [
            project.get(name) for name in ("id", "name", "status")
        ]
        assert told["project_is_billable"] == project.get("isBillable")
        assert [told[f"project_client_{name}"] for name in ("id", "name")] == [
            client.get("id"),
            client.get("name"),
        ]
        assert told["tags"] == [tag["name"] for tag in row.get("tags") or []]
        assert (told["is_billable"], told["is_invoiced"]) == (row["isBillable"], row["isInvoiced"])


def test_an_unknown_path_is_not_found(api: Api) -> None:
    assert api.status("/api/v3/nothing") == 404
    assert api.send("PATCH", f"{ACCOUNT}/clients").status_code == 405


@pytest.mark.parametrize("user", sorted({CALLER, *ZONES}))
def test_the_newest_entry_is_the_one_that_starts_last(api: Api, user: int) -> None:
    assert api.get("timeentries/latest", userId=user) == api.entries(user)[-1]
