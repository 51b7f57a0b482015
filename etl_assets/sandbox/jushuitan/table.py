"""Rows of one kind by key, time of change and row version: computed base rows under the edits made to them.

Base rows are numbered in the order of their `modified`, are made when asked for and never stored. What the
rows say belongs to `jushuitan_data` and `jushuitan_sales`, how they are asked for to `jushuitan_query`.

Moments are Beijing wall clock text, `2026-01-05 23:59:59`, whose order is that of time.
"""

import re
from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from itertools import count
from typing import Any

import msgspec

from etl_assets.sandbox.vendor import Change

Row = dict[str, Any]

FAR = "9999-12-31 23:59:59"

_MOMENT = re.compile(r"\d{4}-\d{2}-\d{2} \d{2}:\d{2}:\d{2}")
_FIRST_VERSION = 4_000_000_000
_STEP = 32  # versions of base rows are this far apart, so that two tables never share one


class RowChanges(msgspec.Struct, forbid_unknown_fields=True):
    """Changes to rows, all or none; an update names the key and what changes.

    A key of two fields is a list of both in `delete`. `remove_item` takes the key of the row, that of the
    item, and perhaps the new `modified`. Every change gives the row a new version, but `modified` only
    changes where it is given, and a deleted row leaves no trace.
    """

    insert: list[Row] = []
    update: list[Row] = []
    delete: list[Any] = []
    remove_item: list[Row] = []


