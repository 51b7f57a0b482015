"""One list of an API, and the table it becomes."""

from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from etl_assets.spec.paging import OnePage, Paging
from etl_assets.spec.query import Query, check_query
from etl_assets.spec.service import Errors
from etl_assets.spec.words import (
    SIMPLE_TYPES,
    ColumnName,
    Duration,
    Model,
    Name,
    Paths,
    TypeName,
    UrlPath,
    placeholders,
    snake,
)

_WINDOW_FORMATS = ("date", "iso", "epoch_s", "epoch_ms", "epoch_ms_text")
_RESERVED = {"_partition", "_loaded_at", "_run_id", "_extra", "_page", "_reason", "_key", "_record", "_stamp", "_rest"}


class Column(Model):
    """One column of the table."""

    type: TypeName = Field(description="Column type.")
    path: Paths | None = Field(
        None, description="JSON path in the row, or several of which the first present one counts."
    )
    name: ColumnName | None = Field(None, description="Column name; by default the path in snake_case.")
    format: str = Field(
        "iso", description="How a date or timestamp is written: iso, epoch_s, epoch_ms or a strptime pattern."
    )
    required: bool = Field(False, description="A row without it goes to quarantine.")
    description: str | None = Field(None, description="Carried to the warehouse and the UI.")

    @model_validator(mode="after")
    def _format_fits(self) -> "Column":
        if self.format != "iso" and self.type not in ("date", "timestamp"):
            raise ValueError(f"format: a {self.type} has none; only a date or timestamp is written in several ways")
        if self.format not in ("iso", "epoch_s", "epoch_ms") and "%" not in self.format:
            raise ValueError(f"format: {self.format!r} is neither iso, epoch_s, epoch_ms nor a strptime pattern")
        return self

    @property
    def duckdb_type(self) -> str:
        """The type in DuckDB's spelling."""
        return SIMPLE_TYPES.get(self.type) or self.type.upper()


class Derived(Model):
    """A column computed from the others."""

    type: TypeName = Field(description="Column type.")
    sql: str | None = Field(None, description="DuckDB expression over the columns; leave out if `transform` adds it.")
    description: str | None = Field(None, description="Carried to the warehouse and the UI.")

    @property
    def duckdb_type(self) -> str:
        """The type in DuckDB's spelling."""
        return SIMPLE_TYPES.get(self.type) or self.type.upper()


class Lookup(Model):
    """A value for each parent row out of another list of the same source."""

    stream: Name = Field(description="Stream that holds the list.")
    key: ColumnName = Field(description="Its column that matches the parent stream's key.")
    value: ColumnName = Field(description="Its column to take.")
    optional: bool = Field(False, description="Go without when the API answers 403 or 404.")


class Each(Model):
    """One request sequence per row of a parent stream: fan-out."""

    stream: Name = Field(description="Parent stream of the same source, read at the time of the request.")
    stamp: dict[ColumnName, ColumnName] = Field(
        default_factory=dict, description="Columns taken from the parent row: `column: parent column`."
    )
    lookup: dict[ColumnName, Lookup] = Field(default_factory=dict, description="Columns taken from a further list.")


class Deletes(Model):
    """Where deletions are told: rows named there are marked in `_deleted_at`, and kept."""

    stream: Name = Field(description="Stream of the same source with one row per deletion.")
    key: dict[ColumnName, ColumnName] = Field(description="This stream's columns and that stream's: `id: issue_id`.")
    at: ColumnName = Field(description="That stream's column with the time of the deletion.")


class Children(Model):
    """One row per element of a list inside the rows of a parent stream: a child table, without a request."""

    stream: Name = Field(description="Parent stream of the same source.")
    rows: ColumnName = Field(description="Its json column that holds the list.")
    stamp: dict[ColumnName, ColumnName] = Field(
        description="Columns taken from the parent row, its key and window column among them: `column: parent column`."
    )


