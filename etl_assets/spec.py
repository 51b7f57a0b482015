"""The model of a stream file: what a source is, and what each of its streams asks, keeps and promises.

One YAML file describes one source; a reference to nothing or a contradiction is refused, with the key.
docs/streams.md explains every key.
What to put here: the vocabulary and its consistency rules. What to keep out: how any of it is carried out.
"""

import functools
import hashlib
import importlib.metadata
import re
from collections.abc import Collection, Iterator
from datetime import date, timedelta
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

BUILT_IN = frozenset({"uuid"})
PLACEHOLDER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_.]*)\}")
_SIMPLE_TYPES = {
    "string": "VARCHAR",
    "integer": "BIGINT",
    "number": "DOUBLE",
    "boolean": "BOOLEAN",
    "date": "DATE",
    "timestamp": "TIMESTAMP WITH TIME ZONE",
    "datetime": "TIMESTAMP",
    "json": "JSON",
}
_DECIMAL = re.compile(r"decimal\((\d{1,2}), ?(\d{1,2})\)")
_DURATION = re.compile(r"(\d+)(s|m|h|d)")
_RATE = re.compile(r"(\d+)/(\d+)s")
_NAME = re.compile(r"[a-z][a-z0-9_]*")
_PAGING_VALUES: dict[str, set[str]] = {
    "none": set(),
    "page": {"page", "size"},
    "offset": {"offset", "size"},
    "keyset": {"last", "size"},
    "cursor": {"cursor", "size"},
}
_WINDOW_FORMATS = ("date", "iso", "epoch_s", "epoch_ms", "epoch_ms_text")
_RESERVED = {"_partition", "_loaded_at", "_run_id", "_extra", "_page", "_reason", "_key", "_record", "_stamp", "_rest"}


@functools.cache
def snake(path: str) -> str:
    """Column name of a JSON path: `task.externalLink.caption` -> `task_external_link_caption`."""
    spaced = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", path)
    spaced = re.sub(r"([A-Z]+)([A-Z][a-z])", r"\1_\2", spaced)
    name = re.sub(r"[^0-9A-Za-z]+", "_", spaced).lower().strip("_") or "_"
    return f"_{name}" if path.startswith("_") else name


def _type_name(value: object) -> object:
    if not isinstance(value, str):
        raise ValueError(f"a column type is a word, not {value!r}")
    if decimal := _DECIMAL.fullmatch(value):
        precision, scale = int(decimal[1]), int(decimal[2])
        if not 1 <= precision <= 38 or scale > precision:
            raise ValueError(f"{value} is out of range: decimal(p,s) takes 1 <= p <= 38 and s <= p")
        return f"decimal({precision},{scale})"
    if value not in _SIMPLE_TYPES:
        known = ", ".join([*_SIMPLE_TYPES, "decimal(p,s)"])
        raise ValueError(f"unknown column type {value!r}; one of: {known}")
    return value


def _duration(value: object) -> object:
    if isinstance(value, str) and (match := _DURATION.fullmatch(value)):
        unit = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}[match[2]]
        return timedelta(**{unit: int(match[1])})
    if isinstance(value, timedelta):
        return value
    raise ValueError(f"{value!r} is not a duration such as 30s, 15m, 6h or 7d")


def _listed(value: object) -> object:
    return [value] if isinstance(value, str | dict) else value


def _zone(value: object) -> object:
    try:
        ZoneInfo(str(value))
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"{value!r} is not an IANA time zone such as Asia/Tokyo") from None
    return value


TypeName = Annotated[str, BeforeValidator(_type_name)]
Duration = Annotated[timedelta, BeforeValidator(_duration)]
Zone = Annotated[str, BeforeValidator(_zone)]
Name = Annotated[str, Field(pattern=f"^{_NAME.pattern}$")]
ColumnName = Annotated[str, Field(pattern=f"^_?{_NAME.pattern}$")]
UrlPath = Annotated[str, Field(pattern=r"^/")]
Paths = Annotated[list[str], BeforeValidator(_listed), Field(min_length=1)]


