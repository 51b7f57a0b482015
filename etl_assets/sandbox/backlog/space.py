"""Backlog's space: its people and projects, and what issues are filed under.

People are 20 x scale (20 at least, 1,000 at most), named and mailed as TMetric's members are: one of 20 was
deleted and lives on as the author of old issues, one is a guest who lacks fields, one has them null.
Projects DEMO, SHOP and INFRA are alive, OLD is archived, and SALES has members but not the caller.

Wide lists of rows (issues, wikis, activities) belong to other modules.
"""

from collections.abc import Iterable, Mapping
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar

import msgspec
from msgspec.structs import asdict

from etl_assets.sandbox.times import DAY, at
from etl_assets.sandbox.vendor import Change
from etl_assets.sandbox.world import FIRST_DAY, ISSUE_PROJECTS

ZONE = "Asia/Tokyo"
CALLER_ID = 1001
FIRST_PROJECT_ID = 101
ARCHIVED_ID, HIDDEN_ID = 104, 105
OPEN, RESOLVED, CLOSED = 1, 3, 4

TEXT, AREA, NUMBER, DATE, SINGLE, MULTIPLE, CHECKBOX, RADIO = range(1, 9)
ONE_ITEM, MANY_ITEMS = frozenset({SINGLE, RADIO}), frozenset({MULTIPLE, CHECKBOX})

PRIORITIES = {2: "高", 3: "中", 4: "低"}
RESOLUTIONS = {0: "対応済み", 1: "対応しない", 2: "無効", 3: "重複", 4: "再現しない"}

_GROUP = 20
_MOST_PEOPLE = 1_000
_NULL, _FORMER, _GUEST = 17, 18, 19  # by place in a group of 20
_NAMES = (
    "Rin Aoki", "佐藤 健", "鈴木 美咲", "Takahashi Yui", "田中 大輔",
    "Watanabe Ren", "伊藤 さくら", "山本 翔", "Nakamura Hina", "小林 直樹",
    "加藤 愛", "Yoshida Sota", "山田 花子", "佐々木 蓮", "Yamaguchi Mio",
    "松本 剛", "井上 結衣", "Kimura Aoi", "林 拓也", "Dana O'Neil",
)  # fmt: skip


class Master(msgspec.Struct, kw_only=True):
    """What all rows of master data have in common."""

    id: int


class Person(Master, kw_only=True):
    """A user. A `sparse` one leaves out what it does not have; a `former` one is in no list any more."""

    name: str
    user_id: str | None = None
    role_type: int = 2
    lang: str | None = None
    mail_address: str | None = None
    nulab_id: str | None = None
    last_login: int | None = None
    sparse: bool = False
    former: bool = False


class Project(Master, kw_only=True):
    """A project; only its members see it."""

    key: str
    name: str
    archived: bool = False
    text_formatting_rule: str = "markdown"
    members: frozenset[int] = frozenset()


class Status(Master, kw_only=True):
    """A state of issues. 1 to 4 are the same everywhere, others belong to one project."""

    project_id: int
    name: str
    color: str


class IssueType(Master, kw_only=True):
    """A kind of issue in one project."""

    project_id: int
    name: str
    color: str = "#7ea800"
    template_summary: str | None = None
    template_description: str | None = None


class Category(Master, kw_only=True):
    """A category in one project."""

    project_id: int
    name: str


class Version(Master, kw_only=True):
    """A version in one project, which is a milestone too. Its dates are texts such as 2026-01-05."""

    project_id: int
    name: str
    description: str | None = None
    start_date: str | None = None
    release_due_date: str | None = None
    archived: bool = False


class CustomField(Master, kw_only=True):
    """A field that a project gave its issues; `items` are the choices of a list by id."""

    project_id: int
    type_id: int
    name: str
    items: dict[int, str] = {}


class Value(msgspec.Struct, frozen=True):
    """What an issue holds in a custom field: text, number, date as text, or ids of items."""

    field_id: int
    value: str | int | float | tuple[int, ...] | None
    other: str | None = None


class RowChanges(msgspec.Struct, forbid_unknown_fields=True):
    """Changes to master data; an update names the id and what changes."""

    insert: list[dict[str, Any]] = []
    update: list[dict[str, Any]] = []
    delete: list[int] = []


Row = TypeVar("Row", bound=Master)


