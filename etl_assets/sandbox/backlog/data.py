"""Backlog's issues and comments as they are now: what was computed, and edits laid over it.

Storage only. What an edit leaves behind (comments, activities) belongs to `backlog_edits`, and which issues a
request asks for to `backlog_search`.
"""

from bisect import insort
from collections.abc import Collection, Iterable, Iterator

from etl_assets.sandbox.backlog.base import COMMENTS_PER_ISSUE, FIRST_COMMENT_ID, FIRST_ISSUE_ID, Base, Comment, Issue
from etl_assets.sandbox.backlog.space import (
    ARCHIVED_ID,
    CALLER_ID,
    CLOSED,
    FIRST_PROJECT_ID,
    HIDDEN_ID,
    OPEN,
    Space,
    of_project,
)
from etl_assets.sandbox.times import DAY
from etl_assets.sandbox.world import ISSUE_PROJECTS

Range = tuple[int, int]
EVER: Range = (0, 1 << 40)

_PROJECTS = len(ISSUE_PROJECTS)
_CHILDREN = (1, 2)


class Tracker:
    """All issues and comments. `version` grows with every change to them."""

    def __init__(self, *, seed: int, days: int, scale: float) -> None:
        self.space = Space(scale)
        self.base = Base(self.space, seed=seed, days=days, scale=scale)
        self.version = 0
        self.deleted = [FIRST_ISSUE_ID + place for place in self.base.deleted()]
        self._edited: dict[int, Issue] = {}
        self._hidden = set(self.deleted)
        self._keys: dict[tuple[int, int], int] = {}
        self._comments: dict[int, list[Comment]] = {}
        self._comment_issues: dict[int, int] = {}
        self._last_numbers = {FIRST_PROJECT_ID + i: self.base.last_number for i in range(_PROJECTS)}
        self._last_issue_id = FIRST_ISSUE_ID + self.base.count - 1
        self._last_comment_id = FIRST_COMMENT_ID + COMMENTS_PER_ISSUE * self.base.count - 1
        for issue in self._elsewhere():
            self.put(issue)
        self.first_edited = tuple(self._edited.values())

    def issue(self, issue_id: int) -> Issue | None:
        """An issue by its id."""
        if issue_id in self._edited or issue_id in self._hidden:
            return self._edited.get(issue_id)
        place = issue_id - FIRST_ISSUE_ID
        return self.base.issue(place) if 0 <= place < self.base.count else None

    def named(self, id_or_key: str) -> Issue | None:
        """An issue by its id or present key."""
        if id_or_key.isdecimal():
            return self.issue(int(id_or_key))
        key, _, number = id_or_key.rpartition("-")
        project = self.space.project(key)
        if project is None or not number.isdecimal():
            return None
        spot = project.id, int(number)
        if spot in self._keys:
            return self._edited[self._keys[spot]]
        which = project.id - FIRST_PROJECT_ID
        if not 0 <= which < _PROJECTS or not 1 <= spot[1] <= self.base.last_number:
            return None
        issue = self.issue(FIRST_ISSUE_ID + (spot[1] - 1) * _PROJECTS + which)
        return issue if issue and (issue.project_id, issue.number) == spot else None

    def key(self, issue: Issue) -> str:
        """The key of an issue, which changes with the project's."""
        return f"{self.space.projects[issue.project_id].key}-{issue.number}"

    def times(self, issue_id: int) -> tuple[int, int]:
        """When an issue was created, and when it was updated last."""
        issue = self._edited.get(issue_id)
        return self.base.times(issue_id - FIRST_ISSUE_ID) if issue is None else (issue.created, issue.updated)

    def found(self, projects: Collection[int], *, created: Range = EVER, updated: Range = EVER) -> list[int]:
        """Ids of the issues of `projects` in both ranges, in order of creation."""
        ids = list(self._found_base(projects, created, updated))
        for issue in self._edited.values():
            if issue.project_id in projects and _within(issue.created, created) and _within(issue.updated, updated):
                insort(ids, issue.id, key=lambda issue_id: (self.times(issue_id)[0], issue_id))
        return ids

    def issues(self, projects: Collection[int], *, created: Range = EVER, updated: Range = EVER) -> Iterator[Issue]:
        """The same issues themselves."""
        for issue_id in self.found(projects, created=created, updated=updated):
            if issue := self.issue(issue_id):
                yield issue

    def children(self, parent_id: int) -> list[Issue]:
        """The issues below an issue."""
        near = (
            self.issue(parent_id + _PROJECTS * i) for i in _CHILDREN if parent_id + _PROJECTS * i not in self._edited
        )
        candidates: Iterable[Issue | None] = (*near, *self._edited.values())
        return [issue for issue in candidates if issue and issue.parent_id == parent_id]

    def comments(self, issue_id: int) -> list[Comment]:
        """The comments of an issue, oldest first."""
        if issue_id in self._comments:
            return self._comments[issue_id]
        place = issue_id - FIRST_ISSUE_ID
        return self.base.comments(place) if 0 <= place < self.base.count else []

    def comment(self, comment_id: int) -> Comment | None:
        """A comment by its id."""
        place = (comment_id - FIRST_COMMENT_ID) // COMMENTS_PER_ISSUE
        issue_id = self._comment_issues.get(comment_id, FIRST_ISSUE_ID + place)
        if self.issue(issue_id) is None:
            return None
        return next((comment for comment in self.comments(issue_id) if comment.id == comment_id), None)

    def put(self, issue: Issue) -> None:
        """Store an issue, new or changed."""
        self._forget(issue.id)
        self._edited[issue.id] = issue
        self._keys[issue.project_id, issue.number] = issue.id
        self._last_numbers[issue.project_id] = max(self._last_numbers.get(issue.project_id, 0), issue.number)

    def remove(self, issue_id: int) -> None:
        """Remove an issue and its comments; only its id is remembered."""
        self._forget(issue_id)
        self._comments.pop(issue_id, None)
        self.deleted.append(issue_id)

    def put_comment(self, comment: Comment) -> None:
        """Store a comment, new or changed."""
        rest = [other for other in self.comments(comment.issue_id) if other.id != comment.id]
        self._comments[comment.issue_id] = sorted([*rest, comment], key=lambda other: other.id)
        self._comment_issues[comment.id] = comment.issue_id
        self.version += 1

    def remove_comment(self, comment: Comment) -> None:
        """Remove a comment without a trace."""
        rest = [other for other in self.comments(comment.issue_id) if other.id != comment.id]
        self._comments[comment.issue_id] = rest
        self.version += 1

    def new_issue_id(self) -> int:
        """An id never given before."""
        self._last_issue_id += 1
        return self._last_issue_id

    def new_comment_id(self) -> int:
        """An id never given before."""
        self._last_comment_id += 1
        return self._last_comment_id

    def new_number(self, project_id: int) -> int:
        """A number never given before in the project."""
        self._last_numbers[project_id] = self._last_numbers.get(project_id, 0) + 1
        return self._last_numbers[project_id]

    def _found_base(self, projects: Collection[int], created: Range, updated: Range) -> Iterator[int]:
        base, hidden = self.base, self._hidden
        wanted = [FIRST_PROJECT_ID + i in projects for i in range(_PROJECTS)]
        if not any(wanted):
            return
        places: Iterable[int] = range(base.count) if updated == EVER else base.updated_between(*updated)
        for place in places:
            issue_id = FIRST_ISSUE_ID + place
            if not wanted[place % _PROJECTS] or issue_id in hidden:
                continue
            if created == EVER or _within(base.times(place)[0], created):
                yield issue_id

    def _forget(self, issue_id: int) -> None:
        self._hidden.add(issue_id)
        if old := self._edited.pop(issue_id, None):
            del self._keys[old.project_id, old.number]
        self.version += 1

    def _elsewhere(self) -> Iterator[Issue]:
        """A few issues of the archived project, and of the one the caller did not join, updated on data days."""
        for project_id, count, second in ((ARCHIVED_ID, 6, self.base.begin), (HIDDEN_ID, 4, self.base.end - DAY)):
            types = of_project(self.space.issue_types, project_id)
            for number in range(1, count + 1):
                created = second + number * 3_600
                yield Issue(
                    id=self.new_issue_id(),
                    project_id=project_id,
                    number=self.new_number(project_id),
                    type_id=types[number % len(types)].id,
                    summary=f"旧サイトの件 {number}" if project_id == ARCHIVED_ID else f"Offer {number}",
                    description="",
                    priority_id=3,
                    status_id=CLOSED if project_id == ARCHIVED_ID else OPEN,
                    resolution_id=0 if project_id == ARCHIVED_ID else None,
                    creator_id=CALLER_ID + 1,
                    created=created,
                    updater_id=None if project_id == ARCHIVED_ID else CALLER_ID + 1,  # as in very old rows
                    updated=created,
                )


def _within(moment: int, limits: Range) -> bool:
    return limits[0] <= moment < limits[1]
