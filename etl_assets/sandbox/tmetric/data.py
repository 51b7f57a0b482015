"""TMetric's workspace: who works there, on what, and when. All of it follows from seed, days and scale.

Members work 20 x scale strong (20 at least, 1,000 at most) and track 100 x scale entries a day together:
5 each up to scale 50, 100 each of 1,000 at scale 1000, 1,000 each of 1,000 at scale 10000. Of every 20
members one lives in New York, one has left, and four work over midnight, or start or end exactly there.

Base entries are computed when asked for and never stored; edits lie over them. Instants are epoch seconds.
How the API shows all this belongs to `tmetric_shapes`.
"""

from collections.abc import Iterable, Iterator
from datetime import date, datetime, timedelta
from functools import partial
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import UNSET, UnsetType
from msgspec.structs import asdict, replace

from etl_assets.sandbox.times import DAY, at, iso, offset
from etl_assets.sandbox.vendor import Change
from etl_assets.sandbox.world import FIRST_DAY, ISSUE_PROJECTS, ISSUES_PER_PROJECT, numbers

CALLER_ID = 700
STATUSES = {1: "active", 2: "done", 3: "archived"}
TEAMS = {301: "Product", 302: "運用チーム", 303: "Design"}

_FIRST_ENTRY_ID = 900_001
_GROUP = 20
_MOST_MEMBERS = 1_000
_ENTRIES_PER_SCALE = 100
_MOST_SCALE = 100_000  # more would not fit into a working day of seconds
_WORK_STARTS = 9 * 3600
_WORK_LASTS = 9 * 3600

# Members by their place in a group of 20.
_RUNNING_TIMER = 5
_LEFT = 18
_NEW_YORK = 19
# One more entry each day: second of the day at which it starts, seconds it lasts.
_AT_NIGHT = {
    1: (0, 2_700),  # starts with the day
    2: (DAY - 1, 1_801),  # starts with the last second of the day
    3: (81_000, 9_900),  # 22:30 to 01:15
    4: (83_700, 2_700),  # ends with the day
    _NEW_YORK: (5_400, 3_600),  # 01:30, a time that occurs twice when clocks are set back
}
_SPARE_IDS = 3

_NAMES = (
    "Rin Aoki", "佐藤 健", "鈴木 美咲", "Takahashi Yui", "田中 大輔",
    "Watanabe Ren", "伊藤 さくら", "山本 翔", "Nakamura Hina", "小林 直樹",
    "加藤 愛", "Yoshida Sota", "山田 花子", "佐々木 蓮", "Yamaguchi Mio",
    "松本 剛", "井上 結衣", "Kimura Aoi", "林 拓也", "Dana O'Neil",
)  # fmt: skip
_NOTES = (
    None, None, "", "", "Review", "週次ミーティング", "設計レビュー🚀", "Tab\there",
    "First line\nsecond line", 'He said "done"', "back\\slash, comma; semicolon", "  spaces  ",
    "Call with ACME", "調査\r\n結果を共有", "=SUM(A1:A2)", "line\u2028separator",
)  # fmt: skip
_VERBS = ("Fix", "Add", "Review", "Deploy", "調査:", "改善:")
_THINGS = (
    "login",
    "search",
    "invoice export",
    "在庫画面",
    "checkout",
    "通知メール",
    'the "beta" flag',
    "backup",
)


class Master(msgspec.Struct, kw_only=True):
    """What members, clients, projects, tags and tasks have in common."""

    id: int


class Member(Master, kw_only=True):
    """A user in the workspace. `zone` is the truth; `zone_id` is what TMetric calls it."""

    account_member_id: int
    name: str
    email: str
    zone: str
    zone_id: str
    role: int
    is_locked: bool
    team_id: int


class Client(Master, kw_only=True):
    """Somebody projects are done for."""

    name: str


class Project(Master, kw_only=True):
    """A project; status as in v2: 1 open, 2 done, 3 archived."""

    name: str
    code: str
    client_id: int | None
    status: int
    is_billable: bool


class Tag(Master, kw_only=True):
    """A tag, or a work type, of which an entry has at most one."""

    name: str
    is_work_type: bool


