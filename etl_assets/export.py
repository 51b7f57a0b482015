"""Exports: CSV and TSV files for people, out of a table or a SELECT, through petl.

What belongs here: what an export may declare, and how rows become a file that a spreadsheet opens as it was meant.
Where the rows come from is the warehouse's business. The declarations lie in the folder `export` below the packaged
stream files and below `ETL_SOURCES_DIR`.
"""

import json
import os
import re
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol
from zoneinfo import ZoneInfo

import duckdb
from pydantic import BeforeValidator, Field, model_validator

from etl_assets import declarations
from etl_assets.errors import FinalError, LandingError
from etl_assets.outfile import replacing
from etl_assets.spec import Model, Name, Zone
from etl_assets.sqltext import identifier, literal
from etl_assets.store.protocol import KEEP_UNREFERENCED_SECONDS, Files, Store

LAYER = "export"
DAY = "{day}"
_DELIMITERS = {"csv": ",", "tsv": "\t"}
# https://owasp.org/www-community/attacks/CSV_Injection, with the full-width forms that spreadsheets take as well.
_BEGINS_A_FORMULA = re.compile("[=+\\-@\t\r\n＝＋－＠]")
_NUMBER = re.compile(r"-?\d+(\.\d+)?", re.ASCII)
_SORTED_IN_MEMORY = 20_000  # rows; more are sorted in pieces on disk
_FETCHED = 2_000
_ROWS = "rows"


def _renamed(value: object) -> object:
    if not isinstance(value, list):
        return value
    if len(set(map(str, value))) < len(value):
        raise ValueError("a column is given twice")
    return {name: name for name in value}


class Layout(Model):
    """How rows are written."""

    format: Literal["csv", "tsv"] = Field("csv", description="Separated by commas or by tabs.")
    bom: bool = Field(False, description="Begin with a byte order mark, by which Excel knows UTF-8.")
    null_text: str = Field("", description="What stands for NULL; empty texts stay empty.")
    escape_formulas: bool = Field(True, description="Put `'` before texts that a spreadsheet would run as a formula.")
    timezone: Zone | None = Field(
        None, description="Zone in whose wall clock instants are written; without it UTC with its offset."
    )


class Export(Layout):
    """One file, or one file per day."""

    name: Name = Field(description="Name of the asset, and of the file's folder.")
    description: str = Field(description="What is in it; shown in the UI.")
    table: str | None = Field(
        None, pattern=r"^[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*$", description="Table to write, such as mart.worklog."
    )
    sql: str | None = Field(None, description="SELECT to write, instead of a table; `{day}` is the day as a DATE.")
    columns: Annotated[dict[str, str], BeforeValidator(_renamed)] | None = Field(
        None, description="Columns in their order: a list, or `column: header`. Only a SELECT can do without."
    )
    sort: list[str] = Field(default_factory=list, description="Columns to sort by.")
    descending: bool = Field(False, description="Sort from the largest to the smallest.")
    days_of: Name | None = Field(
        None, description="Source whose days cut the export into files: of a table, the rows whose `_partition` it is."
    )

    @model_validator(mode="after")
    def _consistent(self) -> "Export":
        if bool(self.table) == bool(self.sql):
            raise ValueError("table: an export has either a table or a SELECT (`sql`)")
        if self.table and not (self.columns and self.sort):
            raise ValueError("columns: a table needs the `columns` to write, and the `sort` that puts them in order")
        if self.columns is not None and (not self.columns or len(set(self.columns.values())) < len(self.columns)):
            raise ValueError("columns: give at least one, each with a header of its own")
        if self.sql and (DAY in self.sql) != bool(self.days_of):
            raise ValueError(f"sql: {DAY} and `days_of` belong together")
        return self

    def select(self, day: date | None) -> str:
        """The SELECT of the file; `day` is its partition, None without `days_of`."""
        at = f"DATE {literal(day.isoformat())}" if day else "NULL"
        if self.sql:
            return self.sql.strip().rstrip(";").replace(DAY, at)
        columns = ", ".join(map(identifier, dict.fromkeys([*(self.columns or {}), *self.sort])))
        table = ".".join(map(identifier, str(self.table).split(".")))
        return f"SELECT {columns} FROM {table}{f' WHERE _partition = {at}' if day else ''}"


class ExportFile(Model):
    """A file of declarations."""

    exports: list[Export] = Field(description="The exports.")


class Warehouse(Protocol):
    """What an export needs of a warehouse."""

    def spool(self, selects: Mapping[str, str], file: Path) -> None:
        """Copy the rows of each SELECT, in its order, into a table of a new DuckDB file."""


@dataclass(frozen=True)
class Exported:
    """A file that was written, and where."""

    uri: str
    rows: int
    bytes: int


def load_exports(extra: Path | None = None) -> list[Export]:
    """Every export by name: the packaged ones, and those of `extra`/export, which replace equal names.

    Raises StreamFileError when a declaration is wrong.
    """
    return list(declarations.declared("export", LAYER, extra, _exports).values())


def _exports(path: Path) -> list[tuple[str, Export]]:
    read = declarations.read(path, ExportFile, begins_with="exports")
    return [(export.name, export) for export in read.exports]


