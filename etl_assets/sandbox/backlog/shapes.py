"""How Backlog's rows look in answers. Pure appearance: what rows exist and who gets which belongs elsewhere.

Issues are put together from pieces of JSON that are kept, for they are rendered by the hundred thousand;
everything else is plain objects.
"""

from collections.abc import Iterable
from datetime import date, timedelta
from functools import lru_cache
from typing import Any, Literal

import msgspec

from etl_assets.sandbox.backlog.activities import Activity
from etl_assets.sandbox.backlog.base import Comment, FieldChange, Issue, attachment_name
from etl_assets.sandbox.backlog.data import Tracker
from etl_assets.sandbox.backlog.docs import PULL_STATUSES, Document, PullRequest, Repository, Wiki, Written
from etl_assets.sandbox.backlog.space import (
    CALLER_ID,
    CHECKBOX,
    CLOSED,
    DATE,
    FIRST_PROJECT_ID,
    NUMBER,
    ONE_ITEM,
    PRIORITIES,
    RADIO,
    RESOLUTIONS,
    ZONE,
    Category,
    CustomField,
    IssueType,
    Person,
    Project,
    Status,
    Value,
    Version,
)
from etl_assets.sandbox.times import iso

Row = dict[str, Any]
Dates = Literal["00Z", "15Z"]
Users = Literal["full", "short"]

_WITHOUT_LINKS = FIRST_PROJECT_ID + 1  # the project whose issues lack externalFileLinks
_COMMIT = "0123456789abcdef0123456789abcdef0123"