class Model(BaseModel):
    """Strict and frozen: unknown keys and silently converted values are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, arbitrary_types_allowed=True)


class Setting(Model):
    """An environment variable that the source needs."""

    help: str = Field(description="Where to get the value; shown when it is missing.")
    secret: bool = Field(False, description="Never shown or written anywhere.")
    optional: bool = Field(False, description="The source works without it, or another way to authorise does.")
    default: str | None = Field(None, description="Value when the variable is unset.")
    lifetime: Duration | None = Field(
        None,
        description="How long a value is good for; an alert comes before it ends, counted from its first use here.",
    )


class Rate(Model):
    """At most `count` requests in any `seconds`."""

    count: int = Field(gt=0)
    seconds: int = Field(gt=0)

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: object) -> object:
        if isinstance(value, str):
            if not (match := _RATE.fullmatch(value)):
                raise ValueError(f"{value!r} is not a rate such as 5/1s or 100/60s")
            return {"count": int(match[1]), "seconds": int(match[2])}
        return value


class Limits(Model):
    """What the API permits one credential, held across all processes of a machine."""

    parallel: int = Field(1, ge=1, le=64, description="Requests in flight at once.")
    rates: dict[str, list[Rate]] = Field(
        default_factory=dict,
        description="Rates per bucket, each such as 5/1s; streams use the bucket `default` unless they name one.",
    )


class NoAuth(Model):
    """No credential."""

    type: Literal["none"] = "none"

    def settings(self) -> list[str]:
        """Names of the settings it needs."""
        return []


class BearerAuth(Model):
    """`Authorization: Bearer <token>`."""

    type: Literal["bearer"]
    token: str = Field(description="Name of the setting that holds the token.")

    def settings(self) -> list[str]:
        """Names of the settings it needs."""
        return [self.token]


class HeaderAuth(Model):
    """A header of your choice."""

    type: Literal["header"]
    name: str = Field(description="Header name.")

    def settings(self) -> list[str]:
        """Names of the settings it needs."""
        return sorted(set(_placeholders(self.value)))

    value: str = Field(description='Header value with placeholders, such as "Token {EXAMPLE_KEY}".')


class QueryAuth(Model):
    """A query parameter."""

    type: Literal["query"]
    name: str = Field(description="Parameter name.")

    def settings(self) -> list[str]:
        """Names of the settings it needs."""
        return sorted(set(_placeholders(self.value)))

    value: str = Field(description='Parameter value with placeholders, such as "{EXAMPLE_KEY}".')


class TokenAuth(Model):
    """A token that a request obtains, and that is good for a while.

    `{token}` is the token, `{token.x}` a value of `keep`.
    """

    type: Literal["token"]
    path: UrlPath = Field(description="Path of the POST that obtains it.")
    params: dict[str, Any] = Field(default_factory=dict, description="Query parameters of that request.")
    json_body: Any = Field(None, alias="json", description="Its JSON body.")
    form: dict[str, Any] | None = Field(None, description="Its form body.")
    token: str = Field(description="Path of the token in the answer.")
    expires_in: str | None = Field(None, description="Path of the seconds it is good for.")
    lifetime: Duration = Field(timedelta(hours=1), description="How long it is good for if the answer does not say.")
    renew_before: Duration = Field(timedelta(minutes=10), description="Obtain a new one this long before its end.")
    keep: dict[Name, str] = Field(
        default_factory=dict, description="Further values of the answer, kept with it: `name: path`."
    )
    initial: dict[Name, str] = Field(
        default_factory=dict, description="Values of `keep` for the first request, such as a first refresh token."
    )
    headers: dict[str, str] = Field(default_factory=dict, description="Headers of every request.")
    body: dict[str, Any] = Field(default_factory=dict, description="Fields added to every JSON body.")
    bucket: str = Field("token", description="Rate bucket of the request that obtains it.")

    def settings(self) -> list[str]:
        """Names of the settings it needs."""
        used = _placeholders([self.params, self.json_body, self.form, self.initial, self.headers, self.body])
        return sorted({name for name in used if not name.startswith("token") and name not in BUILT_IN})


class JushuitanAuth(Model):
    """Jushuitan's signed form posts, with an access token that is refreshed."""

    type: Literal["jushuitan"]
    app_key: str = Field(description="Name of the setting with the app key.")
    app_secret: str = Field(description="Name of the setting with the app secret.")
    access_token: str = Field(description="Name of the setting with the first access token.")
    refresh_token: str = Field(description="Name of the setting with the first refresh token; it may be unset.")

    def settings(self) -> list[str]:
        """Names of the settings it needs."""
        return [self.app_key, self.app_secret, self.access_token]


