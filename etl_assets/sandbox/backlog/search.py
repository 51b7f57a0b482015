"""Which issues a request asks for, and in which order: the parameters of `GET /issues`.

Lists are OR within and AND between. Days are whole days of the zone given, both ends included. Without `sort`
issues come newest first. Rows of equal value follow their ids.
"""

import re
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import msgspec

from etl_assets.sandbox.backlog.base import Issue
from etl_assets.sandbox.backlog.data import EVER, Range, Tracker
from etl_assets.sandbox.backlog.params import Params, invalid
from etl_assets.sandbox.backlog.space import DATE, MANY_ITEMS, NUMBER, ONE_ITEM, Value

_KEPT = 32
_CUSTOM = re.compile(r"customField_(\d+)(_min|_max)?")
_PARENT_CHILD = range(11)

# A list parameter, and what of an issue must be in it.
_LISTS: dict[str, Callable[[Issue], tuple[int | None, ...]]] = {
    "issueTypeId": lambda issue: (issue.type_id,),
    "categoryId": lambda issue: issue.category_ids,
    "versionId": lambda issue: issue.version_ids,
    "milestoneId": lambda issue: issue.milestone_ids,
    "statusId": lambda issue: (issue.status_id,),
    "priorityId": lambda issue: (issue.priority_id,),
    "assigneeId": lambda issue: (issue.assignee_id,),
    "createdUserId": lambda issue: (issue.creator_id,),
    "resolutionId": lambda issue: (issue.resolution_id,),
    "parentIssueId": lambda issue: (issue.parent_id,),
}
_SORTS: dict[str, Callable[[Issue], Any]] = {
    "issueType": lambda issue: issue.type_id,
    "category": lambda issue: min(issue.category_ids, default=None),
    "version": lambda issue: min(issue.version_ids, default=None),
    "milestone": lambda issue: min(issue.milestone_ids, default=None),
    "summary": lambda issue: issue.summary,
    "status": lambda issue: issue.status_id,
    "priority": lambda issue: issue.priority_id,
    "attachment": lambda issue: len(issue.attachment_ids),
    "sharedFile": lambda issue: len(issue.shared_file_ids),
    "created": lambda issue: issue.created,
    "createdUser": lambda issue: issue.creator_id,
    "updated": lambda issue: issue.updated,
    "updatedUser": lambda issue: issue.updater_id,
    "assignee": lambda issue: issue.assignee_id,
    "startDate": lambda issue: issue.start_date,
    "dueDate": lambda issue: issue.due_date,
    "estimatedHours": lambda issue: issue.estimated_hours,
    "actualHours": lambda issue: issue.actual_hours,
    "childIssue": lambda issue: issue.parent_id,
}


class Custom(msgspec.Struct, frozen=True):
    """A filter on a custom field: a word in a text, items of a list, or bounds of a number or date."""

    field_id: int
    word: str = ""
    items: frozenset[int] = frozenset()
    low: float | str | None = None
    high: float | str | None = None


class Query(msgspec.Struct, frozen=True):
    """What a request asks for, without the page."""

    projects: frozenset[int]
    ids: frozenset[int]
    lists: tuple[tuple[str, frozenset[int]], ...]
    created: Range
    updated: Range
    start_date: tuple[str, str] | None
    due_date: tuple[str, str] | None
    no_due_date: bool
    parent_child: int
    attachment: bool | None
    shared_file: bool | None
    keyword: str
    custom: tuple[Custom, ...]
    sort: str
    ascending: bool

    @property
    def plain(self) -> bool:
        """Whether projects and times are all that is asked for."""
        flags = self.attachment is None and self.shared_file is None and not self.no_due_date
        dates = self.start_date is None and self.due_date is None
        return flags and dates and not (self.ids or self.lists or self.parent_child or self.keyword or self.custom)


def read(params: Params, *, joined: frozenset[int], zone: str, tracker: Tracker) -> Query:
    """The query of `params`, within the projects that the caller joined."""
    if params.flag("hasDueDate"):
        raise invalid("hasDueDate can only be false.")
    parent_child = params.number("parentChild") or 0
    if parent_child not in _PARENT_CHILD:
        raise invalid(f"parentChild is out of range: {parent_child}")
    sort = params.text("sort") or "created"
    if sort not in _SORTS and _custom_sort(sort, tracker) is None:
        raise invalid(f"unknown sort: {sort}")
    projects = params.numbers("projectId")
    return Query(
        projects=joined & projects if projects else joined,
        ids=params.numbers("id"),
        lists=tuple((name, params.numbers(name)) for name in _LISTS if params.numbers(name)),
        created=params.instants("created", zone) or EVER,
        updated=params.instants("updated", zone) or EVER,
        start_date=params.days("startDate"),
        due_date=params.days("dueDate"),
        no_due_date=params.flag("hasDueDate") is False,
        parent_child=parent_child,
        attachment=params.flag("attachment"),
        shared_file=params.flag("sharedFile"),
        keyword=(params.text("keyword") or "").lower(),
        custom=tuple(_customs(params, tracker)),
        sort=sort,
        ascending=params.order() == "asc",
    )