class WindowSpec(Model):
    """How the stream is cut into days. `{since}` and `{until}` carry the window into the request."""

    column: ColumnName = Field(description="Column whose value decides the day a row belongs to.")
    format: str = Field(
        "date",
        description="How `{since}` and `{until}` are written: date, iso, epoch_s, epoch_ms, epoch_ms_text or strftime.",
    )
    inclusive: bool = Field(True, description="The API includes `{until}`.")
    widen: Duration = Field(
        timedelta(0), description="Ask for this much more on each side; rows outside the day are cut."
    )
    longest: Duration | None = Field(None, description="Longest window the API takes; longer ones are cut up.")

    @model_validator(mode="after")
    def _possible(self) -> "WindowSpec":
        if self.longest is not None and self.longest <= timedelta(0):
            raise ValueError("longest: a window has a length")
        if self.format not in _WINDOW_FORMATS and "%" not in self.format:
            known = ", ".join(_WINDOW_FORMATS)
            raise ValueError(f"format: {self.format!r} is none of {known}, nor a strftime pattern")
        return self


class Alternative(Model):
    """Another way to ask for the same rows, tried when the one before answers 403 or 404."""

    path: UrlPath = Field(description="Path of the request.")
    params: dict[str, Any] = Field(default_factory=dict, description="Query parameters.")
    rows: str = Field("", description="Path of the row list in the answer.")


class Quarantine(Model):
    """How many rows may fail to fit before the step fails: the larger of the two, and never all."""

    rows: int = Field(10, ge=0, description="This many rows are always let through to quarantine.")
    share: float = Field(0.01, ge=0, le=1, description="And this share of the rows.")


