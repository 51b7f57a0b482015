"""Fxiaoke's simulated tenant: all rows of all objects, with the changes made since they were first written.

Per data day there are 80 x scale inventory reports, 30 x scale customers and as many contacts, 40 x scale
orders with two lines each on average (6 of each at least); one of forty lies in the recycle bin. Besides,
120 products, 40 employees and 8 departments. Instants are epoch milliseconds.

The tenant's own time is never before the end of its data: what changes now changes after all data days.
"""

from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import Any

import msgspec

from etl_assets.sandbox.fxiaoke.base import DAY, START, Base, Head, seconds_id, system_fields
from etl_assets.sandbox.fxiaoke.fields import OBJECTS, PEOPLE, CrmObject, Row
from etl_assets.sandbox.fxiaoke.people import ADMIN, People
from etl_assets.sandbox.fxiaoke.rows import (
    Accounts,
    Contacts,
    Departments,
    Inventory,
    OrderLines,
    Orders,
    Personnel,
    Products,
)
from etl_assets.sandbox.vendor import Change, Clock
from etl_assets.sandbox.world import numbers

FOREVER = 1 << 62

_MOST_SCALE = 100_000
_SCRAMBLE = 2_654_435_761
_EDITED = 1 << 33
_INSERTED_COUNTERS = 0xF000_0000  # above all indexes


class Changes(msgspec.Struct, forbid_unknown_fields=True):
    """Changes to the rows of one object that no user made: nothing is checked but names of fields.

    Fields of the tenant's own may be new ones, names that end in `__c`. A row that is changed gets a newer
    `version`, and a newer `last_modified_time` unless one is given.
    """

    object: str
    insert: list[dict[str, Any]] = []
    update: list[dict[str, Any]] = []
    delete: list[str] = []
    invalidate: list[str] = []


class Table:
    """The rows of one object: those of `base`, and the changes over them."""

    def __init__(self, kind: CrmObject, base: Base) -> None:
        self.kind = kind
        self.version = 0
        self._base = base
        self._hidden: set[str] = set()
        self._edited: dict[str, Row] = {}
        self._order: dict[str, int] = {}

    def heads(self, start: int, end: int, *, invalid: bool) -> Iterator[Head]:
        """At least the rows last modified in `[start, end]`; those in the recycle bin only if asked for."""
        for head in self._base.heads(start, end):
            if head[1] not in self._hidden and (invalid or not self._base.is_invalid(head[3])):
                yield head
        for row in self._edited.values():
            if invalid or row["life_status"] != "invalid":
                yield row["last_modified_time"], row["_id"], row["create_time"], -1

    def row(self, head: Head) -> Row:
        """All fields of a row; not to be changed."""
        return self._edited.get(head[1]) or self._base.row(head)

    def get(self, row_id: str) -> Row | None:
        """A row by its id, also from the recycle bin; not to be changed."""
        if row_id in self._edited or row_id in self._hidden:
            return self._edited.get(row_id)
        head = self._base.find(row_id)
        return None if head is None else self._base.row(head)

    def position(self, head: Head) -> int:
        """Where a row is stored: by neither id nor time, and at the very end once it was changed."""
        if head[1] in self._edited:
            return _EDITED + self._order[head[1]]
        return head[3] * _SCRAMBLE & 0xFFFF_FFFF

    def put(self, row: Row) -> None:
        """Store a row, new or changed."""
        self.remove(row["_id"])
        self._edited[row["_id"]] = row
        self._order[row["_id"]] = self.version

    def remove(self, row_id: str) -> None:
        """Remove a row without a trace."""
        self.version += 1
        self._hidden.add(row_id)
        self._edited.pop(row_id, None)


