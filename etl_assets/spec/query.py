"""What SQL may ask of an API."""

from collections.abc import Collection, Mapping
from datetime import timedelta
from typing import Any, Literal

from pydantic import Field, model_validator

from etl_assets.spec.words import ColumnName, Duration, Model, UrlPath, placeholders


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


def check_query(query: Query, types: Mapping[str, str], *, stamped: bool) -> None:
    """Columns that `query` names, and the parts of the request that it relies on.

    `types` are those of the stream's columns, `stamped` whether some come from the request. Raises ValueError.
    """
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
    if query.row and stamped:
        raise ValueError("query.row: columns that `each` or `of` stamps would be missing in the row")
    if bool(query.into) != bool(query.condition):
        raise ValueError("query.into: goes together with `condition`")


def _placeholders_of_row(path: str) -> list[str]:
    return [name for name in placeholders(path) if not name.isupper()]