Auth = Annotated[NoAuth | BearerAuth | HeaderAuth | QueryAuth | TokenAuth | JushuitanAuth, Field(discriminator="type")]


class Errors(Model):
    """Errors that arrive inside an answer with HTTP status 200."""

    code: str = Field(description="Path of the error code in the answer.")
    ok: list[str | int | bool] = Field(description="Codes that mean success, compared as text.")
    message: str | None = Field(None, description="Path of the human-readable message.")
    retry: list[str | int] = Field(default_factory=list, description="Codes worth a retry with backoff.")
    reauth: list[str | int] = Field(default_factory=list, description="Codes that mean the credential has expired.")


class OnePage(Model):
    """The whole list comes in one answer."""

    type: Literal["none"] = "none"


class PageNumber(Model):
    """`{page}` counts up; the answer says whether there is more, or a short page ends the list."""

    type: Literal["page"]
    size: int = Field(gt=0, description="Rows per page, for `{size}` and the short-page rule.")
    start: int = Field(1, description="Number of the first page.")
    more: str | None = Field(None, description="Path of the has-more flag. Without it a short page ends the list.")
    count: str | None = Field(
        None,
        description="Path of the row total: pages are read one by one, and all again when their rows do not add up.",
    )
    total: str | None = Field(
        None, description="Path of the row total: checked at the end; with it pages are read in parallel."
    )


class Offset(Model):
    """`{offset}` counts rows; a short page ends the list."""

    type: Literal["offset"]
    size: int = Field(gt=0, description="Rows per page, for `{size}` and the short-page rule.")
    overlap: str | None = Field(
        None,
        description="Path of a field that identifies a row: each page repeats the last row of the one before, "
        "and the list is read again when it does not.",
    )
    total: str | None = Field(
        None, description="Path of the row total: checked at the end; with it pages are read in parallel."
    )


class Keyset(Model):
    """`{last}` is the value of `column` in the last row.

    The answer says whether there is more, or a short page ends the list.
    """

    type: Literal["keyset"]
    size: int = Field(gt=0, description="Rows per page, for `{size}` and the short-page rule.")
    column: str = Field(description="Path of the ordering field in a row.")
    start: str | int | None = Field(None, description="`{last}` of the first page; by default it is left out there.")
    inclusive: bool = Field(False, description="The API answers rows >= `{last}`: the boundary row comes twice.")
    more: str | None = Field(None, description="Path of the has-more flag. Without it a short page ends the list.")


class Cursor(Model):
    """`{cursor}` is an opaque token of the answer; an empty one ends the list."""

    type: Literal["cursor"]
    next: str = Field(description="Path of the token in the answer.")
    size: int | None = Field(None, gt=0, description="Rows per page, for `{size}`.")


Paging = Annotated[OnePage | PageNumber | Offset | Keyset | Cursor, Field(discriminator="type")]


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
        return _SIMPLE_TYPES.get(self.type) or self.type.upper()


class Derived(Model):
    """A column computed from the others."""

    type: TypeName = Field(description="Column type.")
    sql: str | None = Field(None, description="DuckDB expression over the columns; leave out if `transform` adds it.")
    description: str | None = Field(None, description="Carried to the warehouse and the UI.")

    @property
    def duckdb_type(self) -> str:
        """The type in DuckDB's spelling."""
        return _SIMPLE_TYPES.get(self.type) or self.type.upper()


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


class Parameter(Model):
    """A parameter that takes values of one column: rows with any of them come."""

    name: str = Field(description="Name of the parameter.")
    most: int = Field(100, ge=1, description="Values in one request.")
    form: Literal["list", "csv", "one"] = Field(
        "list", description="How values are written: list (in a query: the name repeated), csv, or one value only."
    )
    alone: bool = Field(False, description="The API takes it in place of a window.")

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: object) -> object:
        return {"name": value} if isinstance(value, str) else value


class Range(Model):
    """Parameters between whose values a time or day of one column lies."""

    since: str = Field(description="Name of the parameter of the first.")
    until: str = Field(description="Name of the parameter of the last.")
    format: str = Field("date", description="How values are written, as in `window`.")
    inclusive: bool = Field(True, description="The API includes `until`.")
    widen: Duration = Field(timedelta(0), description="Ask for this much more on each side.")