@dataclass(frozen=True)
class Base:
    """The rows a table starts with: keys in the order of `modified`, which `moment` gives without the row."""

    keys: Sequence[Any]
    moment: Callable[[int], str]
    make: Callable[[int], Row]


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What rows of one kind have: the fields of their key, and every field with its value in an empty row.

    `items` are lists in a row: the key and the empty row of their items. `of_order` gives the key of the base
    row that belongs to an order.
    """

    key: tuple[str, ...]
    blank: Row
    items: Mapping[str, tuple[str, Row]] = field(default_factory=dict)
    of_order: Callable[[int], Any] | None = None


class Versions:
    """The row versions of the database, which rise with every change to any table."""

    def __init__(self, base_rows: int) -> None:
        self._next = count(_FIRST_VERSION + _STEP * (base_rows + 1))

    def next(self) -> int:
        """A version higher than all before."""
        return next(self._next)


@dataclass(frozen=True, slots=True)
class _Edit:
    version: int
    row: Row


class Table:
    """Rows of one kind. A caller must not change a row that it is given."""

    def __init__(self, kind: Kind, base: Base, versions: Versions, *, place: int) -> None:
        """`place` tells the versions of this table's base rows from those of other tables."""
        self.kind = kind
        self.changes = 0
        self._base = base
        self._versions = versions
        self._first_version = _FIRST_VERSION + place
        self._numbers = {} if isinstance(base.keys, range) else {key: n for n, key in enumerate(base.keys)}
        self._edits: dict[Any, _Edit] = {}
        self._gone: set[Any] = set()
        self._last_key = max((key for key in (base.keys[-1:] or [0]) if isinstance(key, int)), default=0)

    def key_of(self, row: Mapping[str, Any]) -> Any:
        """The key of a row."""
        fields = self.kind.key
        return row[fields[0]] if len(fields) == 1 else tuple(row[name] for name in fields)

    def row(self, key: Any) -> Row | None:
        """A row by its key."""
        if edit := self._edits.get(key):
            return edit.row
        number = self._number(key)
        return None if number is None or key in self._gone else self._made(number)

    def version(self, key: Any) -> int:
        """The version of a row that exists."""
        edit = self._edits.get(key)
        return edit.version if edit else self._base_version(self._number(key) or 0)

    def select(self, begin: str, end: str, version: int | None = None) -> Sequence[Any]:
        """Keys of rows modified in `[begin, end]`, oldest first; from `version` on, in the order of versions."""
        numbers = range(len(self._base.keys))
        low = bisect_left(numbers, begin, key=self._base.moment)
        high = bisect_right(numbers, end, key=self._base.moment)
        if version is not None:
            low = max(low, -((self._first_version - version) // _STEP))
        base = self._base.keys[low:high]
        if self._gone:
            base = [key for key in base if key not in self._gone]
        edits = [
            key
            for key, edit in self._edits.items()
            if begin <= edit.row.get("modified", begin) <= end and (version is None or edit.version >= version)
        ]
        return self._merged(base, edits, by_version=version is not None) if edits else base

    def age(self, key: Any) -> tuple[str, int]:
        """When a row was modified, and its version: what orders rows by time."""
        edit = self._edits.get(key)
        if edit:
            return edit.row.get("modified", FAR), edit.version
        number = self._number(key) or 0
        return self._base.moment(number), self._base_version(number)

    def edited(self) -> list[Any]:
        """Keys of all rows that were inserted or changed."""
        return list(self._edits)

    def all(self) -> Sequence[Any]:
        """The keys of all rows, the least recently modified first."""
        return self.select("", FAR)

    def change(self, changes: RowChanges) -> Change:
        """The change described, checked now and, as rows may be others by then, again when it is made."""
        self._plan(changes)
        return partial(self._commit, changes)

    def settle(self, rows: Mapping[Any, Row | None]) -> Mapping[Any, Row | None]:
        """Rows about to be stored, or None for removed ones, with what else changes because of them."""
        return rows

    def _commit(self, changes: RowChanges) -> dict[str, Any]:
        planned = self._plan(changes)
        for key, row in self.settle(planned).items():
            self._gone.add(key)
            self._edits.pop(key, None)
            if row is not None:
                version = self._versions.next()
                self._edits[key] = _Edit(version, self._stamped(row, version))
                self._last_key = max(self._last_key, key) if isinstance(key, int) else self._last_key
        self.changes += 1
        return {"inserted": list(planned)[: len(changes.insert)]}

    def _plan(self, changes: RowChanges) -> dict[Any, Row | None]:
        planned: dict[Any, Row | None] = {}
        for number, fields in enumerate(changes.insert, 1):
            row = self._new(fields, number)
            key = self.key_of(row)
            if key in planned or self.row(key) is not None:
                raise ValueError(f"{key} exists")
            planned[key] = row
        for fields in changes.update:
            key = self.key_of(fields)
            planned[key] = self._filled({**self._known(key, planned), **fields}, self.kind.blank)
        for fields in changes.remove_item:
            key = self.key_of(fields)
            planned[key] = self._without_item(self._known(key, planned), fields)
        for key in map(_hashable, changes.delete):
            self._known(key, planned)
            planned[key] = None
        return planned

    def _known(self, key: Any, planned: Mapping[Any, Row | None]) -> Row:
        row = planned[key] if key in planned else self.row(key)
        if row is None:
            raise ValueError(f"no row {key}")
        return row

    def _new(self, fields: Row, number: int) -> Row:
        """A row of the given fields: `created` and other dates default to `modified`, a numeric key to a new one."""
        row = {**self.kind.blank, **fields}
        (key, *more) = self.kind.key
        if key not in fields and not more and isinstance(self.kind.blank[key], int):
            row[key] = self._last_key + number
        if missing := [name for name in self.kind.key if row[name] in (None, "")]:
            raise ValueError(f"a new row needs {', '.join(missing)}")
        if "modified" in row and row.get("created", "") is None:
            row["created"] = row["modified"]
        return self._filled(row, self.kind.blank)

    def _filled(self, row: Row, blank: Row) -> Row:
        """`row` with complete items, if it has only known fields and a real `modified`."""
        if unknown := row.keys() - blank.keys():
            raise ValueError(f"no such fields: {', '.join(sorted(unknown))}")
        if "modified" in blank and read_moment(row["modified"]) is None:
            raise ValueError("modified must be like 2026-01-05 00:00:00")
        for name, (key, empty) in self.kind.items.items():
            if isinstance(row[name], list):
                own = {part: row[part] for part in self.kind.key if part in empty}
                row[name] = [{**self._item(item, key, empty), **own} for item in row[name]]
        return row

    def _item(self, fields: Row, key: str, empty: Row) -> Row:
        if unknown := fields.keys() - empty.keys():
            raise ValueError(f"no such fields: {', '.join(sorted(unknown))}")
        return {**empty, **({} if key in fields else {key: self._versions.next()}), **fields}

    def _without_item(self, row: Row, fields: Row) -> Row:
        for name, (key, _) in self.kind.items.items():
            left = [item for item in row[name] if item[key] != fields.get(key)]
            if len(left) < len(row[name]):
                return self._filled({**row, name: left, "modified": fields.get("modified", row["modified"])}, row)
        raise ValueError(f"no item like {fields}")

    def _merged(self, base: Sequence[Any], edits: Iterable[Any], *, by_version: bool) -> list[Any]:
        if by_version:
            return [*base, *sorted(edits, key=self.version)]
        merged = list(base)
        for key in sorted(edits, key=self.age):
            insort(merged, key, key=self.age)
        return merged

    def _number(self, key: Any) -> int | None:
        keys = self._base.keys
        if isinstance(keys, range):
            return keys.index(key) if isinstance(key, int) and key in keys else None
        return self._numbers.get(key)

    def _made(self, number: int) -> Row:
        return self._stamped(self._base.make(number), self._base_version(number))

    def _base_version(self, number: int) -> int:
        return self._first_version + _STEP * number

    def _stamped(self, row: Row, version: int) -> Row:
        """`row` with its version, which some kinds of rows show as text and some not at all."""
        if "ts" in self.kind.blank:
            row["ts"] = type(self.kind.blank["ts"])(version)
        return row


class Tables(Mapping[str, Table]):
    """Tables by name, each made when it is first asked for."""

    def __init__(self, makers: Mapping[str, Callable[..., Table]]) -> None:
        """A maker takes the `place` of its table."""
        self._makers = makers
        self._places = {name: place for place, name in enumerate(makers)}
        self._made: dict[str, Table] = {}

    def __getitem__(self, name: str) -> Table:
        if name not in self._made:
            self._made[name] = self._makers[name](place=self._places[name])
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._makers)

    def __len__(self) -> int:
        return len(self._makers)


def read_moment(text: object) -> datetime | None:
    """The moment that `text` names, if it is written as the API demands."""
    if not isinstance(text, str) or not _MOMENT.fullmatch(text):
        return None
    try:
        return datetime.strptime(text, "%Y-%m-%d %H:%M:%S")  # noqa: DTZ007  Beijing time, as all moments here
    except ValueError:
        return None


def _hashable(key: Any) -> Any:
    return tuple(key) if isinstance(key, list) else key
