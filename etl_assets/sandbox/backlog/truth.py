"""The rows that a right extract of Backlog holds, flat and plain, taken from the data and not from answers.

Instants are texts such as 2026-01-05T00:00:00Z, dates such as 2026-01-05, lists of choices are names.
"""

from collections.abc import Callable, Iterable, Mapping
from datetime import date, timedelta
from typing import Any

from msgspec.structs import asdict

from etl_assets.sandbox.backlog.activities import Activities, issue_ids
from etl_assets.sandbox.backlog.base import Comment, Issue
from etl_assets.sandbox.backlog.data import EVER, Range, Tracker
from etl_assets.sandbox.backlog.docs import Docs, Written
from etl_assets.sandbox.backlog.space import (
    CALLER_ID,
    ONE_ITEM,
    PRIORITIES,
    RESOLUTIONS,
    ZONE,
    Value,
)
from etl_assets.sandbox.times import at, iso

Row = dict[str, Any]


class Truth:
    """What a caller who joined `projects` can get at, by stream."""

    def __init__(self, tracker: Tracker, activities: Activities, docs: Docs) -> None:
        self._tracker, self._activities, self._docs = tracker, activities, docs
        self._space = tracker.space

    def rows(self, query: Mapping[str, str]) -> list[Row]:
        """The rows of `stream` (issues by default).

        `day` in `zone` narrows issues to those updated in that day, comments and activities to those created
        in it, and comments with `by=issue` to those of issues updated in it; `project` (a key) narrows issues and
        comments to a project; `user` asks for somebody else's view. With `total=true` issues are only counted: their
        `rows`, and the sums of their `ids` and `updated` seconds.
        """
        projects = self._space.joined(int(query.get("user", CALLER_ID)))
        if key := query.get("project"):
            projects &= {project.id for project in self._space.projects.values() if project.key == key}
        stream, moments = query.get("stream", "issues"), _moments(query)
        wide: dict[str, Callable[[], Iterable[Row]]] = {
            "issues": lambda: map(self._issue, self._tracker.issues(projects, updated=moments)),
            "comments": lambda: self._comments(projects, moments, by_issue=query.get("by") == "issue"),
            "activities": lambda: self._told(projects, moments),
            "deleted": lambda: ({"id": issue_id} for issue_id in sorted(self._tracker.deleted)),
            "users": self._users,
            "priorities": lambda: _constants(PRIORITIES),
            "resolutions": lambda: _constants(RESOLUTIONS),
        }
        if query.get("total") == "true" and stream == "issues":
            return [self._total(projects, moments)]
        if stream in wide:
            return list(wide[stream]())
        return [_flat(row) for row in self._narrow(stream) if getattr(row, "project_id", row.id) in projects]

    def _narrow(self, stream: str) -> Iterable[Any]:
        space, docs = self._space, self._docs
        narrow: dict[str, Iterable[Any]] = {
            "projects": space.projects.values(),
            "statuses": [row for rows in space.statuses.values() for row in rows.values()],
            "issue_types": space.issue_types.values(),
            "categories": space.categories.values(),
            "versions": space.versions.values(),
            "custom_fields": space.custom_fields.values(),
            "wikis": docs.wikis.values(),
            "documents": docs.documents.values(),
            "repositories": docs.repositories.values(),
            "pull_requests": docs.pulls.values(),
        }
        return narrow[stream]

    def _total(self, projects: frozenset[int], moments: Range) -> Row:
        ids = self._tracker.found(projects, updated=moments)
        seconds = sum(self._tracker.times(issue_id)[1] for issue_id in ids)
        return {"rows": len(ids), "ids": sum(ids), "updated": seconds}

    def _issue(self, issue: Issue) -> Row:
        space = self._space
        categories, versions = space.categories, space.versions
        status, kind = space.statuses[issue.project_id][issue.status_id], space.issue_types[issue.type_id]
        return {
            "id": issue.id,
            "project_id": issue.project_id,
            "issue_key": self._tracker.key(issue),
            "key_id": issue.number,
            "issue_type_id": kind.id,
            "issue_type_name": kind.name,
            "summary": issue.summary,
            "description": issue.description,
            "resolution_id": issue.resolution_id,
            "resolution_name": None if issue.resolution_id is None else RESOLUTIONS[issue.resolution_id],
            "priority_id": issue.priority_id,
            "priority_name": PRIORITIES[issue.priority_id],
            "status_id": status.id,
            "status_name": status.name,
            "assignee_id": issue.assignee_id,
            "assignee_name": self._name(issue.assignee_id),
            "category": [categories[row_id].name for row_id in issue.category_ids if row_id in categories],
            "versions": [versions[row_id].name for row_id in issue.version_ids if row_id in versions],
            "milestone": [versions[row_id].name for row_id in issue.milestone_ids if row_id in versions],
            "start_date": issue.start_date,
            "due_date": issue.due_date,
            "estimated_hours": issue.estimated_hours,
            "actual_hours": issue.actual_hours,
            "parent_issue_id": issue.parent_id,
            "created_user_id": issue.creator_id,
            "created_user_name": self._name(issue.creator_id),
            "created": _utc(issue.created),
            "updated_user_id": issue.updater_id,
            "updated_user_name": self._name(issue.updater_id),
            "updated": _utc(issue.updated),
            "custom_fields": list(map(self._value, issue.values)),
            "attachments": list(issue.attachment_ids),
            "shared_files": list(issue.shared_file_ids),
            "stars": list(issue.star_ids),
        }

    def _value(self, value: Value) -> Row:
        field = self._space.custom_fields[value.field_id]
        content: Any = value.value
        if isinstance(content, tuple):
            content = [field.items[item_id] for item_id in content]
            content = content[0] if field.type_id in ONE_ITEM else content
        return {
            "id": field.id,
            "field_type_id": field.type_id,
            "name": field.name,
            "value": content,
            "other_value": value.other,
        }

    def _comments(self, projects: frozenset[int], moments: Range, *, by_issue: bool) -> Iterable[Row]:
        if by_issue:
            for issue in self._tracker.issues(projects, updated=moments):
                yield from (self._comment(comment, issue) for comment in self._tracker.comments(issue.id))
            return
        # An issue that was updated last before the range has no comment in it, but one updated later may.
        for issue in self._tracker.issues(projects):
            for comment in self._tracker.comments(issue.id):
                if moments[0] <= comment.created < moments[1]:
                    yield self._comment(comment, issue)

    def _comment(self, comment: Comment, issue: Issue) -> Row:
        return {
            "id": comment.id,
            "project_id": issue.project_id,
            "issue_id": issue.id,
            "content": comment.content,
            "changes": [[change.field, change.old, change.new] for change in comment.changes],
            "created_user_id": comment.author_id,
            "created": _utc(comment.created),
            "updated": _utc(comment.updated),
        }

    def _told(self, projects: frozenset[int], moments: Range) -> Iterable[Row]:
        for activity in self._activities.every(projects):
            if moments[0] <= activity.created < moments[1]:
                yield {
                    "id": activity.id,
                    "project_id": activity.project_id,
                    "type": activity.type,
                    "created_user_id": activity.author_id,
                    "created": _utc(activity.created),
                    "issue_ids": issue_ids(activity),
                }

    def _users(self) -> Iterable[Row]:
        for person in self._space.users.values():
            if not person.former:
                yield {
                    "id": person.id,
                    "user_id": person.user_id,
                    "name": person.name,
                    "role_type": person.role_type,
                    "lang": person.lang,
                    "mail_address": person.mail_address,
                    "nulab_account_nulab_id": person.nulab_id,
                    "last_login_time": None if person.last_login is None else _utc(person.last_login),
                }

    def _name(self, user_id: int | None) -> str | None:
        person = self._space.users.get(user_id or 0)
        return person.name if person else None


def _flat(row: Any) -> Row:
    """A row as it is kept, with its moments as texts."""
    fields = asdict(row)
    for name in ("created", "updated", "pushed"):
        if isinstance(row, Written) and fields.get(name) is not None:
            fields[name] = _utc(fields[name])
    return fields


def _constants(rows: Mapping[int, str]) -> list[Row]:
    return [{"id": row_id, "name": name} for row_id, name in rows.items()]


def _moments(query: Mapping[str, str]) -> Range:
    if "day" not in query:
        return EVER
    day, zone = date.fromisoformat(query["day"]), query.get("zone", ZONE)
    return at(zone, day), at(zone, day + timedelta(days=1))


def _utc(seconds: int) -> str:
    return f"{iso(seconds)}Z"