class Stream(Model):
    """One list of an API, and the table it becomes."""

    name: Name = Field(description="Name of stream and table.")
    description: str = Field("", description="One sentence, carried to the warehouse and the UI.")
    method: Literal["GET", "POST"] = Field("GET", description="HTTP method.")
    path: Annotated[str, Field(pattern=r"^(/|$)")] = Field(
        "", description="Path of the request; may hold placeholders. Not for child tables."
    )
    of: Children | None = Field(None, description="Makes the stream a child table of another stream.")
    values: dict[Name, str] = Field(default_factory=dict, description="Placeholders of this stream: `name: value`.")
    params: dict[str, Any] = Field(default_factory=dict, description="Query parameters; a list repeats the key.")
    json_body: Any = Field(None, alias="json", description="JSON body of the request.")
    form: dict[str, Any] | None = Field(None, description="Form body of the request.")
    rows: str = Field("", description="Path of the row list in the answer; empty: the answer is the list.")
    one: bool = Field(False, description="The answer holds one row, not a list.")
    alternatives: list[Alternative] = Field(
        default_factory=list, description="Other ways to ask, tried in order on 403 or 404."
    )
    each: Each | None = Field(None, description="Fan-out over the rows of a parent stream.")
    paging: Paging = Field(default_factory=OnePage, description="How a long list is read.")
    errors: Errors | None = Field(None, description="Errors inside HTTP 200 answers.")
    query: Query = Field(
        default=Query(sort=None, count=None, window="required"), description="What SQL may ask of the API."
    )
    bucket: str = Field("default", description="Rate bucket of `limits.rates`.")
    window: WindowSpec | None = Field(None, description="Daily partitions; without it the stream is a snapshot.")
    load: Literal["replace", "merge", "snapshot"] | None = Field(
        None, description="How rows reach the table; by default replace for daily streams, else snapshot."
    )
    key: Annotated[list[ColumnName], Field(min_length=1)] = Field(description="Columns that identify a row.")
    newest: ColumnName | None = Field(
        None, description="Column that tells the newest version of a row; by default the window column."
    )
    columns: dict[str, Column] = Field(description="`JSON path: type`, or `JSON path: {type: …}`.")
    derived: dict[ColumnName, Derived] = Field(default_factory=dict, description="Computed columns.")
    local: list[ColumnName] = Field(
        default_factory=list, description="Timestamps that get a `<column>_local` wall-clock twin."
    )
    zone: ColumnName | None = Field(
        None, description="Stamped column with each row's time zone, for timestamps without an offset."
    )
    reading: str | None = Field(
        None,
        description="Timestamps with an offset: offset_aware (used) or user_wall_clock (ignored); a placeholder works.",
    )
    deletes: Deletes | None = Field(None, description="Stream that tells which rows were deleted at the source.")
    sweep: Name | None = Field(
        None,
        description="Snapshot stream with the keys of all rows: rows that are not in it are marked as deleted.",
    )
    known: list[str] = Field(
        default_factory=list,
        description="Fields that stay in `_extra` without a drift warning, with all below them; `*` matches anything.",
    )
    extra: Literal["keep", "drop"] = Field("keep", description="Whether undeclared fields are kept in `_extra`.")
    quarantine: Quarantine = Field(default=Quarantine(rows=10, share=0.01), description="How many rows may not fit.")
    delimited: Literal["tsv", "csv"] | None = Field(
        None, description="Also write the clean rows as a text file, tab- or comma-separated, for people."
    )
    transform: str | None = Field(
        None,
        pattern=r"^[\w.]+:\w+$",
        description="`package.module:function`, given a DataFrame per batch and giving one back.",
    )

    @model_validator(mode="before")
    @classmethod
    def _short_columns(cls, value: Any) -> Any:
        if isinstance(value, dict) and isinstance(value.get("columns"), dict):
            columns = {
                path: {"type": column} if not isinstance(column, dict) else column
                for path, column in value["columns"].items()
            }
            return {**value, "columns": columns}
        return value

    @model_validator(mode="after")
    def _consistent(self) -> "Stream":
        names = [name for name, _ in self.table_columns()]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"columns: two columns are named {name!r}; give one a `name`")
            if name in _RESERVED:
                raise ValueError(f"columns: {name!r} is a system column")
        types = dict(self.table_columns())
        for key, columns in {
            "key": self.key,
            "newest": [self.newest] if self.newest else [],
            "window.column": [self.window.column] if self.window else [],
            "local": self.local,
        }.items():
            for column in columns:
                if column not in types:
                    raise ValueError(f"{key}: there is no column {column!r}")
        if self.zone and self.zone not in self.stamped():
            raise ValueError(f"zone: {self.zone!r} is not a column that `each` stamps")
        if self.each and self.alternatives:
            raise ValueError("alternatives: a stream with `each` has one way to ask")
        if self.window and types[self.window.column] not in ("TIMESTAMP WITH TIME ZONE", "DATE"):
            raise ValueError(f"window.column: {self.window.column!r} is neither a timestamp nor a date")
        for column in self.local:
            if types[column] != "TIMESTAMP WITH TIME ZONE":
                raise ValueError(f"local: {column!r} is not a timestamp")
        if self.mode != "snapshot" and self.window is None:
            raise ValueError(f"load: {self.mode} needs a window")
        if self.mode == "snapshot" and self.window is not None:
            raise ValueError("load: a stream with a window is loaded by replace or merge")
        if bool(self.path) == bool(self.of):
            raise ValueError("path: a stream has either a path or a parent (`of`)")
        if self.form is not None and self.json_body is not None:
            raise ValueError("form: a request has a form body or a json body, not both")
        check_query(self.query, types, stamped=bool(self.stamped() or self.of))
        for name, derived in self.derived.items():
            if derived.sql is None and self.transform is None:
                raise ValueError(f"derived.{name}: give `sql`, or a `transform` that adds the column")
        return self

    @property
    def mode(self) -> Literal["replace", "merge", "snapshot"]:
        """How rows reach the table."""
        return self.load or ("replace" if self.window else "snapshot")

    @property
    def version_column(self) -> str | None:
        """Column by which the newest version of a row is known."""
        return self.newest or (self.window.column if self.window else None)

    def stamped(self) -> list[str]:
        """Columns that come from the request, not from the row."""
        if self.of:
            return list(self.of.stamp)
        return [*self.each.stamp, *self.each.lookup] if self.each else []

    @property
    def placeholders(self) -> set[str]:
        """The names of the values that its requests are filled with."""
        asked = [self.path, self.params, self.json_body, self.form]
        asked += [part for way in self.alternatives for part in (way.path, way.params)]
        asked += [self.query.count.path] if self.query.count else []
        return set(placeholders(asked))

    def field_columns(self) -> list[tuple[str, list[str], Column]]:
        """(column name, JSON paths, declaration) of every column read from the row."""
        return [(column.name or snake(path), column.path or [path], column) for path, column in self.columns.items()]

    def table_columns(self) -> list[tuple[str, str]]:
        """(name, DuckDB type) of every column of the table but the system columns, in table order."""
        fields = [(name, column.duckdb_type) for name, _, column in self.field_columns()]
        derived = [(name, column.duckdb_type) for name, column in self.derived.items()]
        local = [(f"{name}_local", "TIMESTAMP") for name in self.local]
        return [*fields, *derived, *local]

    def descriptions(self) -> dict[str, str]:
        """Descriptions of the columns that have one."""
        described = [(name, column.description) for name, _, column in self.field_columns()]
        described += [(name, column.description) for name, column in self.derived.items()]
        return {name: text for name, text in described if text}
