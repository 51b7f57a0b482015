"""Columns in BigQuery: types, descriptions, clustering, and which changes of them lose nothing."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from google.cloud.bigquery import SchemaField, Table

from etl_assets.errors import TableError
from etl_assets.spec import Stream

# What the column is called in every warehouse, and what BigQuery makes us call it: it refuses names that begin
# with _PARTITION, in whatever case.
PARTITION_NAMES = ("_partition", "partition_date")
_SIMPLE = {
    "BIGINT": "INT64",
    "BOOLEAN": "BOOL",
    "DATE": "DATE",
    "DOUBLE": "FLOAT64",
    "JSON": "STRING",
    "TIMESTAMP": "DATETIME",
    "TIMESTAMP WITH TIME ZONE": "TIMESTAMP",
    "VARCHAR": "STRING",
}
_KINDS = {
    **{name: kind for kind, name in _SIMPLE.items() if kind != "JSON"},
    "BIGNUMERIC": "DECIMAL(38,18)",
    "NUMERIC": "DECIMAL(38,9)",
}
_LEGACY = {"INTEGER": "INT64", "BOOLEAN": "BOOL", "FLOAT": "FLOAT64"}
_WIDER = {
    "INT64": ("FLOAT64", "NUMERIC", "BIGNUMERIC", "STRING"),
    "BOOL": ("STRING",),
    "DATE": ("STRING", "TIMESTAMP"),
    "FLOAT64": ("STRING",),
    "NUMERIC": ("BIGNUMERIC", "STRING"),
    "BIGNUMERIC": ("STRING",),
}
_IN_PLACE = {("INT64", "FLOAT64"), ("INT64", "NUMERIC"), ("INT64", "BIGNUMERIC"), ("NUMERIC", "BIGNUMERIC")}
_DECIMAL = re.compile(r"DECIMAL\((\d+),(\d+)\)")
_MOST_CLUSTERED = 4
_NOT_CLUSTERED = ("FLOAT64",)


@dataclass(frozen=True)
class Type:
    """A column type; digits before and after the point where it is a decimal that limits them."""

    name: str
    whole: int | None = None
    scale: int | None = None

    def __str__(self) -> str:
        return self.name if self.whole is None else f"{self.name}({self.whole + (self.scale or 0)}, {self.scale})"


def type_of(kind: str) -> Type:
    """BigQuery's type for one of DuckDB's."""
    if not (decimal := _DECIMAL.fullmatch(kind)):
        return Type(_SIMPLE[kind])
    precision, scale = int(decimal[1]), int(decimal[2])
    fits = scale <= 9 and precision - scale <= 29
    return Type("NUMERIC" if fits else "BIGNUMERIC", precision - scale, scale)


def type_name(kind: str) -> str:
    """The bare name of the type, as CAST takes it."""
    return type_of(kind).name


def fields(columns: Mapping[str, str], descriptions: Mapping[str, str] | None = None) -> list[SchemaField]:
    """Fields of a schema for columns given with DuckDB's types."""
    described = descriptions or {}
    made = []
    for name, kind in columns.items():
        wanted = type_of(kind)
        more: dict[str, Any] = {"description": described[name]} if name in described else {}
        if wanted.whole is not None:
            more |= {"precision": wanted.whole + (wanted.scale or 0), "scale": wanted.scale}
        made.append(SchemaField(name, wanted.name, **more))
    return made


def table_schema(stream: Stream, partition: str, *, marks: bool) -> list[SchemaField]:
    """The schema of a stream's table; `partition` is the name of its partition column."""
    columns = dict(stream.table_columns())
    if stream.window:
        columns[partition] = "DATE"
    columns |= {"_loaded_at": "TIMESTAMP WITH TIME ZONE", "_run_id": "VARCHAR", "_extra": "JSON"}
    if marks:
        columns["_deleted_at"] = "TIMESTAMP WITH TIME ZONE"
    return fields(columns, stream.descriptions())


def clustering(stream: Stream) -> list[str] | None:
    """The key, as far as BigQuery clusters by it."""
    kinds = dict(stream.table_columns())
    names = [name for name in stream.key if type_name(kinds[name]) not in _NOT_CLUSTERED]
    return names[:_MOST_CLUSTERED] or None