class Tenant:
    """All objects of the tenant, and its people."""

    def __init__(self, *, seed: int, days: int, scale: float, clock: Clock) -> None:
        if not 0 < scale <= _MOST_SCALE:
            raise ValueError(f"scale must be above 0 and at most {_MOST_SCALE}")
        self.people = People(seed)
        self.end = START + days * DAY
        self._clock = clock
        self._seed = seed
        self._inserted = 0
        self._accounts = Accounts(seed, days, round(30 * scale), self.people)
        contacts = Contacts(self._accounts, round(30 * scale), self.people, seed=seed)
        orders = Orders(self._accounts, contacts, round(40 * scale), self.people, seed=seed)
        products = Products(seed, days, self.people)
        bases: tuple[Base, ...] = (
            self._accounts,
            contacts,
            orders,
            OrderLines(orders, products, self.people, seed=seed),
            products,
            Personnel(seed, days, self.people),
            Departments(seed, days, self.people),
            Inventory(self._accounts, round(80 * scale), self.people, seed=seed),
        )
        self.tables = {base.name: Table(OBJECTS[base.name], base) for base in bases}

    def now(self) -> int:
        """The tenant's time."""
        return max(int(self._clock.now() * 1000), self.end)

    def name_of(self, object_name: str, row_id: str) -> str | None:
        """The name of a row that others refer to."""
        if object_name == self._accounts.name and not self.tables[object_name].version:
            head = self._accounts.find(row_id)
            return None if head is None else self._accounts.named(head[3])
        row = self.tables[object_name].get(row_id)
        return None if row is None else row.get("name")

    def new_row(self, kind: CrmObject, owner_id: str, given: Mapping[str, Any]) -> Row:
        """A row made now by its owner, with `given` fields over what all rows have."""
        now = self.now()
        created = given.get("create_time", now)
        self._inserted += 1
        counter = _INSERTED_COUNTERS + self._inserted
        row_id = given.get("_id") or seconds_id(created, numbers(1, self._seed, kind.name)[0], counter)
        owner = self.people.employees.get(owner_id) or self.people.employees[ADMIN]
        return {
            **dict.fromkeys(kind.fields),
            **system_fields(kind.name, row_id, owner, self.people.departments[owner.department_id]),
            "created_by": [owner.id],
            "create_time": created,
            "last_modified_by": [owner.id],
            "last_modified_time": created if "create_time" in given else now,
            **given,
            "_id": row_id,
        }

    def changed(self, row: Row, given: Mapping[str, Any]) -> Row:
        """`row` with `given` fields, as somebody saves it now."""
        number = int(row["version"]) + 1
        version = number if isinstance(row["version"], int) else str(number)
        return {**row, "last_modified_time": self.now(), "version": version, **given}

    def invalidated(self, row: Row) -> Row:
        """`row` moved to the recycle bin."""
        before = row["life_status"]
        bin_fields = {"life_status": "invalid", "life_status_before_invalid": before, "is_deleted": True}
        return row if before == "invalid" else self.changed(row, bin_fields)

    def change(self, changes: Changes) -> Change:
        """The changes, checked, to be made later, all or none."""
        if changes.object not in self.tables:
            raise ValueError(f"no object {changes.object}")
        table = self.tables[changes.object]
        for fields in (*changes.insert, *changes.update):
            _check_names(table.kind, fields)
        if known := [fields["_id"] for fields in changes.insert if "_id" in fields and table.get(fields["_id"])]:
            raise ValueError(f"rows {known} are there already")
        self._changed_rows(table, changes)
        return partial(self._make, table, changes)

    def _make(self, table: Table, changes: Changes) -> dict[str, list[str]]:
        changed = self._changed_rows(table, changes)
        new = [
            self.new_row(table.kind, next(iter(fields.get("owner") or []), ADMIN), self._internal(table.kind, fields))
            for fields in changes.insert
        ]
        for row in (*changed, *new):
            table.put(row)
        for row_id in changes.delete:
            table.remove(row_id)
        return {"inserted": [row["_id"] for row in new]}

    def _changed_rows(self, table: Table, changes: Changes) -> list[Row]:
        for row_id in changes.delete:
            _known(table, row_id)
        updated = [
            self.changed(_known(table, fields["_id"]), self._internal(table.kind, fields)) for fields in changes.update
        ]
        return updated + [self.invalidated(_known(table, row_id)) for row_id in changes.invalidate]

    def _internal(self, kind: CrmObject, fields: Mapping[str, Any]) -> Row:
        return {name: self.internal(kind, name, value) for name, value in fields.items()}

    def internal(self, kind: CrmObject, name: str, value: Any) -> Any:
        """A value with the CRM's own ids of people."""
        field = kind.fields.get(name)
        if field is None or field.type not in PEOPLE or not isinstance(value, list):
            return value
        return [self.people.internal(str(person)) for person in value]


def _known(table: Table, row_id: str) -> Row:
    row = table.get(row_id)
    if row is None:
        raise ValueError(f"no row {row_id} in {table.kind.name}")
    return row


def _check_names(kind: CrmObject, fields: Iterable[str]) -> None:
    unknown = [name for name in fields if name not in kind.fields and not name.removesuffix("__o").endswith("__c")]
    if unknown:
        raise ValueError(f"{kind.name} has no fields {', '.join(sorted(unknown))}")