class Shapes:
    """The shapes of rows. `dates` is the hour of dates without time; `users` how users look inside other rows."""

    def __init__(self, tracker: Tracker) -> None:
        self._tracker = tracker
        self._space = tracker.space
        self.dates: Dates = "00Z"
        self.users: Users = "full"
        self.refresh()

    def refresh(self) -> None:
        """Forget pieces that a change of master data or of a setting made stale."""
        self._users = {user_id: _json(self._nested(user_id)) for user_id in self._space.users}
        self._types = {row.id: _json(issue_type(row)) for row in self._space.issue_types.values()}
        self._statuses = {
            (project_id, row.id): _json(status)
            for project_id, rows in self._space.statuses.items()
            for row, status in zip(rows.values(), statuses(rows.values()), strict=True)
        }
        self._priorities = {row_id: _json({"id": row_id, "name": name}) for row_id, name in PRIORITIES.items()}
        self._resolutions = {row_id: _json({"id": row_id, "name": name}) for row_id, name in RESOLUTIONS.items()}
        self._category_lists: dict[tuple[int, ...], str] = {(): "[]"}
        self._version_lists: dict[tuple[int, ...], str] = {(): "[]"}
        self._value_lists: dict[tuple[Value, ...], str] = {(): "[]"}

    def issues(self, issues: Iterable[Issue], *, with_children: bool = False) -> bytes:
        """Issues as a JSON list."""
        return f"[{','.join(self.issue(issue, with_children=with_children) for issue in issues)}]".encode()

    def issue(self, i: Issue, *, with_children: bool = False) -> str:
        """An issue as JSON."""
        users = self._users
        key = self._tracker.key(i)
        assignee = "null" if i.assignee_id is None else users.get(i.assignee_id, "null")
        resolution = "null" if i.resolution_id is None else self._resolutions[i.resolution_id]
        links = "" if i.project_id == _WITHOUT_LINKS else '"externalFileLinks":[],'
        children = f',"childIssueSummary":{_json(self._children(i))}' if with_children else ""
        return (
            f'{{"id":{i.id},"projectId":{i.project_id},"issueKey":"{key}","keyId":{i.number},'
            f'"issueType":{self._types[i.type_id]},"summary":{_json(i.summary)},'
            f'"description":{_json(i.description)},"resolution":{resolution},'
            f'"priority":{self._priorities[i.priority_id]},"status":{self._statuses[i.project_id, i.status_id]},'
            f'"assignee":{assignee},"category":{self._categories(i.category_ids)},'
            f'"versions":{self._versions(i.version_ids)},"milestone":{self._versions(i.milestone_ids)},'
            f'"startDate":{self._date(i.start_date)},"dueDate":{self._date(i.due_date)},'
            f'"estimatedHours":{_json(i.estimated_hours)},"actualHours":{_json(i.actual_hours)},'
            f'"parentIssueId":{"null" if i.parent_id is None else i.parent_id},'
            f'"createdUser":{users.get(i.creator_id, "null")},"created":"{iso(i.created)}Z",'
            f'"updatedUser":{users.get(i.updater_id or 0, "null")},"updated":"{iso(i.updated)}Z",'
            f'"customFields":{self._values(i.values)},"attachments":{self._attachments(i)},'
            f'"sharedFiles":{self._shared_files(i)},{links}"stars":{self._stars(i, key)}{children}}}'
        )

    def comment(self, comment: Comment, issue: Issue) -> Row:
        """A comment with its change log."""
        return {
            "id": comment.id,
            "projectId": issue.project_id,
            "issueId": issue.id,
            "content": comment.content,
            "changeLog": [_change(change) for change in comment.changes],
            "createdUser": self._nested(comment.author_id),
            "created": instant(comment.created),
            "updated": instant(comment.updated),
            "stars": [],
            "notifications": [
                {
                    "id": comment.id * 2 + i,
                    "alreadyRead": False,
                    "reason": 2,
                    "user": self._nested(user_id),
                    "resourceAlreadyRead": False,
                }
                for i, user_id in enumerate(comment.notified_ids)
            ],
        }

    def activity(self, activity: Activity) -> Row:
        """An activity; the list of notifications has been empty since 2022."""
        return {
            "id": activity.id,
            "project": project(self._space.projects[activity.project_id]),
            "type": activity.type,
            "content": activity.content,
            "notifications": [],
            "createdUser": self._nested(activity.author_id),
            "created": instant(activity.created),
        }

    def version(self, row: Version) -> Row:
        """A version or milestone."""
        return {
            "id": row.id,
            "projectId": row.project_id,
            "name": row.name,
            "description": row.description,
            "startDate": self.date(row.start_date),
            "releaseDueDate": self.date(row.release_due_date),
            "archived": row.archived,
            "displayOrder": row.id % 500,
        }

    def custom_field(self, row: CustomField) -> Row:
        """The definition of a custom field."""
        shape: Row = {
            "id": row.id,
            "projectId": row.project_id,
            "typeId": row.type_id,
            "name": row.name,
            "description": "",
            "required": False,
            "useIssueType": False,
            "applicableIssueTypes": [],
            "displayOrder": row.type_id,
            "version": 1,
        }
        if row.type_id == NUMBER:
            shape |= {"min": None, "max": None, "initialValue": None, "unit": "円"}
        if row.type_id == DATE:
            initial = {"id": 3, "date": self.date("2026-01-31")}
            shape |= {"min": self.date("2025-01-01"), "max": None, "initialDate": initial}
        if row.items:
            shape |= {"items": [_item(row, item_id) for item_id in row.items], "allowAddItem": False}
        if row.type_id in (CHECKBOX, RADIO):
            shape["allowInput"] = True
        return shape

    def wiki(self, row: Wiki, *, whole: bool) -> Row:
        """A wiki page; only a `whole` one has its content."""
        shape: Row = {"id": row.id, "projectId": row.project_id, "name": row.name}
        if whole:
            shape["content"] = row.content
        shape["tags"] = [{"id": tag_id, "name": name} for tag_id, name in row.tags.items()]
        if whole:
            shape |= {"attachments": [], "sharedFiles": [], "stars": []}
        return shape | self._written(row)

    def document(self, row: Document) -> Row:
        """A document, whose id is a text."""
        paragraph = {"type": "paragraph", "content": [{"type": "text", "text": row.plain}]}
        return {
            "id": row.code,
            "projectId": row.project_id,
            "title": row.title,
            "plain": row.plain,
            "json": _json({"type": "doc", "content": [paragraph]}),
            "statusId": 1,
            "emoji": row.emoji,
            "attachments": [],
            "tags": [],
            **self._written(row),
            "childDocumentIds": [],
        }

    def repository(self, row: Repository) -> Row:
        """A git repository."""
        url = f"https://example.backlog.com/git/{self._space.projects[row.project_id].key}/{row.name}"
        return {
            "id": row.id,
            "projectId": row.project_id,
            "name": row.name,
            "description": row.description,
            "hookUrl": None,
            "httpUrl": f"{url}.git",
            "sshUrl": f"example@example.git.backlog.com:/{row.name}.git",
            "displayOrder": 0,
            "pushedAt": None if row.pushed is None else instant(row.pushed),
            **self._written(row),
        }

    def pull(self, row: PullRequest, issue: Issue | None) -> Row:
        """A pull request, with all of its issue."""
        ended = None if row.status_id == 1 else instant(row.updated)
        return {
            "id": row.id,
            "projectId": row.project_id,
            "repositoryId": row.repository_id,
            "number": row.number,
            "summary": row.summary,
            "description": row.description,
            "base": "main",
            "branch": row.branch,
            "status": {"id": row.status_id, "name": PULL_STATUSES[row.status_id]},
            "assignee": self._nested(row.assignee_id),
            "issue": None if issue is None else msgspec.Raw(self.issue(issue).encode()),
            "baseCommit": None if row.status_id == 1 else f"{_COMMIT}{row.number:04}",
            "branchCommit": None if row.status_id == 1 else f"{_COMMIT[::-1]}{row.number:04}",
            "mergeCommit": f"{row.number:04}{_COMMIT}" if row.status_id == 3 else None,
            "closeAt": ended,
            "mergeAt": ended if row.status_id == 3 else None,
            **self._written(row),
            "attachments": [],
            "stars": [],
        }

    def date(self, text: str | None) -> str | None:
        """A date without time as Backlog sends it."""
        return None if text is None else _date_texts(text)[self.dates]

    def _date(self, text: str | None) -> str:
        return "null" if text is None else f'"{_date_texts(text)[self.dates]}"'

    def _nested(self, user_id: int | None) -> Row | None:
        """A user inside another row, without the time of the last login."""
        person = self._space.users.get(user_id or 0)
        if person is None:
            return None
        shape = user(person)
        shape.pop("lastLoginTime", None)
        if self.users == "short":
            return {name: shape[name] for name in ("id", "name", "roleType", "lang")}
        return shape

    def _written(self, row: Written) -> Row:
        return {
            "createdUser": self._nested(row.creator_id),
            "created": instant(row.created),
            "updatedUser": self._nested(row.updater_id),
            "updated": instant(row.updated),
        }

    def _children(self, issue: Issue) -> Row:
        children = self._tracker.children(issue.id)
        return {"total": len(children), "closed": sum(child.status_id == CLOSED for child in children)}

    def _categories(self, ids: tuple[int, ...]) -> str:
        text = self._category_lists.get(ids)
        if text is None:
            rows = [self._space.categories[row_id] for row_id in ids if row_id in self._space.categories]
            text = self._category_lists[ids] = _json([category(row) for row in rows])
        return text

    def _versions(self, ids: tuple[int, ...]) -> str:
        text = self._version_lists.get(ids)
        if text is None:
            rows = [self._space.versions[row_id] for row_id in ids if row_id in self._space.versions]
            text = self._version_lists[ids] = _json([self.version(row) for row in rows])
        return text

    def _values(self, values: tuple[Value, ...]) -> str:
        text = self._value_lists.get(values)
        if text is None:
            text = self._value_lists[values] = _json([self._value(value) for value in values])
        return text

    def _value(self, value: Value) -> Row:
        field = self._space.custom_fields[value.field_id]
        content: Any = value.value
        if field.items:
            items = [_item(field, item_id) for item_id in (value.value if isinstance(value.value, tuple) else ())]
            content = (items[0] if items else None) if field.type_id in ONE_ITEM else items
        elif field.type_id == DATE:
            content = self.date(value.value if isinstance(value.value, str) else None)
        shape = {"id": field.id, "fieldTypeId": field.type_id, "name": field.name, "value": content}
        return shape | {"otherValue": value.other} if field.type_id in (CHECKBOX, RADIO) else shape

    def _attachments(self, issue: Issue) -> str:
        if not issue.attachment_ids:
            return "[]"
        return _json(
            [
                {
                    "id": file_id,
                    "name": attachment_name(file_id),
                    "size": 1_024,
                    "createdUser": self._nested(issue.creator_id),
                    "created": instant(issue.created),
                }
                for file_id in issue.attachment_ids
            ]
        )

    def _shared_files(self, issue: Issue) -> str:
        if not issue.shared_file_ids:
            return "[]"
        return _json(
            [
                {
                    "id": file_id,
                    "projectId": issue.project_id,
                    "type": "file",
                    "dir": "/共有/",
                    "name": "仕様.xlsx",
                    "size": 20_480,
                    "createdUser": self._nested(CALLER_ID),
                    "created": instant(self._tracker.base.begin),
                    "updatedUser": None,
                    "updated": instant(self._tracker.base.begin),
                }
                for file_id in issue.shared_file_ids
            ]
        )

    def _stars(self, issue: Issue, key: str) -> str:
        if not issue.star_ids:
            return "[]"
        return _json(
            [
                {
                    "id": star_id,
                    "comment": None,
                    "url": f"https://example.backlog.com/view/{key}",
                    "title": f"[{key}] {issue.summary}",
                    "presenter": self._nested(CALLER_ID),
                    "created": instant(issue.updated),
                }
                for star_id in issue.star_ids
            ]
        )