class Sort(Model):
    """The orders in which the API can give rows."""

    columns: dict[ColumnName, str] = Field(description="`column: {name}`. Columns that are never empty.")
    params: dict[str, Any] = Field(default_factory=dict, description="Query parameters with `{name}` and `{order}`.")
    json_body: Any = Field(None, alias="json", description="Keys of the JSON body with `{name}` and `{ascending}`.")


class Count(Model):
    """A request that answers with the number of rows, and takes the same parameters."""

    path: UrlPath = Field(description="Path of the request.")
    value: str = Field("count", description="Path of the number in the answer.")


class Query(Model):
    """What SQL may ask of the API beyond what the assets ask. Nothing here changes a result, only its cost."""

    eq: dict[ColumnName, Parameter] = Field(default_factory=dict, description="`column: parameter`, for = and IN.")
    ranges: dict[ColumnName, Range] = Field(
        default_factory=dict, description="`column: parameters`, for < > BETWEEN; the window needs none."
    )
    into: str = Field(default="", description="Path of the list in the JSON body to which `condition` is added.")
    condition: dict[str, Any] = Field(
        default_factory=dict, description="An entry of that list, with `{name}` and `{values}` of an `eq`."
    )
    row: dict[ColumnName, UrlPath] = Field(
        default_factory=dict, description="`column: path` of the request for the one row with that value."
    )
    sort: Sort | None = Field(default=None, description="Orders that the API can give.")
    count: Count | None = Field(default=None, description="How the API counts rows.")
    closed: dict[ColumnName, str] = Field(
        default_factory=dict, description="`column: stream.column` that lists all values; never empty in a row."
    )
    window: Literal["required", "optional"] = Field(
        default="required", description="Whether the API can be asked without `{since}` and `{until}`."
    )


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
        _check_query(self, types)
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
        return set(_placeholders(asked))

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


class Service(Model):
    """Somebody's API: where it is, how requests are authorised, what it permits, how it tells errors."""

    title: str = Field(description="The vendor's own name.")
    base_url: str = Field(
        description="Scheme and host; `<SOURCE>_BASE_URL` replaces it.", pattern=r"^https?://[^/?#@]+$"
    )
    settings: dict[str, Setting] = Field(default_factory=dict, description="Environment variables needed.")
    auth: Annotated[list[Auth], BeforeValidator(_listed), Field(min_length=1)] = Field(
        default=[NoAuth()],
        description="How requests are authorised: one way, or several of which the first with all settings counts.",
    )
    limits: Limits = Field(default=Limits(parallel=1), description="What the API permits.")
    errors: Errors | None = Field(None, description="Errors inside HTTP 200 answers, of all requests.")

    @property
    def name(self) -> str:
        """What its variables begin with, in lower case."""
        raise NotImplementedError

    @property
    def base_url_variable(self) -> str:
        """Name of the environment variable that replaces `base_url`."""
        return f"{self.name.upper()}_BASE_URL"

    @model_validator(mode="after")
    def _settings_declared(self) -> "Service":
        for way in self.auth:
            for setting in way.settings() if isinstance(way, BearerAuth | HeaderAuth | QueryAuth) else ():
                if setting in self.settings and not self.settings[setting].secret:
                    raise ValueError(f"settings.{setting}: what authorises requests is `secret: true`")
        for number, way in enumerate(self.auth):
            names = [*way.settings(), *([way.refresh_token] if isinstance(way, JushuitanAuth) else [])]
            for setting in names:
                if setting not in self.settings:
                    raise ValueError(f"auth.{number}: {setting} is not declared under settings")
        return self