class Space:
    """All master data, by id."""

    def __init__(self, scale: float) -> None:
        count = max(_GROUP, min(_MOST_PEOPLE, round(_GROUP * scale)))
        self.users = _by_id(map(_person, range(count)))
        self.projects = _by_id(_projects(self.users.values()))
        self.statuses = {project_id: _by_id(_statuses(project_id)) for project_id in self.projects}
        self.issue_types = _by_id(row for project_id in self.projects for row in _issue_types(project_id))
        self.categories = _by_id(_categories())
        self.versions = _by_id(_versions())
        self.custom_fields = _by_id(_custom_fields())
        self._changeable: dict[str, tuple[dict[int, Any], type[Master]]] = {
            "users": (self.users, Person),
            "projects": (self.projects, Project),
            "categories": (self.categories, Category),
            "versions": (self.versions, Version),
        }

    @property
    def changeable(self) -> Iterable[str]:
        """The streams whose rows can be changed."""
        return self._changeable

    def joined(self, user_id: int) -> frozenset[int]:
        """The projects of which the user is a member."""
        return frozenset(project.id for project in self.projects.values() if user_id in project.members)

    def project(self, id_or_key: str) -> Project | None:
        """A project by its id or key."""
        if id_or_key.isdecimal():
            return self.projects.get(int(id_or_key))
        return next((project for project in self.projects.values() if project.key == id_or_key), None)

    def values(self, project_id: int) -> tuple[tuple[Value, ...], ...]:
        """Examples of what custom fields of a project hold, of every kind."""
        fields = [field for field in self.custom_fields.values() if field.project_id == project_id]
        return tuple(tuple(_value(field, variant) for field in fields) for variant in range(60 if fields else 1))

    def row_change(self, stream: str, payload: dict[str, Any]) -> Change:
        """The change to the rows of `stream` that `payload` describes, checked."""
        rows, kind = self._changeable[stream]
        changes = msgspec.convert(payload, RowChanges)
        inserted = [msgspec.convert(fields, kind) for fields in changes.insert]
        for fields in changes.update:
            _updated(rows, kind, fields)
        if unknown := set(changes.delete) - rows.keys():
            raise ValueError(f"no rows {unknown}")
        return partial(_make_change, rows, kind, changes, inserted)


def of_project(rows: Mapping[int, Any], project_id: int) -> list[Any]:
    """The rows that belong to a project."""
    return [row for row in rows.values() if row.project_id == project_id]


def _by_id(rows: Iterable[Row]) -> dict[int, Row]:
    return {row.id: row for row in rows}


def _make_change(rows: dict[int, Row], kind: type[Row], changes: RowChanges, inserted: list[Row]) -> dict[str, int]:
    updated = [_updated(rows, kind, fields) for fields in changes.update]
    rows |= _by_id([*updated, *inserted])
    for row_id in changes.delete:
        del rows[row_id]
    return {"rows": len(rows)}


def _updated(rows: dict[int, Row], kind: type[Row], fields: dict[str, Any]) -> Row:
    if fields.get("id") not in rows:
        raise ValueError(f"no row {fields.get('id')}")
    known = asdict(rows[fields["id"]])
    if unknown := fields.keys() - known.keys():
        raise ValueError(f"no such fields: {', '.join(sorted(unknown))}")
    return msgspec.convert({**known, **fields}, kind)


def _person(index: int) -> Person:
    group, kind = divmod(index, _GROUP)
    name = _NAMES[kind] if group == 0 else f"{_NAMES[kind]} {group + 1}"
    user_id = CALLER_ID + index
    if kind == _FORMER:
        return Person(id=user_id, name=name, former=True)
    if kind == _NULL:
        return Person(id=user_id, name=name, user_id=f"user{index + 1}", lang="ja")
    if kind == _GUEST:
        return Person(id=user_id, name=name, role_type=5, lang="en", sparse=True)
    return Person(
        id=user_id,
        name=name,
        user_id=f"user{index + 1}",
        role_type=1 if index == 0 else 2,
        lang=("ja", "en", None)[index % 3],
        mail_address=f"member{index + 1}@example.com",
        nulab_id=f"nulab{index + 1:05}",
        last_login=None if kind == 3 else at(ZONE, FIRST_DAY) - index % 30 * DAY + index * 61,
    )