def instant(seconds: int) -> str:
    """A moment in UTC, without milliseconds."""
    return f"{iso(seconds)}Z"


def space() -> Row:
    """The space itself."""
    return {
        "spaceKey": "example",
        "name": "Demo works",
        "ownerId": CALLER_ID,
        "lang": "ja",
        "timezone": ZONE,
        "reportSendTime": "08:00:00",
        "textFormattingRule": "markdown",
        "created": "2024-04-01T00:00:00Z",
        "updated": "2025-10-01T09:30:00Z",
    }


def user(person: Person) -> Row:
    """A user. What a guest lacks is absent, what others lack is null."""
    account = person.nulab_id and {"nulabId": person.nulab_id, "name": person.name, "uniqueId": person.user_id}
    shape: Row = {
        "id": person.id,
        "userId": person.user_id,
        "name": person.name,
        "roleType": person.role_type,
        "lang": person.lang,
        "mailAddress": person.mail_address,
        "nulabAccount": account or None,
        "keyword": f"{person.name} {person.user_id or ''}".strip(),
        "lastLoginTime": None if person.last_login is None else instant(person.last_login),
    }
    return {name: value for name, value in shape.items() if value is not None} if person.sparse else shape


def project(row: Project) -> Row:
    """A project."""
    return {
        "id": row.id,
        "projectKey": row.key,
        "name": row.name,
        "chartEnabled": True,
        "useResolvedForChart": False,
        "subtaskingEnabled": True,
        "projectLeaderCanEditProjectLeader": False,
        "useWiki": True,
        "useFileSharing": True,
        "useWikiTreeView": True,
        "useOriginalImageSizeAtWiki": False,
        "useSubversion": False,
        "useGit": True,
        "textFormattingRule": row.text_formatting_rule,
        "archived": row.archived,
        "displayOrder": 2_147_483_646,
        "useDevAttributes": True,
    }