class Source(Service):
    """A stream file: one source and its streams."""

    source: Name = Field(description="Name of the source: asset group, schema, prefix of its variables.")
    timezone: Zone = Field(description="IANA zone of the source's days and of times without an offset.")
    start: date | None = Field(None, description="First day of the daily streams.")
    reload_days: int = Field(
        7, ge=1, description="Days that each daily run loads again, for late edits; `<SOURCE>_RELOAD_DAYS` replaces it."
    )
    check: Name | None = Field(None, description="Stream whose first page `etl-assets check` asks for.")
    defaults: dict[str, Any] = Field(
        default_factory=dict,
        description="Keys of every stream that does not set them itself; `columns`, `params` and `derived` are joined.",
    )
    streams: Annotated[list[Stream], Field(min_length=1)] = Field(description="The streams.")

    @model_validator(mode="after")
    def _consistent(self) -> "Source":
        names = [stream.name for stream in self.streams]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"streams: two streams are named {name!r}")
        if self.start is None and any(stream.window for stream in self.streams):
            raise ValueError("start: daily streams need their first day")
        if self.check and self.check not in [stream.name for stream in self.streams if not stream.window]:
            raise ValueError(f"check: there is no stream {self.check!r} that can be asked without a day")
        for stream in self.streams:
            _check_stream(self, stream)
        return self

    def owner(self, stream: Stream) -> tuple[Stream, dict[str, str]] | None:
        """The daily stream with whose rows those of `stream` come and go, and the columns taken from it.

        Lines of an order or comments of an issue are the ones that its newest version has.
        """
        if stream.of:
            return self.stream(stream.of.stream), stream.of.stamp
        if stream.each and self.stream(stream.each.stream).window:
            return self.stream(stream.each.stream), stream.each.stamp
        return None

    def stream(self, name: str) -> Stream:
        """The stream of that name; KeyError without one."""
        return {stream.name: stream for stream in self.streams}[name]

    @property
    def name(self) -> str:
        """The source's name."""
        return self.source


def _check_stream(source: Source, stream: Stream) -> None:
    """References out of a stream: to settings, to its parent, to rate buckets."""
    where = f"streams.{stream.name}"
    if stream.bucket != "default" and stream.bucket not in source.limits.rates:
        raise ValueError(f"{where}.bucket: {stream.bucket!r} is not under limits.rates")
    allowed = {"since", "until"} | BUILT_IN | _PAGING_VALUES[stream.paging.type]
    allowed |= set(source.settings) | set(stream.values)
    for role, name in (("deletes", stream.deletes and stream.deletes.stream), ("sweep", stream.sweep)):
        if name and name not in {other.name for other in source.streams if other.mode == "snapshot"}:
            raise ValueError(f"{where}.{role}: there is no snapshot stream {name!r}")
    if stream.of:
        _check_children(source, stream, stream.of)
    for stamp in stream.stamped():
        if stamp not in {name for name, _, _ in stream.field_columns()}:
            raise ValueError(f"{where}: the stamped column {stamp!r} is not under columns")
    if stream.each:
        for name, role in _parents(stream.each):
            try:
                parent = source.stream(name)
            except KeyError:
                raise ValueError(f"{where}.{role}: there is no stream {name!r}") from None
            if parent.of or (parent.window and not stream.window) or (parent.window and role != "each.stream"):
                raise ValueError(f"{where}.{role}: {name!r} is not a plain list")
        _refuse_circle(source, stream)
        _check_owner(source, stream, stream.each)
        columns = {name for name, _, _ in source.stream(stream.each.stream).field_columns()}
        allowed |= {f"each.{name}" for name in columns}
        for stamp, column in stream.each.stamp.items():
            if column not in columns:
                raise ValueError(f"{where}.each.stamp.{stamp}: {stream.each.stream} has no column {column!r}")
        for name, lookup in stream.each.lookup.items():
            for role, column in (("key", lookup.key), ("value", lookup.value)):
                if column not in {field for field, _, _ in source.stream(lookup.stream).field_columns()}:
                    raise ValueError(f"{where}.each.lookup.{name}.{role}: {lookup.stream} has no column {column!r}")
    for column, listed in stream.query.closed.items():
        other, _, listed_column = listed.partition(".")
        known_lists = {one.name: one for one in source.streams if not one.window and not one.of}
        if other not in known_lists or listed_column not in dict(known_lists[other].table_columns()):
            raise ValueError(f"{where}.query.closed.{column}: there is no {listed!r} among the plain lists")
    for name in _placeholders(stream.reading):
        if name not in source.settings or source.settings[name].secret:
            raise ValueError(f"{where}.reading: {{{name}}} is not a setting that may be shown")
    for name in sorted(stream.placeholders):
        if name not in allowed:
            raise ValueError(f"{where}: placeholder {{{name}}} means nothing here; known: {sorted(allowed)}")
    if stream.window is None and {"since", "until"} & stream.placeholders:
        raise ValueError(f"{where}: {{since}} and {{until}} need a window")