def _projects(people: Iterable[Person]) -> list[Project]:
    everybody = frozenset(person.id for person in people if not person.former)
    names = dict(zip(ISSUE_PROJECTS, ("Demo site", "ネットショップ", "Infrastructure"), strict=True))
    rows = [
        Project(
            id=FIRST_PROJECT_ID + i,
            key=key,
            name=names[key],
            text_formatting_rule="backlog" if i == 1 else "markdown",
            members=everybody,
        )
        for i, key in enumerate(ISSUE_PROJECTS)
    ]
    few = frozenset(range(CALLER_ID, CALLER_ID + 5))
    return [
        *rows,
        Project(id=ARCHIVED_ID, key="OLD", name="旧サイト", archived=True, members=few),
        Project(id=HIDDEN_ID, key="SALES", name="Sales", members=few - {CALLER_ID}),
    ]


def _statuses(project_id: int) -> list[Status]:
    usual = ("未対応", "#ed8077"), ("処理中", "#4488c5"), ("処理済み", "#5eb5a6"), ("完了", "#b0be3c")
    rows = [Status(id=i, project_id=project_id, name=name, color=color) for i, (name, color) in enumerate(usual, 1)]
    own = Status(id=project_id * 200 + 1, project_id=project_id, name="レビュー待ち", color="#f42858")
    return [*rows[:2], own, *rows[2:]]


def _issue_types(project_id: int) -> list[IssueType]:
    rows = ("タスク", "#7ea800"), ("バグ", "#990000"), ("要望", "#ff9200"), ("その他", "#2779ca")
    return [
        IssueType(
            id=project_id * 300 + i,
            project_id=project_id,
            name=name,
            color=color,
            template_summary="[bug] " if i == 1 else None,
            template_description="再現手順:\n1. \n2. " if i == 1 else None,
        )
        for i, (name, color) in enumerate(rows)
    ]


def _categories() -> list[Category]:
    rows = {101: ("フロントエンド", "Backend", "Docs, etc."), 102: ("在庫", "決済"), 103: ()}
    return [
        Category(id=project_id * 400 + i, project_id=project_id, name=name)
        for project_id, names in rows.items()
        for i, name in enumerate(names)
    ]


def _versions() -> list[Version]:
    start = (FIRST_DAY - timedelta(days=35)).isoformat()
    release = (FIRST_DAY + timedelta(days=25)).isoformat()
    rows: tuple[dict[str, Any], ...] = (
        {"name": "1.0", "description": "最初の版", "start_date": "2025-07-01", "archived": True},
        {"name": "2.0", "description": "", "start_date": start, "release_due_date": release},
        {"name": "バックログ"},
    )
    return [
        Version(id=project_id * 500 + i, project_id=project_id, **fields)
        for project_id in (101, 102)
        for i, fields in enumerate(rows)
    ]


def _custom_fields() -> list[CustomField]:
    places = {1: "東", 2: "西", 3: "North, East"}
    kinds: tuple[tuple[int, str, dict[int, str]], ...] = (
        (TEXT, "型番", {}),
        (AREA, "備考", {}),
        (NUMBER, "金額", {}),
        (DATE, "納品日", {}),
        (SINGLE, "地域", places),
        (MULTIPLE, "担当拠点", places),
        (CHECKBOX, "環境", {1: "iOS", 2: "Android", 3: "Web"}),
        (RADIO, "影響", {1: "大", 2: "小"}),
    )
    return [
        CustomField(id=9 * project_id + type_id, project_id=project_id, type_id=type_id, name=name, items=items)
        for project_id, types in ((101, range(1, 9)), (102, (NUMBER, SINGLE, MULTIPLE)))
        for type_id, name, items in kinds
        if type_id in types
    ]


_VALUES: dict[int, tuple[Any, ...]] = {
    TEXT: (None, "A-101", 'say "hi", ok', "型番\t7"),
    AREA: (None, "", "line 1\nline 2", "長い備考、その一。", "=1+1"),
    NUMBER: (None, 0, 12.5, -3, 1_000_000),
    DATE: (None, "2026-01-31", "2025-12-01"),
    SINGLE: (None, (1,), (3,)),
    MULTIPLE: ((), (1,), (1, 3), (2,)),
    CHECKBOX: ((), (1, 2), (3,)),
    RADIO: (None, (1,), (2,)),
}


def _value(field: CustomField, variant: int) -> Value:
    values = _VALUES[field.type_id]
    other = "その他の環境" if field.type_id in (CHECKBOX, RADIO) and variant % 4 == 1 else None
    return Value(field.id, values[(variant + field.type_id) % len(values)], other)
