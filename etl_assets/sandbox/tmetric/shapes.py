"""How TMetric's rows look in answers: the objects of v3 and v2, and time entries rendered fast.

Pure appearance. What rows exist belongs to `tmetric_data`, who gets which to `tmetric`.
"""

from collections.abc import Callable, Iterable
from functools import lru_cache, partial
from typing import Any

import msgspec

from etl_assets.sandbox.times import iso, wall
from etl_assets.sandbox.tmetric.data import (
    STATUSES,
    TEAMS,
    Client,
    Entry,
    Member,
    Project,
    Tag,
    Task,
    Workspace,
)

ACCOUNT_ID = 5000
SIDE_ACCOUNT_ID = 5001

Row = dict[str, Any]
Stamp = Callable[[int], str]

_HOURLY_RATE = 8_000
# What an entry shows where it has no task, project, note or tags: nulls, or nothing at all.
_NULLS = ('"task":null,', '"project":null,', '"note":null,', '"tags":[],')
_ABSENT = ("", "", "", "")


def stamp(zone: str, *, z: bool, utc: bool) -> Stamp:
    """How instants are written for a user in `zone`: wall clock, the same with a decorative Z, or UTC."""
    if not z:
        return partial(wall, zone)
    return (lambda moment: iso(moment) + "Z") if utc else (lambda moment: wall(zone, moment) + "Z")


class Shapes:
    """The shapes of rows that refer to other rows of the workspace."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self.refresh()

    def refresh(self) -> None:
        """Keep what entries refer to as JSON text, for entries are rendered by the hundred thousand."""
        self._tasks = {t.id: f'"task":{_json(_task_ref(t))},' for t in self._workspace.tasks.values()}
        self._projects = {p.id: f'"project":{_json(self.project(p))},' for p in self._workspace.projects.values()}
        self._tags: dict[tuple[int, ...], str] = {}

    def entries(self, entries: Iterable[Entry], member: Member, stamp: Stamp, *, with_user: bool) -> bytes:
        """Entries of one member as a JSON list."""
        user = f'"user":{_json({"id": member.id, "name": member.name})},' if with_user else ""
        tasks, projects = self._tasks, self._projects
        parts = []
        for e in entries:
            no_task, no_project, no_note, no_tags = _ABSENT if e.sparse else _NULLS
            end = "null" if e.end is None else f'"{stamp(e.end)}"'
            task = tasks.get(e.task_id, no_task) if e.task_id else no_task
            project = projects.get(e.project_id, no_project) if e.project_id else no_project
            note = no_note if e.note is None else _note(e.note)
            tags = self._tag_list(e.tag_ids) if e.tag_ids else no_tags
            parts.append(
                f'{{"id":{e.id},"startTime":"{stamp(e.start)}","endTime":{end},{task}{project}{note}{tags}{user}'
                f'"isBillable":{"true" if e.is_billable else "false"},'
                f'"isInvoiced":{"true" if e.is_invoiced else "false"}}}'
            )
        return f"[{','.join(parts)}]".encode()

    def project(self, project: Project) -> Row:
        """A project with its client, if it has one."""
        row = {
            "id": project.id,
            "name": project.name,
            "iconUrl": _icon("projects", project.id),
            "status": STATUSES[project.status],
            "isBillable": project.is_billable,
            "invoiceMethod": "taskHourlyRate" if project.is_billable else None,
        }
        owner = self._workspace.clients.get(project.client_id or 0)
        return row if owner is None else row | {"client": client(owner)}

    def task(self, task: Task) -> Row:
        """A task with its people and project."""
        project = self._workspace.projects.get(task.project_id or 0)
        creator = self._workspace.members.get(task.creator_id)
        assignee = self._workspace.members.get(task.assignee_id or 0)
        return {
            **_task_ref(task),
            "isCompleted": task.is_completed,
            "creator": creator and {"id": creator.id, "name": creator.name},
            "assignee": assignee and {"id": assignee.id, "name": assignee.name},
            "created": f"{iso(task.created)}.{task.id % 1000:03}",
            "modified": f"{iso(task.modified)}.{task.id % 1000:03}",
            "dueDate": task.due_date,
            "estimatedMinutes": task.estimated_minutes,
            "project": project and self.project(project),
            "tags": [],
        }

    def report(self, project: Project, *, billable: int, other: int) -> Row:
        """A row of the project report over so many billable and other seconds."""
        return {
            "project": self.project(project),
            "totalSeconds": billable + other,
            "billableSeconds": billable,
            "billableAmount": round(billable / 3600 * _HOURLY_RATE, 2) if project.is_billable else None,
            "billableCurrency": "JPY" if project.is_billable else None,
            "costAmount": None,
            "costCurrency": None,
            "budget": {"spent": (billable + other) // 3600, "total": 200, "unit": "hours"},
        }

    def v2_detail(self, entry: Entry, member: Member, stamp: Stamp) -> Row:
        """A row of the detailed report of v2."""
        task = self._workspace.tasks.get(entry.task_id or 0)
        return {
            "startTime": stamp(entry.start),
            "endTime": None if entry.end is None else stamp(entry.end),
            "user": member.name,
            "issueId": task and task.external_link_caption,
        }

    def _tag_list(self, tag_ids: tuple[int, ...]) -> str:
        text = self._tags.get(tag_ids)
        if text is None:
            tags = [self._workspace.tags[tag_id] for tag_id in tag_ids if tag_id in self._workspace.tags]
            rows = [{"id": tag.id, "name": tag.name, "isWorkType": tag.is_work_type} for tag in tags]
            text = self._tags[tag_ids] = f'"tags":{_json(rows)},'
        return text


def caller(member: Member) -> Row:
    """The profile of the caller, with the accounts they belong to."""
    accounts = ((SIDE_ACCOUNT_ID, "Side project", "member"), (ACCOUNT_ID, "Demo works", "owner"))
    return {
        "id": member.id,
        "name": member.name,
        "email": member.email,
        "iconUrl": _icon("users", member.id),
        "activeAccountId": ACCOUNT_ID,
        "dateFormat": "yyyy-MM-dd",
        "timeFormat": "HH:mm",
        "cultureInfo": {"id": "ja-JP", "nativeName": "日本語"},
        "timeZone": time_zone(member),
        "accounts": [
            {
                "id": account_id,
                "name": name,
                "role": role,
                "firstWeekDay": 1,
                "timeTracking": {"allowManualEditing": True, "requireProject": False, "requireTask": False},
                "activity": {"captureScreenshots": False, "inactivityStopMinutes": 10},
            }
            for account_id, name, role in accounts
        ],
    }


def user(member: Member) -> Row:
    """A member as other rows refer to them."""
    return {"id": member.id, "name": member.name, "iconUrl": _icon("users", member.id)}


def time_zone(member: Member) -> Row:
    """A member's zone, by an IANA or a Windows name. Offsets are minutes."""
    winter, summer = (540, 540) if member.zone == "Asia/Tokyo" else (-300, -240)
    return {
        "id": member.zone_id,
        "displayName": f"(UTC{winter // 60:+03}:00) {member.zone.split('/')[-1].replace('_', ' ')}",
        "currentOffset": winter,
        "winterOffset": winter,
        "summerOffset": summer,
    }