def _check_query(stream: Stream, types: dict[str, str]) -> None:
    """Columns that `query` names, and the parts of the request that it relies on."""
    query = stream.query
    named: dict[str, Collection[str]] = {
        "eq": query.eq,
        "ranges": query.ranges,
        "row": query.row,
        "closed": query.closed,
        "sort.columns": query.sort.columns if query.sort else {},
    }
    for key, columns in named.items():
        for column in columns:
            if column not in types:
                raise ValueError(f"query.{key}: there is no column {column!r}")
    for column in query.eq:
        if types[column] not in ("BIGINT", "VARCHAR"):
            raise ValueError(f"query.eq.{column}: only integers and strings can be asked for")
    for column in query.ranges:
        if types[column] not in ("TIMESTAMP WITH TIME ZONE", "DATE"):
            raise ValueError(f"query.ranges.{column}: only dates and timestamps can be asked for")
    for column, path in query.row.items():
        if _placeholders_of_row(path) != [column]:
            raise ValueError(f"query.row.{column}: the path must hold {{{column}}}, and no other column")
    if query.row and (stream.stamped() or stream.of):
        raise ValueError("query.row: columns that `each` or `of` stamps would be missing in the row")
    if bool(query.into) != bool(query.condition):
        raise ValueError("query.into: goes together with `condition`")


def _placeholders_of_row(path: str) -> list[str]:
    return [name for name in _placeholders(path) if not name.isupper()]


def _refuse_circle(source: Source, stream: Stream) -> None:
    above, seen = stream, [stream.name]
    while above.each:
        above = source.stream(above.each.stream)
        if above.name in seen:
            raise ValueError(f"streams.{stream.name}.each.stream: {above.name!r} is asked for by itself")
        seen.append(above.name)


def _check_owner(source: Source, stream: Stream, each: Each) -> None:
    """Rows asked for per row of a daily parent belong to the day and version of that row."""
    parent = source.stream(each.stream)
    if not parent.window or not stream.window:
        return
    where = f"streams.{stream.name}.each.stamp"
    for name in [*parent.key, parent.window.column]:
        if name not in each.stamp.values():
            raise ValueError(f"{where}: {name!r} of {each.stream} is missing")
    if each.stamp.get(stream.window.column) != parent.window.column:
        raise ValueError(f"{where}: {stream.window.column!r} must be {parent.window.column!r} of {each.stream}")


def _check_children(source: Source, stream: Stream, of: Children) -> None:
    where = f"streams.{stream.name}.of"
    try:
        parent = source.stream(of.stream)
    except KeyError:
        raise ValueError(f"{where}.stream: there is no stream {of.stream!r}") from None
    types = dict(parent.table_columns())
    if parent.of:
        raise ValueError(f"{where}.stream: {of.stream!r} is itself a child table")
    if types.get(of.rows) != "JSON":
        raise ValueError(f"{where}.rows: {of.stream} has no json column {of.rows!r}")
    for column, taken in of.stamp.items():
        if taken not in types:
            raise ValueError(f"{where}.stamp.{column}: {of.stream} has no column {taken!r}")
    needed = [*parent.key, *([parent.window.column] if parent.window else [])]
    for name in needed:
        if name not in of.stamp.values():
            raise ValueError(f"{where}.stamp: {name!r} of {of.stream} is missing")
    if (parent.window is None) != (stream.window is None) or parent.mode != stream.mode:
        raise ValueError(f"{where}: {stream.name} must have a window and be loaded as {of.stream} is")
    if stream.window and parent.window and of.stamp.get(stream.window.column) != parent.window.column:
        raise ValueError(f"{where}.stamp: {stream.window.column!r} must be {parent.window.column!r} of {of.stream}")


def _parents(each: Each) -> Iterator[tuple[str, str]]:
    yield each.stream, "each.stream"
    for name, lookup in each.lookup.items():
        yield lookup.stream, f"each.lookup.{name}.stream"


def _placeholders(tree: object) -> Iterator[str]:
    if isinstance(tree, str):
        yield from PLACEHOLDER.findall(tree)
    elif isinstance(tree, dict):
        for value in tree.values():
            yield from _placeholders(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from _placeholders(value)


@functools.cache
def _package_version() -> str:
    return importlib.metadata.version("etl-assets")


def code_version(source: Source, stream: Stream) -> str:
    """Changes whenever the declaration of the stream does: package version and a digest."""
    declared = f"{source.timezone}{source.base_url}{stream.model_dump_json(exclude={'query'})}"
    return f"{_package_version()}+{hashlib.sha256(declared.encode()).hexdigest()[:12]}"