def joined(present: Sequence[SchemaField], wanted: Sequence[SchemaField]) -> list[SchemaField]:
    """The present columns with the descriptions of today, and the new ones behind them."""
    by_name = {field.name: field for field in wanted}
    kept = [_described(field, by_name.get(field.name)) for field in present]
    known = {field.name for field in present}
    return [*kept, *(field for field in wanted if field.name not in known)]


def widened(place: str, present: Sequence[SchemaField], wanted: Sequence[SchemaField]) -> dict[str, tuple[Type, Type]]:
    """Columns whose type becomes wider. Raises TableError for a change that could lose values."""
    changes = {}
    before = {field.name: _present_type(field) for field in present}
    for field in wanted:
        old, new = before.get(field.name), _present_type(field)
        if old is None or (old.name == new.name and (old == new or old.whole is None)):
            continue
        if not _widens(old, new):
            raise TableError(
                f"{place}.{field.name} is {old} and cannot become {new} without losing values; give the column "
                "another name in the stream file, or drop it from the table first"
            )
        changes[field.name] = (old, new)
    return changes


def widening(name: str, table: Table, changes: Mapping[str, tuple[Type, Type]]) -> Iterator[str]:
    """The statements that widen columns of the table `name`: in place where BigQuery can, else by rewriting it."""
    rewritten = {}
    for column, (old, new) in changes.items():
        if old.name == new.name or (old.name, new.name) in _IN_PLACE:
            yield f"ALTER TABLE {name} ALTER COLUMN `{column}` SET DATA TYPE {new}"
        else:
            rewritten[column] = new
    if rewritten:
        casts = ", ".join(f"CAST(`{column}` AS {new}) AS `{column}`" for column, new in rewritten.items())
        partitioned = f" PARTITION BY `{table.time_partitioning.field}`" if table.time_partitioning else ""
        clustered = (
            f" CLUSTER BY {', '.join(f'`{c}`' for c in table.clustering_fields)}" if table.clustering_fields else ""
        )
        yield f"CREATE OR REPLACE TABLE {name}{partitioned}{clustered} AS SELECT * REPLACE ({casts}) FROM {name}"


def kinds(table: Table, stream: Stream | None) -> dict[str, str]:
    """The columns of a table with DuckDB's types: as the stream declares them, else as BigQuery has them."""
    partition = table.time_partitioning.field if table.time_partitioning else None
    declared = {**dict(stream.table_columns()), "_extra": "JSON"} if stream else {}
    names = {field.name: PARTITION_NAMES[0] if field.name == partition else field.name for field in table.schema}
    return {names[field.name]: declared.get(field.name) or _kind(field) for field in table.schema}


def _kind(field: SchemaField) -> str:
    present = _present_type(field)
    if present.whole is not None:
        return f"DECIMAL({present.whole + (present.scale or 0)},{present.scale})"
    return _KINDS.get(present.name, present.name)


def label(value: str) -> str:
    """A text as BigQuery takes it for the value of a label."""
    return re.sub(r"[^a-z0-9_-]", "_", value.lower())[:63]


def tables_of(sql: str) -> set[tuple[str, str]]:
    """(schema, table) of every table that a SELECT of DuckDB's dialect names with its schema."""
    import sqlglot
    from sqlglot import exp

    return {(table.db, table.name) for table in sqlglot.parse_one(sql, read="duckdb").find_all(exp.Table) if table.db}


def _present_type(field: SchemaField) -> Type:
    name = _LEGACY.get(field.field_type, field.field_type)
    if field.precision is None:
        return Type(name)
    scale = int(field.scale or 0)
    return Type(name, int(field.precision) - scale, scale)


def _widens(old: Type, new: Type) -> bool:
    if old.name == new.name:
        return new.whole is None or ((old.whole or 0) <= new.whole and (old.scale or 0) <= (new.scale or 0))
    return new.name in _WIDER.get(old.name, ())


def _described(field: SchemaField, wanted: SchemaField | None) -> SchemaField:
    if wanted is None or field.description == wanted.description:
        return field
    tree = field.to_api_repr()
    tree["description"] = wanted.description
    return SchemaField.from_api_repr({name: value for name, value in tree.items() if value is not None})