def teams() -> list[Row]:
    """All teams."""
    return [{"id": team_id, "name": name, "iconUrl": _icon("teams", team_id)} for team_id, name in TEAMS.items()]


def client(client: Client) -> Row:
    """A client."""
    return {"id": client.id, "name": client.name, "iconUrl": _icon("clients", client.id)}


def tag(tag: Tag) -> Row:
    """A tag or work type."""
    return {
        "id": tag.id,
        "name": tag.name,
        "isWorkType": tag.is_work_type,
        "isWorkTypeBillable": tag.is_work_type,
    }


def v2_member(member: Member) -> Row:
    """A member in v2. The account they work in at the moment may be another one."""
    active = SIDE_ACCOUNT_ID if member.id % 7 == 3 else ACCOUNT_ID
    return {
        "accountId": ACCOUNT_ID,
        "accountMemberId": member.account_member_id,
        "role": member.role,
        "defaultWorkTypeId": None,
        "isLocked": member.is_locked,
        "userProfileId": member.id,
        "userProfile": {"userProfileId": member.id, "activeAccountId": active, "userName": member.name},
        "accountMemberScope": {"groupMembership": [{"id": member.team_id, "name": TEAMS[member.team_id]}]},
    }


def v2_project(project: Project) -> Row:
    """A project in v2."""
    return {
        "projectId": project.id,
        "projectName": project.name,
        "projectCode": project.code,
        "accountId": ACCOUNT_ID,
        "avatar": _icon("projects", project.id),
        "clientId": project.client_id,
        "isBillable": project.is_billable,
        "projectStatus": project.status,
        "budgetSize": None,
        "notes": None,
    }


def v2_client(client: Client) -> Row:
    """A client in v2."""
    return {
        "clientId": client.id,
        "accountId": ACCOUNT_ID,
        "clientName": client.name,
        "avatar": _icon("clients", client.id),
        "defaultBillableRate": None,
        "contactMembers": [],
    }


def v2_tag(tag: Tag) -> Row:
    """A tag or work type in v2."""
    return {
        "tagId": tag.id,
        "accountId": ACCOUNT_ID,
        "tagName": tag.name,
        "isWorkType": tag.is_work_type,
        "defaultBillableRate": None,
        "workTypeProjects": [],
    }


def v2_account() -> Row:
    """The workspace itself in v2."""
    return {"accountId": ACCOUNT_ID, "accountName": "Demo works", "editableDays": 35, "firstWeekDay": 1}


def _task_ref(task: Task) -> Row:
    row: Row = {"id": task.id, "name": task.name}
    if task.external_link_caption is None:
        return row
    link = {"caption": task.external_link_caption, "link": task.external_link_link}
    if task.external_link_issue_id is not None:
        link["issueId"] = task.external_link_issue_id
    return row | {"externalLink": link}


def _icon(kind: str, row_id: int) -> str:
    return f"https://example.com/{kind}/{row_id}.png"


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


@lru_cache(maxsize=4096)
def _note(text: str) -> str:
    return f'"note":{_json(text)},'
