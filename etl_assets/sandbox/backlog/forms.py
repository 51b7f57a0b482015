"""Issues out of the forms of Backlog's writes. What a write leaves behind belongs to `backlog_edits`."""

import re
from typing import Any

from msgspec.structs import replace

from etl_assets.sandbox.backlog.base import Issue
from etl_assets.sandbox.backlog.data import Tracker
from etl_assets.sandbox.backlog.params import Params, invalid
from etl_assets.sandbox.backlog.space import (
    DATE,
    MANY_ITEMS,
    NUMBER,
    OPEN,
    PRIORITIES,
    RESOLUTIONS,
    CustomField,
    Value,
    of_project,
)

_CUSTOM = re.compile(r"customField_(\d+)(?:_otherValue|\[\d+\])?")
_NO_INDEX = re.compile(r"customField_\d+\[\]")
_NEEDED = ("projectId", "summary", "issueTypeId", "priorityId")


def new_issue(params: Params, tracker: Tracker, *, joined: frozenset[int], user_id: int, now: int) -> Issue:
    """The issue that a POST describes, without its id and number."""
    if lacking := [name for name in _NEEDED if not params.text(name)]:
        raise invalid(f"{', '.join(lacking)} is required.")
    project_id = params.number("projectId") or 0
    if project_id not in joined:
        raise invalid("No such project.")
    fields = _fields(params, project_id, (), tracker)
    return Issue(
        **{
            "id": 0,
            "project_id": project_id,
            "number": 0,
            "description": "",
            "status_id": OPEN,
            "creator_id": user_id,
            "created": now,
            "updater_id": user_id,
            "updated": now,
            **fields,
        }
    )


def changed_issue(params: Params, old: Issue, tracker: Tracker, *, user_id: int, now: int) -> Issue:
    """The issue that a PATCH makes of `old`."""
    fields = _fields(params, old.project_id, old.values, tracker)
    return replace(old, **fields, updater_id=user_id, updated=max(now, old.updated))


def _fields(params: Params, project_id: int, values: tuple[Value, ...], tracker: Tracker) -> dict[str, Any]:
    """The given fields, by their names in `Issue`. An empty value clears what can be empty."""
    if "attachmentId" in params:
        raise invalid("No such attachment.")
    given: dict[str, Any] = {}
    if "summary" in params:
        given["summary"] = params.text("summary")
        if not given["summary"]:
            raise invalid("summary is required.")
    if "description" in params:
        given["description"] = params.text("description")
    for name, field in (("startDate", "start_date"), ("dueDate", "due_date")):
        if name in params:
            given[field] = params.day(name)
    for name, field in (("estimatedHours", "estimated_hours"), ("actualHours", "actual_hours")):
        if name in params:
            given[field] = params.decimal(name)
    given |= _choices(params, project_id, tracker)
    if "parentIssueId" in params:
        given["parent_id"] = _parent(params, project_id, tracker)
    if any(name.startswith("customField_") for name, _ in params.pairs):
        given["values"] = _custom_values(params, project_id, values, tracker)
    return given


def _choices(params: Params, project_id: int, tracker: Tracker) -> dict[str, Any]:
    space = tracker.space
    types = {row.id for row in of_project(space.issue_types, project_id)}
    members = space.projects[project_id].members
    one = (
        ("issueTypeId", "type_id", types, False),
        ("priorityId", "priority_id", PRIORITIES.keys(), False),
        ("statusId", "status_id", space.statuses[project_id].keys(), False),
        ("resolutionId", "resolution_id", RESOLUTIONS.keys(), True),
        ("assigneeId", "assignee_id", members, True),
    )
    given: dict[str, Any] = {}
    for name, field, known, optional in one:
        if name in params:
            given[field] = params.number(name)
            if given[field] not in known and not (optional and given[field] is None):
                raise invalid(f"{name} is not known in the project: {params.text(name)}")
    categories = {row.id for row in of_project(space.categories, project_id)}
    versions = {row.id for row in of_project(space.versions, project_id)}
    several = (
        ("categoryId", "category_ids", categories),
        ("versionId", "version_ids", versions),
        ("milestoneId", "milestone_ids", versions),
    )
    for name, field, known in several:
        if name in params:
            given[field] = params.listed(name)
            if not known.issuperset(given[field]):
                raise invalid(f"{name} is not known in the project.")
    return given


def _parent(params: Params, project_id: int, tracker: Tracker) -> int | None:
    parent_id = params.number("parentIssueId")
    if parent_id is None:
        return None
    parent = tracker.issue(parent_id)
    if parent is None or parent.project_id != project_id or parent.parent_id is not None:
        raise invalid("parentIssueId is no issue of the project that can have children.")
    return parent_id


def _custom_values(params: Params, project_id: int, values: tuple[Value, ...], tracker: Tracker) -> tuple[Value, ...]:
    fields = {field.id: field for field in of_project(tracker.space.custom_fields, project_id)}
    known = {value.field_id: value for value in values}
    for name, _ in params.pairs:
        if _NO_INDEX.fullmatch(name):
            raise invalid(f"brackets without an index are not understood: {name}")
        if match := _CUSTOM.fullmatch(name):
            field = fields.get(int(match[1]))
            if field is None:
                raise invalid(f"no custom field {match[1]} in the project")
            known[field.id] = _custom_value(params, field, known.get(field.id))
    return tuple(known[field_id] for field_id in fields if field_id in known)


def _custom_value(params: Params, field: CustomField, old: Value | None) -> Value:
    name = f"customField_{field.id}"
    old = old or Value(field.id, () if field.type_id in MANY_ITEMS else None)
    other = params.text(f"{name}_otherValue") or old.other
    if name not in params:
        return Value(field.id, old.value, other)
    if field.type_id == NUMBER:
        return Value(field.id, params.decimal(name))
    if field.type_id == DATE:
        return Value(field.id, params.day(name))
    if not field.items:
        return Value(field.id, params.text(name))
    ids = params.listed(name)
    if not field.items.keys() >= set(ids):
        raise invalid(f"{name} has no such item.")
    if field.type_id in MANY_ITEMS:
        return Value(field.id, ids, other)
    return Value(field.id, ids[:1] or None, other)