def export(declared: Export, warehouse: Warehouse, landing: Store, day: date | None) -> Exported:
    """Write the file of the day, or change nothing. The same rows give the same bytes, if they are sorted.

    It lies at `export/<name>/<day>.csv`, or `export/<name>/<name>.csv` without days. Raises FinalError when the rows
    are not as declared, LandingError when the file cannot be written.
    """
    files = landing.folder(f"{LAYER}/{declared.name}")
    name = f"{day.isoformat() if day else declared.name}.{declared.format}"
    with _workspace(files) as work:
        spool, written = work / "rows.duckdb", work / name
        warehouse.spool({_ROWS: declared.select(day)}, spool)
        done = write(_table(declared, spool, work), written, declared)
        files.publish(written, name)
    return replace(done, uri=f"{files.uri}/{name}")


def write(table: Iterable[Sequence[Any]], target: Path, layout: Layout) -> Exported:
    """Write any petl table (header first) to `target` in one step: nobody finds a part of it, whatever happens.

    Raises FinalError when a value is the text that stands for NULL, LandingError when the disk does not take it.
    """
    import petl

    cells = _Cells(table, layout)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with replacing(target, LandingError) as unfinished:
            encoding = "utf-8-sig" if layout.bom else "utf-8"
            petl.tocsv(cells, str(unfinished), encoding=encoding, delimiter=_DELIMITERS[layout.format])
            size = unfinished.stat().st_size
        _sync(target.parent)
    except OSError as error:
        raise LandingError(f"{target}: cannot be written: {error.strerror or error}") from None
    return Exported(str(target), cells.rows, size)


def _table(declared: Export, spool: Path, work: Path) -> Iterable[Sequence[Any]]:
    """The spooled rows as a petl table: sorted, with the columns and headers of the declaration."""
    import petl

    rows = _Spooled(spool)
    header = next(iter(rows))
    columns = declared.columns or {name: name for name in header}
    if missing := [name for name in [*columns, *declared.sort] if name not in header]:
        raise FinalError(
            f"export {declared.name}: there is no column {', '.join(missing)}; the SELECT has {', '.join(header)}"
        )
    if declared.sort:
        # The other columns decide between equal rows, so that the file does not depend on the order of reading.
        key = list(dict.fromkeys([*declared.sort, *columns]))
        rows = petl.sort(
            rows, key, reverse=declared.descending, buffersize=_SORTED_IN_MEMORY, tempdir=str(work), cache=False
        )
    return petl.rename(petl.cut(rows, *columns), columns)  # type: ignore[no-any-return]


class _Spooled:
    """The rows of a spool file, header first, read piece by piece."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        with duckdb.connect(str(self._file), read_only=True) as db:
            db.execute("SET TimeZone = 'UTC'")
            found = db.execute(f"FROM {_ROWS}")
            yield tuple(column[0] for column in found.description or ())
            while piece := found.fetchmany(_FETCHED):
                for row in piece:
                    yield tuple(_flat(value) for value in row)


class _Cells:
    """The rows of a table as the texts of the file, header first; counts them."""

    def __init__(self, table: Iterable[Sequence[Any]], layout: Layout) -> None:
        self.rows = 0
        self._table = table
        self._layout = layout
        self._zone = ZoneInfo(layout.timezone) if layout.timezone else None

    def __iter__(self) -> Iterator[list[str]]:
        rows = iter(self._table)
        header = [str(name) for name in next(rows)]
        yield [self._escaped(name) for name in header]
        for row in rows:
            self.rows += 1
            yield [self._cell(value, name) for value, name in zip(row, header, strict=True)]

    def _cell(self, value: Any, column: str) -> str:
        layout = self._layout
        if value is None:
            return layout.null_text
        if not isinstance(value, str):
            return _text(value, self._zone)
        if layout.null_text and value == layout.null_text:
            raise FinalError(
                f"column {column}, row {self.rows}: the text is {value!r}, which is the null_text; choose another one"
            )
        return self._escaped(value)

    def _escaped(self, text: str) -> str:
        """The text as no formula: an apostrophe goes before it, unless it is a plain number."""
        if self._layout.escape_formulas and _BEGINS_A_FORMULA.match(text) and not _NUMBER.fullmatch(text):
            return f"'{text}"
        return text


def _text(value: Any, zone: ZoneInfo | None) -> str:
    """A value that is no text, as people and their programs write it."""
    match value:
        case bool():
            return "true" if value else "false"
        case datetime() if value.tzinfo and zone:
            return value.astimezone(zone).replace(tzinfo=None).isoformat(" ")
        case datetime():
            return value.isoformat(" ")
        case Decimal():
            return format(value, "f")
        case bytes():
            return value.hex()
        case list() | dict():
            return str(_flat(value))
    return str(value)


def _flat(value: Any) -> Any:
    """The value itself, or the JSON of a list or struct, which could be neither sorted nor written."""
    return json.dumps(value, ensure_ascii=False, default=str) if isinstance(value, list | dict) else value


@contextmanager
def _workspace(files: Files) -> Iterator[Path]:
    """A temporary folder on the disk of the files. Those that killed runs left are removed a day later."""
    work: Path | None = None
    try:
        work = files.scratch()
        work.mkdir()
        _sweep(work.parent)
        yield work
    except OSError as error:
        raise LandingError(f"{files.uri}: cannot be written: {error.strerror or error}") from None
    finally:
        if work:
            shutil.rmtree(work, ignore_errors=True)


def _sweep(folder: Path) -> None:
    limit = time.time() - KEEP_UNREFERENCED_SECONDS
    for left in folder.glob(".tmp-*"):
        with suppress(FileNotFoundError):  # another run sweeps the same folder
            if left.stat().st_mtime < limit:
                shutil.rmtree(left) if left.is_dir() else left.unlink()


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