class Task(Master, kw_only=True):
    """A task, perhaps linked to an issue elsewhere."""

    name: str
    project_id: int | None
    creator_id: int
    assignee_id: int | None = None
    external_link_caption: str | None = None
    external_link_link: str | None = None
    external_link_issue_id: str | None = None
    is_completed: bool = False
    created: int
    modified: int
    due_date: str | None = None
    estimated_minutes: int | None = None


class Entry(msgspec.Struct, gc=False):
    """A time entry. Without `end` its timer runs. A `sparse` one leaves out what it does not have."""

    id: int
    user_id: int
    start: int
    end: int | None
    task_id: int | None = None
    project_id: int | None = None
    note: str | None = None
    tag_ids: tuple[int, ...] = ()
    is_billable: bool = False
    is_invoiced: bool = False
    sparse: bool = False


Row = TypeVar("Row", bound=Master)
Moment = Annotated[datetime, msgspec.Meta(tz=True)]


class RowChanges(msgspec.Struct, forbid_unknown_fields=True):
    """Changes to members, clients, projects, tags or tasks; an update names the id and what changes."""

    insert: list[dict[str, Any]] = []
    update: list[dict[str, Any]] = []
    delete: list[int] = []


class EntryFields(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Fields of an entry, by the names of `Workspace.described`; those not given stay as they are."""

    id: int | UnsetType = UNSET
    user_id: int | UnsetType = UNSET
    start_utc: Moment | UnsetType = UNSET
    end_utc: Moment | UnsetType | None = UNSET
    task_id: int | UnsetType | None = UNSET
    project_id: int | UnsetType | None = UNSET
    note: str | UnsetType | None = UNSET
    tag_ids: tuple[int, ...] | UnsetType = UNSET
    is_billable: bool | UnsetType = UNSET
    is_invoiced: bool | UnsetType = UNSET

    def given(self) -> dict[str, Any]:
        """The given fields as those of `Entry`."""
        fields = {name: value for name, value in asdict(self).items() if value is not UNSET}
        for name in ("start", "end"):
            if f"{name}_utc" in fields:
                moment = fields.pop(f"{name}_utc")
                fields[name] = moment and int(moment.timestamp())
        return fields


class EntryChanges(msgspec.Struct, forbid_unknown_fields=True):
    """Changes to time entries that the API would not make: nothing else is cut or removed."""

    insert: list[EntryFields] = []
    update: list[EntryFields] = []
    delete: list[int] = []

    def __post_init__(self) -> None:
        if any(row.user_id is UNSET or row.start_utc is UNSET or row.id is not UNSET for row in self.insert):
            raise ValueError("a new entry needs user_id and start_utc, and gets its id")
        if any(row.id is UNSET for row in self.update):
            raise ValueError("an update needs the id")


class Workspace:
    """All rows of the workspace, by id."""

    def __init__(self, *, seed: int, days: int, scale: float) -> None:
        if not 0 < scale <= _MOST_SCALE:
            raise ValueError(f"scale must be above 0 and at most {_MOST_SCALE}")
        self.seed = seed
        self.days = days
        count = max(_GROUP, min(_MOST_MEMBERS, round(_GROUP * scale)))
        self.members = {member.id: member for member in map(_member, range(count))}
        self.clients = {client.id: client for client in _clients()}
        self.projects = {project.id: project for project in _projects()}
        self.tags = {tag.id: tag for tag in _tags()}
        self.tasks = {task.id: task for task in _tasks(seed, count)}
        self._streams: dict[str, tuple[dict[int, Any], type[Master]]] = {
            "members": (self.members, Member),
            "clients": (self.clients, Client),
            "projects": (self.projects, Project),
            "tags": (self.tags, Tag),
            "tasks": (self.tasks, Task),
        }
        self._linked = [task for task in self.tasks.values() if task.external_link_caption]
        self._plain = [task for task in self.tasks.values() if not task.external_link_caption]
        self._open = [project.id for project in self.projects.values() if project.status == 1]
        self._tag_sets = _tag_sets()
        self._first_members = tuple(self.members.values())
        self._indexes = {member.id: index for index, member in enumerate(self._first_members)}
        self._usual = max(1, round(_ENTRIES_PER_SCALE * scale / count))
        self._ids_per_day = self._usual + _SPARE_IDS
        self._last_id = _FIRST_ENTRY_ID + days * count * self._ids_per_day
        self._hidden: set[int] = set()
        self._edited: dict[int, Entry] = {}

    def entries(self, member: Member, start: int, end: int, *, overlapping: bool = False) -> list[Entry]:
        """The member's entries that start in `[start, end)`, or only overlap it, by start."""
        first, last = _day_index(member.zone, start), min(_day_index(member.zone, end - 1), self.days - 1)
        if overlapping:
            # A timer that runs since the last day reaches into every later one.
            first = min(first - 1, self.days - 1)
        found = [
            entry
            for day in range(max(first, 0), last + 1)
            for entry in self._base(member, day)
            if _within(entry, start, end, overlapping) and entry.id not in self._hidden
        ]
        edited = [
            entry
            for entry in self._edited.values()
            if entry.user_id == member.id and _within(entry, start, end, overlapping)
        ]
        return sorted(found + edited, key=lambda entry: (entry.start, entry.id)) if edited else found

    def latest(self, member: Member) -> Entry | None:
        """The member's entry that starts last."""
        own = [entry for entry in self._edited.values() if entry.user_id == member.id]
        for day in range(self.days - 1, -1, -1):
            if base := [entry for entry in self._base(member, day) if entry.id not in self._hidden]:
                own.append(base[-1])
                break
        return max(own, key=lambda entry: entry.start, default=None)

    def entry(self, entry_id: int) -> Entry | None:
        """An entry by its id."""
        if entry_id in self._edited or entry_id in self._hidden:
            return self._edited.get(entry_id)
        day, index = divmod((entry_id - _FIRST_ENTRY_ID) // self._ids_per_day, len(self._first_members))
        if not 0 <= day < self.days:
            return None
        base = self._base(self._first_members[index], day)
        return next((entry for entry in base if entry.id == entry_id), None)

    def put(self, entry: Entry) -> None:
        """Store an entry, new or changed."""
        self.remove(entry.id)
        self._edited[entry.id] = entry

    def remove(self, entry_id: int) -> None:
        """Remove an entry without a trace."""
        self._hidden.add(entry_id)
        self._edited.pop(entry_id, None)

    def new_id(self) -> int:
        """An id never given before."""
        self._last_id += 1
        return self._last_id

    def change_entries(self, changes: EntryChanges) -> dict[str, list[int]]:
        """Make the changes, all or none; the ids of the new entries."""
        updated = [self._updated(fields.given()) for fields in changes.update]
        deleted = [self._known(entry_id) for entry_id in changes.delete]
        new = [Entry(self.new_id(), **{"end": None, **fields.given()}) for fields in changes.insert]
        if strangers := {entry.user_id for entry in updated + new} - self.members.keys():
            raise ValueError(f"no members {strangers}")
        for entry in updated + new:
            self.put(entry)
        for entry in deleted:
            self.remove(entry.id)
        return {"inserted": [entry.id for entry in new]}

    def row_change(self, stream: str, payload: dict[str, Any]) -> Change:
        """The change to the rows of `stream` that `payload` describes, checked."""
        rows, kind = self._streams[stream]
        return _change(rows, kind, msgspec.convert(payload, RowChanges))

    def described(self, entry: Entry) -> dict[str, Any]:
        """An entry and all it refers to, flat, in UTC: what a right extract holds of it."""
        task = self.tasks.get(entry.task_id or 0)
        project = self.projects.get(entry.project_id or 0)
        client = self.clients.get((project and project.client_id) or 0)
        return {
            "id": entry.id,
            "user_id": entry.user_id,
            "user_name": self.members[entry.user_id].name,
            "start_utc": iso(entry.start) + "Z",
            "end_utc": None if entry.end is None else iso(entry.end) + "Z",
            "task_id": task and task.id,
            "task_name": task and task.name,
            "task_external_link_caption": task and task.external_link_caption,
            "task_external_link_link": task and task.external_link_link,
            "task_external_link_issue_id": task and task.external_link_issue_id,
            "project_id": project and project.id,
            "project_name": project and project.name,
            "project_status": project and STATUSES[project.status],
            "project_is_billable": project and project.is_billable,
            "project_client_id": client and client.id,
            "project_client_name": client and client.name,
            "note": entry.note,
            "tags": [self.tags[tag_id].name for tag_id in entry.tag_ids if tag_id in self.tags],
            "is_billable": entry.is_billable,
            "is_invoiced": entry.is_invoiced,
        }

    def rows(self, stream: str) -> Iterable[Master]:
        """All rows of members, clients, projects, tags or tasks."""
        rows, _ = self._streams[stream]
        return rows.values()

    def started(self, start: int, end: int) -> Iterator[Entry]:
        """Every member's entries that start in `[start, end)`."""
        for member in self.members.values():
            yield from self.entries(member, start, end)

    def _known(self, entry_id: int) -> Entry:
        entry = self.entry(entry_id)
        if entry is None:
            raise ValueError(f"no entry {entry_id}")
        return entry

    def _updated(self, given: dict[str, Any]) -> Entry:
        return replace(self._known(given["id"]), **given)

    def _base(self, member: Member, day: int) -> list[Entry]:
        """The entries that start on a day of the member's own calendar, as they were first written."""
        index = self._indexes.get(member.id)
        if index is None:
            return []
        kind = index % _GROUP
        if kind == _LEFT and day > self.days // 2:
            return []
        words = numbers(2 * self._usual + 4, self.seed, "entries", index, day)
        count = max(1, self._usual + words[-1] % 3 - 1)
        first_id = _FIRST_ENTRY_ID + (day * len(self._first_members) + index) * self._ids_per_day
        calendar_day = FIRST_DAY + timedelta(days=day)
        opening, step = at(member.zone, calendar_day, _WORK_STARTS), _WORK_LASTS // count
        quarter = max(1, step // 4)
        entries = [
            self._made(first_id + i, member.id, opening + i * step + words[2 * i] % quarter,
                       2 * quarter + (words[2 * i] >> 16) % quarter, words[2 * i + 1])
            for i in range(count)
        ]  # fmt: skip
        if kind == _RUNNING_TIMER and day == self.days - 1:
            entries[-1].end = None
        if kind in _AT_NIGHT:
            second, lasts = _AT_NIGHT[kind]
            night = self._made(first_id + count, member.id, at(member.zone, calendar_day, second), lasts, words[-2])
            entries.insert(0 if second < _WORK_STARTS else count, night)
        return entries

    def _made(self, entry_id: int, user_id: int, start: int, lasts: int, word: int) -> Entry:
        kind, which = word & 0xFF, word >> 32
        task_id = project_id = None
        if kind < 150:
            task = self._linked[which % len(self._linked)]
            task_id, project_id = task.id, task.project_id
        elif kind < 190:
            task = self._plain[which % len(self._plain)]
            task_id, project_id = task.id, task.project_id
        elif kind < 230:
            project_id = self._open[which % len(self._open)]
        return Entry(
            entry_id, user_id, start, start + lasts, task_id, project_id,
            _NOTES[(word >> 8) & 0xF], self._tag_sets[(word >> 12) & 7],
            (word >> 16) & 3 != 0, (word >> 18) & 7 == 0, (word >> 21) & 1 == 0,
        )  # fmt: skip


def _within(entry: Entry, start: int, end: int, overlapping: bool) -> bool:
    if overlapping:
        return entry.start < end and (entry.end is None or entry.end > start)
    return start <= entry.start < end


def _day_index(zone: str, moment: int) -> int:
    return (moment + offset(zone, moment)) // DAY - (FIRST_DAY - date(1970, 1, 1)).days


def _change(rows: dict[int, Row], kind: type[Row], changes: RowChanges) -> Change:
    inserted = [msgspec.convert(fields, kind) for fields in changes.insert]
    for fields in changes.update:
        _updated(rows, kind, fields)
    if unknown := set(changes.delete) - rows.keys():
        raise ValueError(f"no rows {unknown}")
    return partial(_make_change, rows, kind, changes, inserted)


def _make_change(rows: dict[int, Row], kind: type[Row], changes: RowChanges, inserted: list[Row]) -> dict[str, int]:
    updated = [_updated(rows, kind, fields) for fields in changes.update]
    rows |= {row.id: row for row in [*updated, *inserted]}
    for row_id in changes.delete:
        del rows[row_id]
    return {"rows": len(rows)}


def _updated(rows: dict[int, Row], kind: type[Row], fields: dict[str, Any]) -> Row:
    known = asdict(rows[fields["id"]])
    if unknown := fields.keys() - known.keys():
        raise ValueError(f"no such fields: {', '.join(sorted(unknown))}")
    return msgspec.convert({**known, **fields}, kind)


def _member(index: int) -> Member:
    kind, group = index % _GROUP, index // _GROUP
    new_york = kind == _NEW_YORK
    windows = "Eastern Standard Time" if new_york else "Tokyo Standard Time"
    zone = "America/New_York" if new_york else "Asia/Tokyo"
    return Member(
        id=CALLER_ID + index,
        account_member_id=52_000 + index,
        name=_NAMES[kind] if group == 0 else f"{_NAMES[kind]} {group + 1}",
        email=f"member{index + 1}@example.com",
        zone=zone,
        zone_id=zone if index % 2 == 0 else windows,
        role=3 if index == 0 else 2 if kind == 1 else 0,
        is_locked=kind == _LEFT,
        team_id=list(TEAMS)[index % len(TEAMS)],
    )


def _clients() -> list[Client]:
    names = ("ACME", "株式会社さくら", "Umbrella, Inc.", 'Hotel "Grand"')
    return [Client(id=21 + i, name=name) for i, name in enumerate(names)]


def _projects() -> list[Project]:
    rows = (
        ("Demo site", "DEMO", 21, 1, True),
        ("ネットショップ", "SHOP", 22, 1, True),
        ("Infrastructure", "INFRA", None, 1, False),
        ("Support", "SUP", 23, 1, True),
        ("社内業務", "INT", None, 1, False),
        ("Sales", "SALES", 24, 1, False),
        ("Migration 2025", "MIG", 21, 2, True),
        ("旧サイト", "OLD", 22, 3, False),
    )
    return [
        Project(id=81 + i, name=name, code=code, client_id=client_id, status=status, is_billable=billable)
        for i, (name, code, client_id, status, billable) in enumerate(rows)
    ]


def _tags() -> list[Tag]:
    names = ("Development", "会議", "Design", "urgent", "remote", "在宅")
    return [Tag(id=41 + i, name=name, is_work_type=i < 3) for i, name in enumerate(names)]


def _tag_sets() -> tuple[tuple[int, ...], ...]:
    return (), (), (41,), (42,), (43,), (41, 44), (42, 45, 46), (46,)


def _tasks(seed: int, members: int) -> list[Task]:
    linked = [
        (project, f"{ISSUE_PROJECTS[project]}-{number}")
        for project in range(len(ISSUE_PROJECTS))
        for number in range(1, ISSUES_PER_PROJECT + 1)
    ]
    plain = [(3 + i % 5, None) for i in range(60)]
    words = numbers(len(linked) + len(plain), seed, "tasks")
    return [
        _task(31_001 + i, 81 + project, key, words[i], members)
        for i, (project, key) in enumerate([*linked, *plain])
    ]  # fmt: skip


def _task(task_id: int, project_id: int, key: str | None, word: int, members: int) -> Task:
    created = at("UTC", FIRST_DAY) - word % (120 * DAY)
    due = FIRST_DAY + timedelta(days=(word >> 24) % 60 - 20)
    return Task(
        id=task_id,
        name=f"{_VERBS[(word >> 8) % len(_VERBS)]} {_THINGS[(word >> 12) % len(_THINGS)]}",
        project_id=project_id,
        creator_id=CALLER_ID + (word >> 16) % members,
        assignee_id=None if (word >> 20) % 4 == 0 else CALLER_ID + (word >> 32) % members,
        external_link_caption=key,
        external_link_link=key and f"https://example.backlog.com/view/{key}",
        external_link_issue_id=key if task_id % 2 else None,
        is_completed=(word >> 40) % 3 == 0,
        created=created,
        modified=created + (word >> 42) % (30 * DAY),
        due_date=None if (word >> 48) % 3 == 0 else due.isoformat(),
        estimated_minutes=None if (word >> 50) % 2 == 0 else 30 * (1 + (word >> 52) % 16),
    )
