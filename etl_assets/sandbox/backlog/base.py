"""Backlog's issues and comments as they were first written, computed from seed, days and scale when asked for.

Per project 300 x scale issues (300 at least) were created over the half year before the first data day, and
3 x scale (2 at least) more on every data day. On every data day 45 x scale issues were updated last: those
9 x scale new ones, and 36 x scale (8 at least) old ones, drawn in a fixed random order so that no issue is drawn
twice; where more than 16 days need more old issues than there are, there are more of them. So at scale 1 and
3 days 927 issues, 45 a day; at scale 2222 there are 100,000 a day.
Every data day also has issues updated exactly at 00:00:00, 08:59:59, 09:00:00 and 23:59:59 of Asia/Tokyo,
two updated by one bulk update in the same second, one created at 00:00:00 and one at 23:59:59, and in every
project one issue that was created and then deleted. Two issues were updated in the second before all days.

An issue is known by its place, counted over the three projects in order of creation. Times need no hashing,
so that a million issues can be searched by time; the rest of an issue does. Nothing is stored here, and edits
belong to `backlog_data`.
"""

from collections.abc import Iterator
from datetime import timedelta
from functools import lru_cache
from math import ceil, gcd

import msgspec

from etl_assets.sandbox.backlog.space import (
    CLOSED,
    DATE,
    FIRST_PROJECT_ID,
    OPEN,
    PRIORITIES,
    RESOLUTIONS,
    RESOLVED,
    ZONE,
    IssueType,
    Space,
    Value,
    of_project,
)
from etl_assets.sandbox.times import DAY, at
from etl_assets.sandbox.world import FIRST_DAY, ISSUE_PROJECTS, ISSUES_PER_PROJECT, numbers

FIRST_ISSUE_ID = 200_001
FIRST_COMMENT_ID = 5_000_001
COMMENTS_PER_ISSUE = 8  # ids kept free per issue; base issues have up to 5 comments