def statuses(rows: Iterable[Status]) -> list[Row]:
    """The states of a project's issues, in order."""
    return [
        {
            "id": row.id,
            "projectId": row.project_id,
            "name": row.name,
            "color": row.color,
            "displayOrder": 1_000 * (i + 1),
        }
        for i, row in enumerate(rows)
    ]


def issue_type(row: IssueType) -> Row:
    """A kind of issue."""
    return {
        "id": row.id,
        "projectId": row.project_id,
        "name": row.name,
        "color": row.color,
        "displayOrder": row.id % 300,
        "templateSummary": row.template_summary,
        "templateDescription": row.template_description,
    }


def category(row: Category) -> Row:
    """A category."""
    return {"id": row.id, "projectId": row.project_id, "name": row.name, "displayOrder": row.id % 400}


def named(rows: dict[int, str]) -> list[Row]:
    """Constants of the space: priorities, resolutions."""
    return [{"id": row_id, "name": name} for row_id, name in rows.items()]


def _change(change: FieldChange) -> Row:
    file = change.attachment_id and {"id": change.attachment_id, "name": change.new or change.old}
    attribute = change.attribute_id and {"id": change.attribute_id, "typeId": str(change.attribute_type)}
    return {
        "field": change.field,
        "newValue": change.new,
        "originalValue": change.old,
        "attachmentInfo": file or None,
        "attributeInfo": attribute or None,
        "notificationInfo": {"type": change.notification} if change.notification else None,
    }


def _item(field: CustomField, item_id: int) -> Row:
    return {"id": item_id, "name": field.items[item_id], "displayOrder": item_id - 1}


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


@lru_cache(maxsize=8192)
def _date_texts(text: str) -> dict[Dates, str]:
    before = date.fromisoformat(text) - timedelta(days=1)
    return {"00Z": f"{text}T00:00:00Z", "15Z": f"{before.isoformat()}T15:00:00Z"}
