"""Edits of Backlog's issues and comments, with all they leave behind: change logs and activities.

Both the API's writes and the control actions end here. Reading forms belongs to `backlog_forms`.
"""

from collections.abc import Iterable
from datetime import datetime
from functools import partial
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, UnsetType
from msgspec.structs import asdict, replace

from etl_assets.sandbox.backlog import activities as told
from etl_assets.sandbox.backlog.activities import Activities
from etl_assets.sandbox.backlog.base import Comment, FieldChange, Issue
from etl_assets.sandbox.backlog.data import Tracker
from etl_assets.sandbox.backlog.space import CALLER_ID, OPEN, PRIORITIES, RESOLUTIONS, Value, of_project
from etl_assets.sandbox.vendor import Change

Moment = Annotated[datetime, msgspec.Meta(tz=True)]

_USUAL_PRIORITY = 3


class IssueFields(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Fields of an issue; those not given stay as they are."""

    id: int | UnsetType = UNSET
    project_id: int | UnsetType = UNSET
    type_id: int | UnsetType = UNSET
    summary: str | UnsetType = UNSET
    description: str | UnsetType = UNSET
    priority_id: int | UnsetType = UNSET
    status_id: int | UnsetType = UNSET
    creator_id: int | UnsetType = UNSET
    created: Moment | UnsetType = UNSET
    updater_id: int | UnsetType = UNSET
    updated: Moment | UnsetType = UNSET
    resolution_id: int | UnsetType | None = UNSET
    assignee_id: int | UnsetType | None = UNSET
    category_ids: tuple[int, ...] | UnsetType = UNSET
    version_ids: tuple[int, ...] | UnsetType = UNSET
    milestone_ids: tuple[int, ...] | UnsetType = UNSET
    start_date: str | UnsetType | None = UNSET
    due_date: str | UnsetType | None = UNSET
    estimated_hours: float | UnsetType | None = UNSET
    actual_hours: float | UnsetType | None = UNSET
    parent_id: int | UnsetType | None = UNSET
    values: tuple[Value, ...] | UnsetType = UNSET


class MoveFields(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """An issue, and the key of the project to which it moves; `updated` stays unless it is given."""

    id: int
    project: str
    updated: Moment | UnsetType = UNSET


class IssueChanges(msgspec.Struct, forbid_unknown_fields=True):
    """Changes to issues. A new one needs project_id, summary and updated, and gets its id.

    A deletion is told as if it came right after all else that happened.
    """

    insert: list[IssueFields] = []
    update: list[IssueFields] = []
    delete: list[int] = []
    move: list[MoveFields] = []

    def __post_init__(self) -> None:
        for row in self.insert:
            if UNSET in (row.project_id, row.summary, row.updated) or row.id is not UNSET:
                raise ValueError("a new issue needs project_id, summary and updated, and gets its id")
        if any(row.id is UNSET or row.project_id is not UNSET for row in self.update):
            raise ValueError("an update needs the id, and cannot move the issue")


class CommentFields(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Fields of a comment; those not given stay as they are."""

    id: int | UnsetType = UNSET
    issue_id: int | UnsetType = UNSET
    author_id: int | UnsetType = UNSET
    created: Moment | UnsetType = UNSET
    updated: Moment | UnsetType = UNSET
    content: str | UnsetType | None = UNSET
    changes: tuple[FieldChange, ...] | UnsetType = UNSET
    notified_ids: tuple[int, ...] | UnsetType = UNSET


class CommentChanges(msgspec.Struct, forbid_unknown_fields=True):
    """Changes to comments. A new one needs issue_id and created, and gets its id."""

    insert: list[CommentFields] = []
    update: list[CommentFields] = []
    delete: list[int] = []

    def __post_init__(self) -> None:
        if any(UNSET in (row.issue_id, row.created) or row.id is not UNSET for row in self.insert):
            raise ValueError("a new comment needs issue_id and created, and gets its id")
        if any(row.id is UNSET or row.issue_id is not UNSET for row in self.update):
            raise ValueError("an update needs the id, and cannot change the issue")


class Edits:
    """Edits of issues and comments."""

    def __init__(self, tracker: Tracker, activities: Activities) -> None:
        self._tracker = tracker
        self._activities = activities
        self.comments_update = True
        """Whether a comment without changes counts as an update of its issue."""

    def create(self, issue: Issue) -> None:
        """Add an issue."""
        self._tracker.put(issue)
        self._tell(told.CREATED, issue, issue.creator_id, issue.created, told.created(issue))

    def change(self, old: Issue, new: Issue, content: str | None = None, *, move: bool = False) -> None:
        """Put `new` in place of `old`; what differs becomes a comment at the time of the update."""
        changes = tuple(self._differences(old, new, move=move))
        self._tracker.put(new)
        if changes or content:
            self.comment(
                Comment(
                    id=self._tracker.new_comment_id(),
                    issue_id=new.id,
                    author_id=new.updater_id or CALLER_ID,
                    created=new.updated,
                    updated=new.updated,
                    content=content,
                    changes=changes,
                )
            )

    def comment(self, comment: Comment) -> None:
        """Add a comment, and count it as an update of its issue."""
        issue = self._issue(comment.issue_id)
        self._tracker.put_comment(comment)
        if self.comments_update and comment.created > issue.updated:
            issue = replace(issue, updated=comment.created, updater_id=comment.author_id)
            self._tracker.put(issue)
        kind = told.UPDATED if comment.changes else told.COMMENTED
        self._tell(kind, issue, comment.author_id, comment.created, told.changed(issue, comment))

    def delete(self, issue: Issue, user_id: int, moment: int) -> None:
        """Delete an issue; nothing but an activity is left of it."""
        self._tracker.remove(issue.id)
        self._tell(told.DELETED, issue, user_id, moment, told.deleted(issue))

    def issue_change(self, payload: dict[str, Any]) -> Change:
        """The change to issues that a control request asks for, checked."""
        return partial(self._change_issues, msgspec.convert(payload, IssueChanges))

    def comment_change(self, payload: dict[str, Any]) -> Change:
        """The change to comments that a control request asks for, checked."""
        return partial(self._change_comments, msgspec.convert(payload, CommentChanges))

    def _change_issues(self, changes: IssueChanges) -> dict[str, Any]:
        updated = [(old := self._issue(row["id"]), replace(old, **row)) for row in map(_given, changes.update)]
        moved = [(old := self._issue(move.id), self._moved(old, move)) for move in changes.move]
        deleted = [self._issue(issue_id) for issue_id in changes.delete]
        inserted = [self._new(_given(fields)) for fields in changes.insert]
        for issue in inserted:
            self._shown(issue)  # whatever it refers to exists
        for old, new in updated:
            self.change(old, new)
        for old, new in moved:
            new.number = self._tracker.new_number(new.project_id)
            self.change(old, new, move=True)
        for issue in inserted:
            issue.id, issue.number = self._tracker.new_issue_id(), self._tracker.new_number(issue.project_id)
            self.create(issue)
        for issue in deleted:
            self.delete(issue, CALLER_ID, 0)
        return {
            "inserted": [issue.id for issue in inserted],
            "keys": [self._tracker.key(issue) for issue in [*inserted, *(new for _, new in moved)]],
        }

    def _change_comments(self, changes: CommentChanges) -> dict[str, list[int]]:
        updated = [replace(self._comment(row["id"]), **row) for row in map(_given, changes.update)]
        deleted = [self._comment(comment_id) for comment_id in changes.delete]
        rows = [{"author_id": CALLER_ID, **_given(fields)} for fields in changes.insert]
        for row in rows:
            self._issue(row["issue_id"])
        inserted = [Comment(**{"id": 0, "updated": row["created"], **row}) for row in rows]
        for comment in inserted:
            comment.id = self._tracker.new_comment_id()
            self.comment(comment)
        for comment in updated:
            self._tracker.put_comment(comment)
        for comment in deleted:
            self._tracker.remove_comment(comment)
        return {"inserted": [comment.id for comment in inserted]}

    def _new(self, given: dict[str, Any]) -> Issue:
        if given["project_id"] not in self._tracker.space.projects:
            raise ValueError(f"no project {given['project_id']}")
        creator_id = given.get("creator_id", CALLER_ID)
        defaults = {
            "type_id": of_project(self._tracker.space.issue_types, given["project_id"])[0].id,
            "description": "",
            "priority_id": _USUAL_PRIORITY,
            "status_id": OPEN,
            "creator_id": creator_id,
            "updater_id": creator_id,
            "created": given["updated"],
        }
        return Issue(**{"id": 0, "number": 0, **defaults, **given})

    def _moved(self, issue: Issue, move: MoveFields) -> Issue:
        """The issue in another project: of the same type and status if it has them, and without the rest."""
        space = self._tracker.space
        target = space.project(move.project)
        if target is None or target.id == issue.project_id:
            raise ValueError(f"no other project {move.project}")
        types = of_project(space.issue_types, target.id)
        name = space.issue_types[issue.type_id].name
        return replace(
            issue,
            project_id=target.id,
            type_id=next((row.id for row in types if row.name == name), types[0].id),
            status_id=issue.status_id if issue.status_id in space.statuses[target.id] else OPEN,
            category_ids=(),
            version_ids=(),
            milestone_ids=(),
            values=(),
            parent_id=None,
            updated=issue.updated if move.updated is UNSET else int(move.updated.timestamp()),
        )

    def _issue(self, issue_id: int) -> Issue:
        issue = self._tracker.issue(issue_id)
        if issue is None:
            raise ValueError(f"no issue {issue_id}")
        return issue

    def _comment(self, comment_id: int) -> Comment:
        comment = self._tracker.comment(comment_id)
        if comment is None:
            raise ValueError(f"no comment {comment_id}")
        return comment

    def _tell(self, kind: int, issue: Issue, author_id: int, moment: int, content: dict[str, Any]) -> None:
        self._activities.add(kind, issue.project_id, author_id, moment, content)

    def _differences(self, old: Issue, new: Issue, *, move: bool) -> Iterable[FieldChange]:
        before, after = self._shown(old), self._shown(new)
        if move:
            yield FieldChange("project", after["project"], before["project"])
            return
        yield from (FieldChange(field, after[field], before[field]) for field in after if after[field] != before[field])
        fields, known = self._tracker.space.custom_fields, {value.field_id: value for value in old.values}
        for value in new.values:
            if value != known.get(value.field_id):
                field = fields[value.field_id]
                yield FieldChange(
                    field.name,
                    str(value.value),
                    None,
                    attribute_id=field.id,
                    attribute_type=field.type_id,
                )

    def _shown(self, issue: Issue) -> dict[str, str | None]:
        """What change logs compare, as they show it."""
        space = self._tracker.space
        assignee = space.users.get(issue.assignee_id or 0)
        parent = self._tracker.issue(issue.parent_id or 0)
        return {
            "project": space.projects[issue.project_id].name,
            "summary": issue.summary,
            "description": issue.description,
            "issueType": space.issue_types[issue.type_id].name,
            "status": space.statuses[issue.project_id][issue.status_id].name,
            "resolution": None if issue.resolution_id is None else RESOLUTIONS[issue.resolution_id],
            "priority": PRIORITIES[issue.priority_id],
            "assigner": assignee.name if assignee else None,
            "component": _names(space.categories, issue.category_ids),
            "version": _names(space.versions, issue.version_ids),
            "milestone": _names(space.versions, issue.milestone_ids),
            "startDate": issue.start_date,
            "limitDate": issue.due_date,
            "estimatedHours": None if issue.estimated_hours is None else f"{issue.estimated_hours:g}",
            "actualHours": None if issue.actual_hours is None else f"{issue.actual_hours:g}",
            "parentIssue": self._tracker.key(parent) if parent else None,
        }


def _given(fields: msgspec.Struct) -> dict[str, Any]:
    given = {name: value for name, value in asdict(fields).items() if value is not UNSET}
    moments = {name: int(value.timestamp()) for name, value in given.items() if isinstance(value, datetime)}
    return given | moments


def _names(rows: dict[int, Any], ids: tuple[int, ...]) -> str:
    return ", ".join(rows[row_id].name for row_id in ids if row_id in rows)
