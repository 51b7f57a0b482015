"""What happened in Backlog's projects, as the activities tell it: a log with ids that grow with time.

The events of computed issues are only counted and sorted here, and told when asked for; later ones are kept.
Beside them: those of wikis, documents and git, and on every data day a bulk update and an event of a type that
nobody has documented. Who may see what belongs to `backlog`.
"""

from array import array
from collections.abc import Callable, Collection, Iterator
from functools import cached_property
from typing import Any

import msgspec

from etl_assets.sandbox.backlog.base import Comment, FieldChange, Issue, attachment_name
from etl_assets.sandbox.backlog.data import Tracker
from etl_assets.sandbox.backlog.docs import Docs, Event
from etl_assets.sandbox.backlog.space import CALLER_ID, FIRST_PROJECT_ID
from etl_assets.sandbox.times import DAY
from etl_assets.sandbox.world import ISSUE_PROJECTS

CREATED, UPDATED, COMMENTED, DELETED, BULK, UNKNOWN = 1, 2, 3, 4, 14, 99
FIRST_ACTIVITY_ID = 90_000_001

# An event of a computed issue as one sortable number: second, place, and what: 0 created, 1 to 5 a comment.
_PLACE_BITS, _KIND_BITS = 32, 3
_GONE, _OTHER = 6, 7
_KIND_MASK, _PLACE_MASK = (1 << _KIND_BITS) - 1, (1 << _PLACE_BITS) - 1
_FIELD_TEXTS = {
    "status": "状態",
    "resolution": "完了理由",
    "assigner": "担当者",
    "limitDate": "期限日",
    "startDate": "開始日",
    "priority": "優先度",
    "summary": "件名",
    "description": "詳細",
}


class Activity(msgspec.Struct):
    """One event, with its content as it is sent."""

    id: int
    type: int
    project_id: int
    author_id: int
    created: int
    content: dict[str, Any]


