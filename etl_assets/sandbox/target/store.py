"""What the simulated target holds: records by kind, and how often each was written."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

Row = dict[str, Any]


@dataclass
class Record:
    """A record under the target's own id. `ref` is the id that its writer gave it."""

    id: int
    kind: str
    ref: str
    content: Row
    writes: int = 0
    deleted: bool = False


@dataclass
class Store:
    """All records, those deleted as well."""

    _records: dict[int, Record] = field(default_factory=dict)
    _live: dict[tuple[str, str], int] = field(default_factory=dict)

    def by_ref(self, kind: str, ref: str) -> Record | None:
        """The live record that was written last under that ref."""
        return self.by_id(kind, self._live.get((kind, ref), 0))

    def by_id(self, kind: str, record_id: int) -> Record | None:
        """The live record of that id."""
        record = self._records.get(record_id)
        return record if record and record.kind == kind and not record.deleted else None

    def create(self, kind: str, ref: str, content: Mapping[str, Any]) -> Record:
        """A new record."""
        record = Record(1000 + len(self._records), kind, ref, dict(content), writes=1)
        self._records[record.id] = record
        self._live[kind, ref] = record.id
        return record

    def change(self, record: Record, content: Mapping[str, Any]) -> Record:
        """The record with other content."""
        record.content = dict(content)
        record.writes += 1
        return record

    def delete(self, record: Record) -> None:
        """Take the record away."""
        record.deleted = True
        self._live.pop((record.kind, record.ref), None)

    def rows(self) -> Iterator[Row]:
        """Every record as a row, in the order in which they were created."""
        for record in self._records.values():
            yield dict(vars(record))