class Search:
    """Answers queries, and keeps the last answers for as long as no issue changes."""

    def __init__(self, tracker: Tracker) -> None:
        self._tracker = tracker
        self._version = -1
        self._kept: OrderedDict[Query, list[int]] = OrderedDict()

    def ids(self, query: Query) -> list[int]:
        """Ids of all issues that are asked for, in order."""
        if self._version != self._tracker.version:
            self._kept.clear()
            self._version = self._tracker.version
        if query in self._kept:
            self._kept.move_to_end(query)
        else:
            self._kept[query] = self._sorted(query)
            if len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return self._kept[query]

    def _sorted(self, query: Query) -> list[int]:
        ids = self._matching(query)
        if query.sort == "created":
            return ids if query.ascending else ids[::-1]
        if query.sort == "updated":
            ids.sort(key=lambda issue_id: (self._tracker.times(issue_id)[1], issue_id), reverse=not query.ascending)
            return ids
        keys = {issue_id: self._key(query.sort, issue_id) for issue_id in ids}
        return sorted(ids, key=lambda issue_id: keys[issue_id], reverse=not query.ascending)

    def _matching(self, query: Query) -> list[int]:
        """In order of creation."""
        tracker = self._tracker
        if query.plain:
            return tracker.found(query.projects, created=query.created, updated=query.updated)
        if not query.ids:
            issues = tracker.issues(query.projects, created=query.created, updated=query.updated)
            return [issue.id for issue in issues if self._matches(issue, query)]
        named = [issue for issue_id in sorted(query.ids) if (issue := tracker.issue(issue_id))]
        inside = [issue for issue in named if issue.project_id in query.projects and _in_time(issue, query)]
        return [issue.id for issue in sorted(inside, key=lambda i: (i.created, i.id)) if self._matches(issue, query)]

    def _matches(self, issue: Issue, query: Query) -> bool:
        if any(wanted.isdisjoint(_LISTS[name](issue)) for name, wanted in query.lists):
            return False
        if query.attachment not in (None, bool(issue.attachment_ids)):
            return False
        if query.shared_file not in (None, bool(issue.shared_file_ids)):
            return False
        if query.no_due_date and issue.due_date is not None:
            return False
        if not _between(issue.start_date, query.start_date) or not _between(issue.due_date, query.due_date):
            return False
        if query.keyword and query.keyword not in f"{issue.summary}\n{issue.description}".lower():
            return False
        if query.parent_child and not self._in_family(issue, query.parent_child):
            return False
        return all(_has(issue.values, custom) for custom in query.custom)

    def _in_family(self, issue: Issue, kind: int) -> bool:
        """The meanings of `parentChild`. No issue here has grandchildren."""
        child = issue.parent_id is not None
        if kind in (1, 7):
            return not child
        if kind in (2, 6, 9):
            return child
        if kind in (5, 8):
            return kind == 8
        parent = not child and bool(self._tracker.children(issue.id))
        return parent if kind == 4 else not parent and (kind == 10 or not child)

    def _key(self, sort: str, issue_id: int) -> tuple[bool, Any, int]:
        issue = self._tracker.issue(issue_id)
        if issue is None:
            raise KeyError(issue_id)
        value = _SORTS[sort](issue) if sort in _SORTS else _custom_value(issue, _custom_sort(sort, self._tracker))
        return value is not None, value, issue_id


def _between(text: str | None, limits: tuple[str, str] | None) -> bool:
    return limits is None or (text is not None and limits[0] <= text <= limits[1])


def _in_time(issue: Issue, query: Query) -> bool:
    return query.created[0] <= issue.created < query.created[1] and query.updated[0] <= issue.updated < query.updated[1]


def _customs(params: Params, tracker: Tracker) -> list[Custom]:
    filters = []
    names = {match[1]: None for name, _ in params.pairs if (match := _CUSTOM.match(name))}
    for number in names:
        field = tracker.space.custom_fields.get(int(number))
        if field is None:
            raise invalid(f"no custom field {number}")
        name = f"customField_{number}"
        if field.type_id in ONE_ITEM | MANY_ITEMS:
            filters.append(Custom(field.id, items=params.numbers(name)))
        elif field.type_id in (NUMBER, DATE):
            bound = params.decimal if field.type_id == NUMBER else params.day
            filters.append(Custom(field.id, low=bound(f"{name}_min"), high=bound(f"{name}_max")))
        else:
            filters.append(Custom(field.id, word=(params.text(name) or "").lower()))
    return filters


def _has(values: tuple[Value, ...], custom: Custom) -> bool:
    value = next((value.value for value in values if value.field_id == custom.field_id), None)
    if custom.items:
        return isinstance(value, tuple) and not custom.items.isdisjoint(value)
    if custom.word:
        return isinstance(value, str) and custom.word in value.lower()
    low, high = custom.low, custom.high
    return (low is None or _at_least(value, low)) and (high is None or _at_least(high, value))


def _at_least(value: Any, other: Any) -> bool:
    return value is not None and other is not None and bool(value >= other)


def _custom_sort(sort: str, tracker: Tracker) -> int | None:
    match = _CUSTOM.fullmatch(sort)
    return int(match[1]) if match and not match[2] and int(match[1]) in tracker.space.custom_fields else None


def _custom_value(issue: Issue, field_id: int | None) -> Any:
    return next((value.value for value in issue.values if value.field_id == field_id), None)