class Activities:
    """The log."""

    def __init__(self, tracker: Tracker, docs: Docs) -> None:
        self._tracker = tracker
        self._docs = docs
        self._later: list[Activity] = []

    def add(self, kind: int, project_id: int, author_id: int, moment: int, content: dict[str, Any]) -> None:
        """Tell an event. One from before the last of the log is told as if it happened just then."""
        self._later.append(Activity(self._end_id, kind, project_id, author_id, max(moment, self._last), content))

    def page(
        self,
        projects: Collection[int],
        *,
        after: int | None,
        before: int | None,
        types: Collection[int],
        ascending: bool,
        count: int,
    ) -> list[Activity]:
        """Up to `count` events of `projects` with ids in `(after, before)`."""
        first = max(FIRST_ACTIVITY_ID, FIRST_ACTIVITY_ID if after is None else after + 1)
        last = min(self._end_id, self._end_id if before is None else before)
        ids = range(first, last) if ascending else range(last - 1, first - 1, -1)
        rows = []
        for activity_id in ids:
            kind, project_id = self._sort(activity_id)
            if project_id in projects and (not types or kind in types):
                rows.append(self._activity(activity_id))
                if len(rows) == count:
                    break
        return rows

    def every(self, projects: Collection[int]) -> Iterator[Activity]:
        """All events of `projects`, oldest first."""
        for activity_id in range(FIRST_ACTIVITY_ID, self._end_id):
            if self._sort(activity_id)[1] in projects:
                yield self._activity(activity_id)

    @property
    def _end_id(self) -> int:
        return FIRST_ACTIVITY_ID + len(self._log) + len(self._later)

    @property
    def _last(self) -> int:
        if self._later:
            return self._later[-1].created
        return self._tracker.base.begin + (self._log[-1] >> (_PLACE_BITS + _KIND_BITS))

    def _sort(self, activity_id: int) -> tuple[int, int]:
        """Type and project of an event, without telling all of it."""
        index = activity_id - FIRST_ACTIVITY_ID
        if index >= len(self._log):
            later = self._later[index - len(self._log)]
            return later.type, later.project_id
        _, place, kind = self._event(index)
        if kind == _OTHER:
            return self._others[place].type, self._others[place].project_id
        project_id = FIRST_PROJECT_ID + place % len(ISSUE_PROJECTS)
        if kind == 0:
            return CREATED, project_id
        if kind == _GONE:
            return DELETED, project_id
        return (COMMENTED if self._tracker.base.only_words(place, kind - 1) else UPDATED), project_id

    def _activity(self, activity_id: int) -> Activity:
        index = activity_id - FIRST_ACTIVITY_ID
        if index >= len(self._log):
            return self._later[index - len(self._log)]
        moment, place, kind = self._event(index)
        type_id, project_id = self._sort(activity_id)
        if kind == _OTHER:
            other = self._others[place]
            return Activity(activity_id, type_id, project_id, other.author_id, moment, other.content)
        issue = self._tracker.base.issue(place)
        author_id, content = issue.creator_id, created(issue)
        if kind == _GONE:
            content = deleted(issue)
        elif kind:
            comment = self._tracker.base.comments(place)[kind - 1]
            author_id, content = comment.author_id, changed(issue, comment)
        return Activity(activity_id, type_id, project_id, author_id, moment, content)

    def _event(self, index: int) -> tuple[int, int, int]:
        packed = self._log[index]
        moment = self._tracker.base.begin + (packed >> (_PLACE_BITS + _KIND_BITS))
        return moment, packed >> _KIND_BITS & _PLACE_MASK, packed & _KIND_MASK

    @cached_property
    def _log(self) -> "array[int]":
        """All events but the later ones, in order, as numbers: there may be millions."""
        begin = self._tracker.base.begin

        def packed(moment: int, place: int, kind: int) -> int:
            return (moment - begin) << (_PLACE_BITS + _KIND_BITS) | place << _KIND_BITS | kind

        log = [packed(other.moment, index, _OTHER) for index, other in enumerate(self._others)]
        log += self._issue_events(packed)
        return array("q", sorted(log))

    def _issue_events(self, packed: Callable[[int, int, int], int]) -> Iterator[int]:
        base = self._tracker.base
        for place in range(base.count):
            start, end = base.times(place)
            yield packed(start, place, 0)
            count = base.comment_count(place)
            told = count - 1 if base.in_bulk(place) else count
            for index in range(told):
                yield packed(start + (end - start) * (index + 1) // count, place, index + 1)
        for place in base.deleted():
            yield packed(base.deleted_at(place), place, _GONE)

    @cached_property
    def _others(self) -> list[Event]:
        return [*self._docs.events(), *self._of_data_days(), *self._elsewhere()]

    def _of_data_days(self) -> Iterator[Event]:
        base = self._tracker.base
        for day in range(base.days):
            issues = [base.issue(place) for place in base.bulk(day)]
            comments = [base.comments(place)[-1] for place in base.bulk(day)]
            links = [
                {
                    "id": issue.id,
                    "key_id": issue.number,
                    "title": issue.summary,
                    "comment": {"id": comment.id, "content": comment.content},
                }
                for issue, comment in zip(issues, comments, strict=True)
            ]
            yield Event(
                moment=issues[0].updated,
                project_id=issues[0].project_id,
                type=BULK,
                author_id=comments[0].author_id,
                content={
                    "tx_id": 7_001 + day,
                    "comment": {"content": ""},
                    "link": links,
                    "changes": [_change(change) for change in comments[0].changes if change.field == "status"],
                },
            )
            yield Event(
                moment=base.starts[day] + DAY // 2,
                project_id=FIRST_PROJECT_ID,
                type=UNKNOWN,
                author_id=CALLER_ID,
                content={"new_thing": [1]},
            )

    def _elsewhere(self) -> Iterator[Event]:
        """The few issues that are not computed."""
        for issue in self._tracker.first_edited:
            yield Event(
                moment=issue.created,
                project_id=issue.project_id,
                type=CREATED,
                author_id=issue.creator_id,
                content=created(issue),
            )


def created(issue: Issue) -> dict[str, Any]:
    """What is told of a new issue."""
    return {"id": issue.id, "key_id": issue.number, "summary": issue.summary, "description": issue.description}


def changed(issue: Issue, comment: Comment) -> dict[str, Any]:
    """What is told of a changed or commented issue."""
    files = [change.attachment_id for change in comment.changes if change.attachment_id]
    return {
        **created(issue),
        "comment": {"id": comment.id, "content": comment.content},
        "changes": [_change(change) for change in comment.changes if not change.attachment_id],
        "attachments": [{"id": file_id, "name": attachment_name(file_id), "size": 1_024} for file_id in files],
        "shared_files": [],
        "external_file_links": [],
    }


def deleted(issue: Issue) -> dict[str, Any]:
    """What is told of a deleted issue."""
    return {"id": issue.id, "key_id": issue.number}


def issue_ids(activity: Activity) -> list[int]:
    """Which issues an event is about."""
    content = activity.content
    if activity.type == BULK:
        return [link["id"] for link in content["link"]]
    return [content["id"]] if activity.type in (CREATED, UPDATED, COMMENTED, DELETED) else []


def _change(change: FieldChange) -> dict[str, Any]:
    return {
        "field": change.field,
        "field_text": _FIELD_TEXTS.get(change.field, change.field),
        "new_value": change.new,
        "old_value": change.old,
        "type": "standard" if change.attribute_id is None else "custom",
    }