_PROJECTS = len(ISSUE_PROJECTS)
_MOST_SCALE = 20_000
_HISTORY_DAYS = 182
_OLD_PER_DAY, _NEW_PER_DAY = 36, 3
_DELETED = 1  # which of a project's new issues of a day is deleted the same day
_EDGES = (0, DAY - 1, DAY * 3 // 8 - 1, DAY * 3 // 8)
_BULK = (4, 7)  # which of a day's old issues are updated in bulk; three apart are of the same project
_BLOCK, _WORDS = 8, 4
_GOLDEN = 0.618
_MIX = 0x9E3779B97F4A7C15

_VERBS = ("Fix", "Add", "Review", "Deploy", "調査:", "改善:")
_THINGS = ("login", "search", "invoice export", "在庫画面", "checkout", "通知メール", 'the "beta" flag', "backup")
_ODD_SUMMARIES = (
    "決済画面でエラー🚨、至急確認", 'He said "done", twice', "First line\nsecond line", "Tab\there, comma; semicolon",
    "=SUM(A1:A2)", "  spaces  ", "back\\slash and 'quotes'", "改行\r\nあり",
    "絵文字 👨‍👩‍👧‍👦 と 𠮷野家", "line\u2028separator",
)  # fmt: skip
_DESCRIPTIONS = (
    "", "", "See the wiki.", "手順:\n1. ログイン\n2. 保存\n\n期待: 保存される", "a,b\n\"c\",d\t",
    "## 背景\n" + "長い説明。" * 40, "絵文字🚀と\r\n改行", "{\"json\": true}",
)  # fmt: skip
_COMMENTS = (
    "確認しました。",
    "LGTM 👍",
    "Line 1\nline 2",
    'Please see "SHOP-12", thanks',
    "修正しました、レビューお願いします",
    "a\tb",
)
_DATES = tuple((FIRST_DAY + timedelta(days=i)).isoformat() for i in range(-128, 128))
_STATUS_ORDER = (0, 1, 2, 3, 4, 4, 1, 3)
_RESOLUTION_ORDER = (0, 1, 0, 2, 3, 4, None, 0)
_PRIORITY_ORDER = (3, 3, 2, 4)


class Issue(msgspec.Struct, gc=False):
    """An issue. Dates are texts such as 2026-01-05, instants epoch seconds."""

    id: int
    project_id: int
    number: int
    type_id: int
    summary: str
    description: str
    priority_id: int
    status_id: int
    creator_id: int
    created: int
    updater_id: int | None
    updated: int
    resolution_id: int | None = None
    assignee_id: int | None = None
    category_ids: tuple[int, ...] = ()
    version_ids: tuple[int, ...] = ()
    milestone_ids: tuple[int, ...] = ()
    start_date: str | None = None
    due_date: str | None = None
    estimated_hours: float | None = None
    actual_hours: float | None = None
    parent_id: int | None = None
    values: tuple[Value, ...] = ()
    attachment_ids: tuple[int, ...] = ()
    shared_file_ids: tuple[int, ...] = ()
    star_ids: tuple[int, ...] = ()


class FieldChange(msgspec.Struct, frozen=True):
    """One line of a change log: names, not ids, and perhaps the id of a file or custom field."""

    field: str
    new: str | None
    old: str | None
    attachment_id: int | None = None
    attribute_id: int | None = None
    attribute_type: int | None = None
    notification: str | None = None


class Comment(msgspec.Struct, gc=False):
    """A comment: words, changes of the issue, or both."""

    id: int
    issue_id: int
    author_id: int
    created: int
    updated: int
    content: str | None = None
    changes: tuple[FieldChange, ...] = ()
    notified_ids: tuple[int, ...] = ()


class Base:
    """The issues of the three projects by place, and their comments."""

    def __init__(self, space: Space, *, seed: int, days: int, scale: float) -> None:
        if not 0 < scale <= _MOST_SCALE:
            raise ValueError(f"scale must be above 0 and at most {_MOST_SCALE}")
        self.days = days
        self._seed = seed
        self._old = max(_BULK[-1] + 1, round(_OLD_PER_DAY * scale))
        self._new = (max(2, round(_NEW_PER_DAY * scale)) + 1) * _PROJECTS
        per_project = max(ISSUES_PER_PROJECT, round(ISSUES_PER_PROJECT * scale), ceil(days * self._old / 2))
        self._history = per_project * _PROJECTS
        self.count = self._history + days * self._new
        self.last_number = self.count // _PROJECTS
        self.starts = [at(ZONE, FIRST_DAY + timedelta(days=day)) for day in range(days + 1)]
        self.begin = self.starts[0] - _HISTORY_DAYS * DAY
        self.end = self.starts[-1]
        self._step = next(step for step in range(int(self._history * _GOLDEN), 0, -1) if gcd(step, self._history) == 1)
        self._unstep = pow(self._step, -1, self._history)
        self._shift = numbers(1, seed, "backlog")[0] % self._history
        self._words_of = lru_cache(maxsize=4096)(self._block)
        self._take(space)

    def exists(self, place: int) -> bool:
        """Whether the issue was not deleted the day it was created."""
        return place < self._history or (place - self._history) % self._new // _PROJECTS != _DELETED

    def deleted(self) -> Iterator[int]:
        """Places of the deleted issues."""
        for day in range(self.days):
            first = self._history + day * self._new + _DELETED * _PROJECTS
            yield from range(first, first + _PROJECTS)

    def deleted_at(self, place: int) -> int:
        """When the deleted issue at a place was deleted."""
        return min(self._created(place) + 5_400, self.starts[(place - self._history) // self._new + 1] - 1)

    def times(self, place: int) -> tuple[int, int]:
        """When an issue was created, and when it was updated last."""
        created = self._created(place)
        noise = self._noise(place)
        if place >= self._history:
            day_end = self.starts[(place - self._history) // self._new + 1]
            return created, created if noise % 3 == 0 else min(created + 60 + noise % 7_001, day_end - 1)
        day, turn = divmod(self._rank(place), self._old)
        if day < self.days:
            return created, self.starts[day] + self._second(turn)
        if day == self.days and turn < 2:
            return created, self.starts[0] - 1
        if noise % 5 == 0:
            return created, created
        return created, created + 1 + noise % (self.starts[0] - 1 - created)

    def updated_between(self, start: int, end: int) -> list[int]:
        """Places of the issues updated last in `[start, end)`, in order."""
        if start < self.starts[0]:
            candidates: Iterator[int] = iter(range(self.count))
        else:
            candidates = (place for day in range(self.days) if self._meets(day, start, end) for place in self._of(day))
        return sorted(place for place in candidates if start <= self.times(place)[1] < end and self.exists(place))

    def bulk(self, day: int) -> tuple[int, ...]:
        """Places of the issues that one bulk update changed on a data day."""
        return tuple(self._place(day * self._old + turn) for turn in _BULK)

    def in_bulk(self, place: int) -> bool:
        """Whether the last update of the issue was one in bulk."""
        if place >= self._history:
            return False
        day, turn = divmod(self._rank(place), self._old)
        return day < self.days and turn in _BULK

    def comment_count(self, place: int) -> int:
        """How many comments an issue has: none if it never changed."""
        created, updated = self.times(place)
        return 0 if created == updated or not self.exists(place) else 1 + self._words(place)[3] % 5

    def only_words(self, place: int, index: int) -> bool:
        """Whether a comment changed nothing."""
        words, count = self._words(place), self.comment_count(place)
        status_id = self._status(place % _PROJECTS, words[1], count, bulk=self.in_bulk(place))
        if index == count - 1 and status_id != OPEN:
            return False
        return self._has_words(place, index) and words[0] >> (50 + index) & 1 == 0

    def issue(self, place: int) -> Issue:
        """The issue at a place."""
        which, number = place % _PROJECTS, place // _PROJECTS + 1
        project_id = FIRST_PROJECT_ID + which
        created, updated = self.times(place)
        _, a, b, c = self._words(place)
        comments = 0 if created == updated else 1 + c % 5
        bulk = self.in_bulk(place)
        status_id = self._status(which, a, comments, bulk=bulk)
        creator_id = self._authors[(a >> 3) % len(self._authors)]
        issue_id = FIRST_ISSUE_ID + place
        return Issue(
            id=issue_id,
            project_id=project_id,
            number=number,
            type_id=self._types[which][(a >> 12) & 3],
            summary=_summary(number, a >> 14),
            description=_DESCRIPTIONS[(a >> 24) & 7],
            priority_id=_PRIORITY_ORDER[(a >> 27) & 3],
            status_id=status_id,
            creator_id=creator_id,
            created=created,
            updater_id=self._author(place, comments - 1, c, bulk=bulk) if comments else creator_id,
            updated=updated,
            resolution_id=_RESOLUTION_ORDER[(a >> 29) & 7] if status_id in (RESOLVED, CLOSED) else None,
            assignee_id=None if (a >> 32) & 3 == 0 else self._writers[(a >> 34) % len(self._writers)],
            category_ids=_some(self._categories[which], a >> 46),
            version_ids=_some(self._versions[which], a >> 49)[:1],
            milestone_ids=_some(self._versions[which], a >> 52),
            start_date=None if b & 1 else _DATES[(b >> 1) & 0x7F],
            due_date=None if (b >> 8) & 3 == 0 else _DATES[64 + ((b >> 10) & 0x7F)],
            estimated_hours=None if (b >> 17) & 1 else 0.25 * (1 + ((b >> 18) & 0x3F)),
            actual_hours=None if (b >> 24) & 1 else ((b >> 25) & 0x3F) / 2,
            parent_id=self._parent(place),
            values=self._values[which][(b >> 32) % len(self._values[which])],
            attachment_ids=_ids(40_000_001, place, b >> 40),
            shared_file_ids=(project_id * 1000 + 1,) if (b >> 44) & 31 == 0 else (),
            star_ids=_ids(60_000_001, place, b >> 50),
        )

    def comments(self, place: int) -> list[Comment]:
        """The comments of an issue, oldest first, the last one written when it was updated last."""
        issue = self.issue(place)
        count = self.comment_count(place)
        return [self._comment(issue, place, index, count) for index in range(count)]

    def _comment(self, issue: Issue, place: int, index: int, count: int) -> Comment:
        words = self._words(place)
        created = issue.created + (issue.updated - issue.created) * (index + 1) // count
        content: str | None = None if words[0] >> (55 + index) & 1 else ""
        notified: tuple[int, ...] = ()
        if self._has_words(place, index):
            content = _COMMENTS[(words[3] >> (54 + index)) % len(_COMMENTS)]
            notified = (issue.assignee_id,) if issue.assignee_id else ()
        changes: tuple[FieldChange, ...] = ()
        if not self.only_words(place, index):
            settled = self._settled(issue) if index == count - 1 else ()
            changes = settled or (self._small_change(issue, index, words[0] >> (20 + 6 * index)),)
        return Comment(
            id=FIRST_COMMENT_ID + COMMENTS_PER_ISSUE * place + index,
            issue_id=issue.id,
            author_id=self._author(place, index, words[3], bulk=self._ends_in_bulk(place, index)),
            created=created,
            updated=created,
            content=content,
            changes=changes,
            notified_ids=notified,
        )

    def _has_words(self, place: int, index: int) -> bool:
        return self._words(place)[0] >> (4 * index) & 3 != 0 and not self._ends_in_bulk(place, index)

    def _ends_in_bulk(self, place: int, index: int) -> bool:
        return self.in_bulk(place) and index == self.comment_count(place) - 1

    def _status(self, which: int, word: int, comments: int, *, bulk: bool) -> int:
        if bulk:
            return RESOLVED
        return self._statuses[which][_STATUS_ORDER[word & 7]] if comments else OPEN

    def _author(self, place: int, index: int, word: int, *, bulk: bool) -> int:
        """Comments of a bulk update are of one author."""
        turn = self._rank(place) // self._old if bulk else word >> (4 + 10 * index)
        return self._writers[turn % len(self._writers)]

    def _settled(self, issue: Issue) -> tuple[FieldChange, ...]:
        """The change that led from an open issue to what it is now."""
        if issue.status_id == OPEN:
            return ()
        names = self._status_names
        status = FieldChange("status", names[issue.project_id][issue.status_id], names[issue.project_id][OPEN])
        if issue.resolution_id is None:
            return (status,)
        return status, FieldChange("resolution", RESOLUTIONS[issue.resolution_id], None)

    def _small_change(self, issue: Issue, index: int, word: int) -> FieldChange:
        if index == 0 and issue.attachment_ids:
            file_id = issue.attachment_ids[0]
            return FieldChange("attachment", attachment_name(file_id), None, attachment_id=file_id)
        kind = word % 5
        if kind == 0 and issue.assignee_id:
            return FieldChange("assigner", self._names[issue.assignee_id], None)
        if kind == 1 and issue.due_date:
            return FieldChange("limitDate", issue.due_date, None)
        if kind == 2:
            return FieldChange("notification", self._names[issue.creator_id], None, notification="issue.create")
        field = next((v for v in issue.values if isinstance(v.value, str) and v.value), None)
        if kind == 3 and field and isinstance(field.value, str):
            type_id = self._field_types[field.field_id]
            return FieldChange(
                self._field_names[field.field_id],
                field.value,
                None if type_id == DATE else "",
                attribute_id=field.field_id,
                attribute_type=type_id,
            )
        return FieldChange("priority", PRIORITIES[issue.priority_id], PRIORITIES[4 if issue.priority_id != 4 else 3])

    def _take(self, space: Space) -> None:
        """Keep of the space what issues choose from; what it becomes later changes no issue."""
        people = [person.id for person in space.users.values()]
        ids = [FIRST_PROJECT_ID + i for i in range(_PROJECTS)]
        self._authors = people
        self._writers = [person.id for person in space.users.values() if not person.former]
        self._names = {person.id: person.name for person in space.users.values()}
        self._statuses = [list(space.statuses[project_id]) for project_id in ids]
        self._status_names = {p: {s.id: s.name for s in rows.values()} for p, rows in space.statuses.items()}
        types: list[list[IssueType]] = [of_project(space.issue_types, project_id) for project_id in ids]
        self._types = [[row.id for row in rows] for rows in types]
        self._categories = [_subsets([row.id for row in of_project(space.categories, p)]) for p in ids]
        self._versions = [_subsets([row.id for row in of_project(space.versions, p)]) for p in ids]
        self._values = [space.values(project_id) for project_id in ids]
        self._field_names = {field.id: field.name for field in space.custom_fields.values()}
        self._field_types = {field.id: field.type_id for field in space.custom_fields.values()}

    def _created(self, place: int) -> int:
        if place >= self._history:
            day, slot = divmod(place - self._history, self._new)
            second = DAY - 1 if slot == self._new - 1 else self._spread(slot, self._new)
            return self.starts[day] + second
        twin = place - 1 if place % 50 == 1 else place  # some issues were created in the same second
        span = self.starts[0] - 1 - self.begin
        return self.begin + twin * span // self._history + self._noise(twin) % max(1, span // self._history)

    def _second(self, turn: int) -> int:
        """The second of the day of an update."""
        if turn < len(_EDGES):
            return _EDGES[turn]
        turn = _BULK[0] if turn in _BULK else turn
        return self._spread(turn - len(_EDGES) + 1, self._old - len(_EDGES) + 1)

    def _spread(self, turn: int, turns: int) -> int:
        return turn * DAY // turns + (self._noise(turn) % max(1, DAY // turns) if turn else 0)

    def _rank(self, place: int) -> int:
        return (place * self._step + self._shift) % self._history

    def _place(self, rank: int) -> int:
        return (rank - self._shift) * self._unstep % self._history

    def _of(self, day: int) -> Iterator[int]:
        yield from (self._place(day * self._old + turn) for turn in range(self._old))
        first = self._history + day * self._new
        yield from range(first, first + self._new)

    def _meets(self, day: int, start: int, end: int) -> bool:
        return self.starts[day] < end and self.starts[day + 1] > start

    def _noise(self, number: int) -> int:
        return ((number + self._shift) * _MIX & 0xFFFFFFFFFFFFFFFF) >> 24

    def _words(self, place: int) -> tuple[int, ...]:
        block, index = divmod(place, _BLOCK)
        return self._words_of(block)[index]

    def _block(self, block: int) -> list[tuple[int, ...]]:
        words = numbers(_BLOCK * _WORDS, self._seed, "backlog issues", block)
        return [words[i : i + _WORDS] for i in range(0, len(words), _WORDS)]

    def _parent(self, place: int) -> int | None:
        """Of every ten issues of a project, the seventh and eighth are children of the sixth."""
        number = place // _PROJECTS + 1
        if number % 10 not in (7, 8):
            return None
        parent = place - (number % 10 - 6) * _PROJECTS
        return FIRST_ISSUE_ID + parent if self.exists(parent) else None


def attachment_name(file_id: int) -> str:
    """The name of an attached file."""
    return ("screenshot.png", "見積書.pdf", "log, 1.txt")[file_id % 3]


def _summary(number: int, word: int) -> str:
    if word & 7 == 0:
        return _ODD_SUMMARIES[(word >> 3) % len(_ODD_SUMMARIES)]
    return f"{_VERBS[(word >> 3) % len(_VERBS)]} {_THINGS[(word >> 6) % len(_THINGS)]} #{number}"


def _subsets(ids: list[int]) -> tuple[tuple[int, ...], ...]:
    return (), (), tuple(ids[:1]), tuple(ids[1:2]), tuple(ids[-1:]), tuple(ids[:2]), tuple(ids), ()


def _some(subsets: tuple[tuple[int, ...], ...], word: int) -> tuple[int, ...]:
    return subsets[word & 7]


def _ids(first: int, place: int, word: int) -> tuple[int, ...]:
    count = (1, 2)[(word >> 4) & 1] if word & 15 == 0 else 0
    return tuple(first + 2 * place + i for i in range(count))
