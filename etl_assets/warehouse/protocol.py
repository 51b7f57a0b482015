"""What every warehouse does, and what it says of what it did.

What is promised here holds in each of them; how is the business of the modules beside this one.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any, Protocol

from etl_assets.landing import Folder
from etl_assets.mart import Mart
from etl_assets.spec import Source, Stream


@dataclass(frozen=True)
class Loaded:
    """What a load did. `changed` is False when the table already held exactly these rows, or newer ones.

    `usual_rows` is the median of earlier loads: of the same weekday, or of a snapshot; None while they are few.
    `cost` is what the warehouse says of its effort, such as bytes billed.
    """

    table: str
    uri: str
    rows: int
    rows_in_table: int
    changed: bool
    usual_rows: float | None
    seconds: float
    waited_seconds: float
    cost: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Difference:
    """How a day of a table differs from a clean set: rows missing, rows in another version, rows too many."""

    missing: int
    changed: int
    surplus: int

    def __bool__(self) -> bool:
        return bool(self.missing or self.changed or self.surplus)

    @property
    def recovered(self) -> int:
        """Rows that a load brings back or up to date."""
        return self.missing + self.changed


@dataclass(frozen=True)
class Built:
    """A mart that was built; `sample` is a few rows with a header."""

    uri: str
    rows: int
    sample: list[tuple[Any, ...]]


@dataclass(frozen=True)
class Selected:
    """The result of a SELECT: names of the columns, and rows that are fetched as they are read."""

    columns: Sequence[str]
    rows: Iterator[tuple[Any, ...]]


class Warehouse(Protocol):
    """Tables `<source>.<stream>`, marts `mart.<name>`, and `ops.loads` and `ops.quarantine`."""

    def load(self, source: Source, stream: Stream, day: date | None, clean: Folder, run_id: str) -> Loaded:
        """Put the clean set into the table, with its entry in `ops.loads`, or leave the table as it is.

        Raises TableError when the table cannot take the columns, LandingError when clean files are missing.
        """
        ...

    def compare(self, source: Source, stream: Stream, day: date | None, clean: Folder) -> Difference:
        """How the stream's table differs from the clean set of the day. A table that does not exist misses all."""
        ...

    def build(self, mart: Mart) -> Built:
        """Replace the mart's table by what its SELECT gives now. Raises FinalError when a table it reads is missing."""
        ...

    def select(self, query: str) -> Selected:
        """The rows of one SELECT in DuckDB's dialect, which names tables as `schema.table`.

        Raises FinalError when there is no warehouse or it cannot answer, such as for want of a table.
        """
        ...

    def spool(self, selects: Mapping[str, str], file: Path) -> None:
        """Copy the rows of each SELECT, in its order, each as of one moment, into a table of a new DuckDB file.

        The columns have the types that DuckDB gives them. There they can be read for as long as it takes, without
        holding up loads. Raises FinalError as `select` does, LandingError when the file cannot be written.
        """
        ...
