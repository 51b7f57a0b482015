"""How rows of Fxiaoke's simulated tenant come to be: ids, times, system fields; spread over days, or few.

Rows are computed when asked for and never stored; a day's *heads* (what windows, orders and ids need) are
kept a while. Rows with an index belong to the data day in which they were last modified, by Shanghai's
clocks. What the rows of each object hold belongs to `fxiaoke_rows`.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from functools import lru_cache

from etl_assets.sandbox.fxiaoke.fields import Row
from etl_assets.sandbox.fxiaoke.people import ADMIN, COMPANY, SYSTEM, TENANT_ID, Department, Employee, People
from etl_assets.sandbox.times import at
from etl_assets.sandbox.world import FIRST_DAY, numbers

Head = tuple[int, str, int, int]
"""When last modified, _id, when created, index."""

SECOND = 1000
DAY = 86_400 * SECOND
START = at("Asia/Shanghai", FIRST_DAY) * SECOND

_KEPT_DAYS = 16
_LEAST_PER_DAY = 6
_INVALID_OF_40 = 17
_OLD_SYSTEM = START - 2_500 * DAY  # rows with ids of the old kind are from before that day
_NOON = DAY // 2
# Where in the day the first rows of each day were modified: at its very edges, and twice in one millisecond.
_MOMENTS = (0, DAY - 1, _NOON, _NOON, 1, _NOON + 123)


def seconds_id(created: int, machine: int, counter: int) -> str:
    """An id of the newer kind: seconds, a machine, a counter."""
    return f"{created // SECOND:08x}{machine & 0xFFFF_FFFF:08x}{counter:08x}"


class Base(ABC):
    """The rows of one object as they were first written."""

    name: str

    @abstractmethod
    def heads(self, start: int, end: int) -> Iterable[Head]:
        """All rows last modified in `[start, end]`, and perhaps others."""

    @abstractmethod
    def find(self, row_id: str) -> Head | None:
        """The row with that id."""

    @abstractmethod
    def row(self, head: Head) -> Row:
        """All fields of a row."""

    def is_invalid(self, index: int) -> bool:
        """Whether the row lies in the recycle bin."""
        return False


class Daily(Base):
    """Rows spread over the data days, so many in each."""

    stride = 6
    """Numbers that `row` needs for one row."""
    has_old_ids = True

    def __init__(self, name: str, seed: int, days: int, per_day: int) -> None:
        self.name = name
        self.days = days
        self._seed = seed
        self._per_day = max(_LEAST_PER_DAY, per_day)
        self._machine = numbers(1, seed, name, "machine")[0]
        self.day = lru_cache(maxsize=_KEPT_DAYS)(self._day)

    def first(self, day: int) -> int:
        """The index of the first row of a day."""
        return day * self._per_day

    def day_of(self, index: int) -> int:
        """The day that a row belongs to."""
        return index // self._per_day

    def heads(self, start: int, end: int) -> Iterator[Head]:
        """The rows of the days that `[start, end]` touches."""
        first, last = max(0, (start - START) // DAY), min(self.days - 1, (end - START) // DAY)
        for day in range(first, last + 1):
            yield from self.day(day)

    def find(self, row_id: str) -> Head | None:
        """The counter at the end of an id is the index."""
        try:
            index = int(row_id[-8:], 16)
        except ValueError:
            return None
        head = self.head(index)
        return head if head is not None and head[1] == row_id else None

    def head(self, index: int) -> Head | None:
        """A row by its index."""
        day = self.day_of(index)
        return self.day(day)[index - self.first(day)] if 0 <= day < self.days else None

    def neighbour(self, day: int, word: int) -> Head:
        """Some row of a day, for others to refer to."""
        heads = self.day(day)
        return heads[word % len(heads)]

    def is_invalid(self, index: int) -> bool:
        """One row of forty is in the recycle bin, but none from the edges of a day."""
        return index % 40 == _INVALID_OF_40 and index % self._per_day >= len(_MOMENTS)

    def words(self, index: int) -> tuple[int, ...]:
        """The numbers that a row's values follow from."""
        return numbers(self.stride, self._seed, self.name, index)

    def _day(self, day: int) -> list[Head]:
        start, first = START + day * DAY, self.first(day)
        words = numbers(2 * self._per_day, self._seed, self.name, "day", day)
        heads = []
        for number in range(self._per_day):
            moment, word = words[2 * number : 2 * number + 2]
            modified = start + (_MOMENTS[number] if number < len(_MOMENTS) else moment % DAY)
            heads.append(self._head(modified, word, first + number))
        return heads

    def _head(self, modified: int, word: int, index: int) -> Head:
        """Half of the rows were never changed, some on the day they were made, the others much later."""
        age = word >> 8
        if self.has_old_ids and index % 7 == 3:
            return modified, f"{word:016x}{self._machine & 0xFFFF_FFFF:08x}{index:08x}", _OLD_SYSTEM - age % DAY, index
        kind = word & 7
        created = modified - (0 if kind < 4 else age % (DAY // 4) if kind < 6 else DAY + age % (60 * DAY))
        return modified, seconds_id(created, self._machine, index), created, index

    def common(self, head: Head, word: int, people: People) -> Row:
        """The fields that all objects have."""
        modified, row_id, created, index = head
        owner = people.employees[str(1001 + word % 30)]
        row = system_fields(self.name, row_id, owner, people.departments[owner.department_id])
        row["create_time"], row["last_modified_time"] = created, modified
        row["created_by"] = [SYSTEM] if word & 64 else [owner.id]
        row["last_modified_by"] = [owner.id if word & 128 else ADMIN]
        # Old rows have numbers where newer ones have text.
        version = 1 if created == modified else 2 + (word >> 8) % 9
        row["version"] = version if len(row_id) > 24 else str(version)
        if word & 256:
            row["relevant_team"].append(member(str(1031 + (word >> 9) % 9), role="4", permission="1"))
        if self.is_invalid(index):
            row |= {"life_status": "invalid", "life_status_before_invalid": "normal", "is_deleted": True}
        return row


class Fixed(Base):
    """Few rows that were all last modified before the first data day, or on its days now and then."""

    def __init__(self, name: str, seed: int, count: int, days: int) -> None:
        self.name = name
        self._seed = seed
        words = numbers(count + 1, seed, name, "heads")
        self._heads = [self._made(words[index], words[count], index, days) for index in range(count)]
        self._by_id = {head[1]: head for head in self._heads}

    def heads(self, start: int, end: int) -> Iterable[Head]:
        """All rows."""
        return self._heads

    def find(self, row_id: str) -> Head | None:
        """The row with that id."""
        return self._by_id.get(row_id)

    def id_of(self, index: int) -> str:
        """The id of a row."""
        return self._heads[index][1]

    def common(self, head: Head, people: People) -> Row:
        """The fields that all objects have."""
        modified, row_id, created, _ = head
        row = system_fields(self.name, row_id, people.employees[ADMIN], people.departments["1000"])
        return row | {
            "create_time": created,
            "last_modified_time": modified,
            "version": "1" if created == modified else "3",
        }

    @staticmethod
    def _made(word: int, machine: int, index: int, days: int) -> Head:
        created = START - DAY * (100 + word % 400) - (word >> 16) % DAY
        changed = START + index // 5 % max(1, days) * DAY + (word >> 32) % DAY if index % 5 == 0 else created
        return changed, seconds_id(created, machine, index), created, index


def member(employee_id: str, *, role: str, permission: str) -> Row:
    """A member of the team around a row."""
    return {
        "teamMemberEmployee": [employee_id],
        "teamMemberRole": role,
        "teamMemberPermissionType": permission,
        "teamMemberType": "0",
        "teamMemberDeptCascade": "0",
    }


def system_fields(object_name: str, row_id: str, owner: Employee, unit: Department) -> Row:
    """The fields that all objects have, of a row never changed."""
    return {
        "_id": row_id,
        "name": None,
        "tenant_id": TENANT_ID,
        "object_describe_api_name": object_name,
        "record_type": "default__c",
        "life_status": "normal",
        "life_status_before_invalid": None,
        "lock_status": "0",
        "owner": [owner.id],
        "owner_department": unit.name,
        "owner_department_id": unit.id,
        "data_own_department": [unit.id],
        "data_own_organization": [COMPANY],
        "created_by": [SYSTEM],
        "create_time": 0,
        "last_modified_by": [ADMIN],
        "last_modified_time": 0,
        "is_deleted": False,
        "version": "1",
        "relevant_team": [member(owner.id, role="1", permission="2")],
        "extend_obj_data_id": row_id[::-1],
        "package": "CRM",
        "order_by": None,
        "mc_currency": "CNY",
        "mc_exchange_rate": "1.000000",
        "mc_functional_currency": "CNY",
        "mc_exchange_rate_version": "1604370000000",
        "out_tenant_id": None,
        "out_owner": None,
    }
