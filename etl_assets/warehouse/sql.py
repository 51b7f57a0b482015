"""The SQL that all warehouses share, and the few points in which their dialects differ.

Every function gives one statement or expression. Rows come from relations whose names the caller chose:
`here` is what is loaded, `there` the table. `partition` is the name of the table's partition column.
"""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, Protocol

from etl_assets.landing import Manifest
from etl_assets.spec import Deletes, Source, Stream

OPS = "ops"
LOADS = {
    "source": "VARCHAR",
    "stream": "VARCHAR",
    "partition": "DATE",
    "window_start": "TIMESTAMP WITH TIME ZONE",
    "window_end": "TIMESTAMP WITH TIME ZONE",
    "rows_raw": "BIGINT",
    "rows_loaded": "BIGINT",
    "rows_quarantined": "BIGINT",
    "rows_duplicate": "BIGINT",
    "content_hash": "VARCHAR",
    "landing_uri": "VARCHAR",
    "run_id": "VARCHAR",
    "code_version": "VARCHAR",
    "loaded_at": "TIMESTAMP WITH TIME ZONE",
    "read_at": "TIMESTAMP WITH TIME ZONE",
}
QUARANTINE = {
    "source": "VARCHAR",
    "stream": "VARCHAR",
    "partition": "DATE",
    "record_key": "VARCHAR",
    "reason": "VARCHAR",
    "record": "VARCHAR",
    "run_id": "VARCHAR",
    "quarantined_at": "TIMESTAMP WITH TIME ZONE",
}
_HISTORY, _HISTORY_AT_LEAST = 8, 3


class Dialect(Protocol):
    """Where the warehouses differ."""

    def name(self, name: str) -> str:
        """A quoted name."""
        ...

    def table(self, schema: str, table: str) -> str:
        """A quoted table."""
        ...

    def literal(self, value: str | int | date | datetime | None) -> str:
        """A value as a literal of its type; an instant is aware."""
        ...

    def never(self, name: str) -> str:
        """No instant, as a column of that name."""
        ...

    def text(self, value: str, kind: str) -> str:
        """The value of a column of a (DuckDB) type as text that is the same in every warehouse."""
        ...


def owner(source: Source, stream: Stream) -> list[str]:
    """The columns whose newest version decides in a merge: the key, or for a child table its parent's."""
    if found := source.owner(stream):
        parent, stamp = found
        return [column for column, taken in stamp.items() if taken in parent.key]
    return stream.key


def same(d: Dialect, columns: Iterable[str] | Mapping[str, str], left: str, right: str) -> str:
    """Whether two relations agree in columns; a mapping names those of the right one."""
    pairs = columns.items() if isinstance(columns, Mapping) else ((column, column) for column in columns)
    return " AND ".join(f"{left}.{d.name(one)} = {right}.{d.name(other)}" for one, other in pairs)


def own(d: Dialect, partition: str, day: date | None, *, marks: bool, of: str = "") -> str:
    """The rows that a load of the day decides on. Those marked as deleted are kept as they are."""
    prefix = f"{of}." if of else ""
    mine = "true" if day is None else f"{prefix}{d.name(partition)} = {d.literal(day)}"
    return f"{mine} AND {prefix}{d.name('_deleted_at')} IS NULL" if marks else mine


@dataclass(frozen=True)
class Merge:
    """What decides in a merge, whatever the rows: the keys, the day, and when the source was read.

    `partition` is the name of the partition column here and in the table of the parents.
    """

    stream: Stream
    keys: list[str]
    partition: str
    day: date
    read_at: datetime


def newer(d: Dialect, m: Merge, *, marks: bool, there: str = "there", here: str = "here") -> str:
    """Whether the version there outdoes the one of this day.

    Of equal versions that of the later day counts, or (with `marks`) one that was marked after this one was read.
    """
    version = d.name(str(m.stream.version_column))
    later = f"{there}.{d.name(m.partition)} > {d.literal(m.day)}"
    if marks:
        later = f"({later} OR coalesce({there}.{d.name('_deleted_at')} > {d.literal(m.read_at)}, false))"
    return (
        f"coalesce({there}.{version} > {here}.{version} OR {there}.{version} = {here}.{version} AND {later}, "
        f"{there}.{version} IS NOT NULL OR {here}.{version} IS NULL AND {later})"
    )


def fresh(d: Dialect, rows: str, elsewhere: str, keys: list[str], outdone: str) -> str:
    """The rows of which no other partition holds a newer version."""
    return (
        f"SELECT here.* FROM {rows} AS here WHERE NOT EXISTS ("
        f"SELECT 1 FROM ({elsewhere}) AS there WHERE {same(d, keys, 'there', 'here')} AND {outdone})"
    )


@dataclass(frozen=True)
class Versions:
    """A table that holds versions; `marks` tells whether it keeps deleted rows."""

    table: str
    marks: bool

    def deleted_at(self, d: Dialect) -> str:
        """When a row was deleted, as a column."""
        return d.name("_deleted_at") if self.marks else d.never("_deleted_at")


def elsewhere(d: Dialect, m: Merge, own_table: Versions, mine: str, parents: Versions | None) -> str:
    """The versions in other partitions and of marked rows: those of parents, too, which may have no child rows."""
    names, partition = [*m.keys, str(m.stream.version_column)], d.name(m.partition)
    columns = ", ".join(map(d.name, names))
    held = f"SELECT {columns}, {partition}, {own_table.deleted_at(d)} FROM {own_table.table} WHERE NOT ({mine})"
    of = m.stream.of
    if of is None or parents is None or not of.stamp.keys() >= set(names):
        return held
    taken = ", ".join(f"{d.name(of.stamp[name])} AS {d.name(name)}" for name in names)
    other = f"{partition} <> {d.literal(m.day)}"
    if parents.marks:
        other = f"({other} OR {d.name('_deleted_at')} IS NOT NULL)"
    return f"{held} UNION ALL SELECT {taken}, {partition}, {parents.deleted_at(d)} FROM {parents.table} WHERE {other}"


def mark_deleted(d: Dialect, table: str, there: str, deletes: Deletes) -> str:
    """Mark the rows whose deletion the table `there` has told, with the time that it tells."""
    keys = ", ".join(map(d.name, deletes.key.values()))
    told = f"SELECT {keys}, min({d.name(deletes.at)}) AS told_at FROM {there} GROUP BY {keys}"
    deleted = d.name("_deleted_at")
    return (
        f"UPDATE {table} AS t SET {deleted} = told.told_at FROM ({told}) AS told "
        f"WHERE {same(d, deletes.key, 't', 'told')} AND t.{deleted} IS DISTINCT FROM told.told_at"
    )


@dataclass(frozen=True)
class Sweep:
    """A list of all that exists: the relation that holds the keys it found, and when it began."""

    found: str
    began: datetime


def _absent(d: Dialect, stream: Stream, sweep: Sweep) -> str:
    """The live rows `t` whose key the sweep did not find, unless they changed after it had begun."""
    deleted, version = d.name("_deleted_at"), d.name(str(stream.version_column))
    return (
        f"t.{deleted} IS NULL AND t.{version} < {d.literal(sweep.began)} "
        f"AND NOT EXISTS (SELECT 1 FROM {sweep.found} AS f WHERE {same(d, stream.key, 'f', 't')})"
    )


def mark_absent(d: Dialect, table: str, stream: Stream, sweep: Sweep, mine: str = "true") -> str:
    """Mark the rows that the sweep did not find, of those that are `mine`."""
    at = f"{d.name('_deleted_at')} = {d.literal(sweep.began)}"
    return f"UPDATE {table} AS t SET {at} WHERE {_absent(d, stream, sweep)} AND {mine}"


def count_absent(d: Dialect, table: str, stream: Stream, sweep: Sweep) -> str:
    """A SELECT of two numbers: live rows, and those of them that the sweep did not find."""
    live = f"SELECT count(*) FROM {table} AS t WHERE t.{d.name('_deleted_at')} IS NULL"
    return f"SELECT ({live}), (SELECT count(*) FROM {table} AS t WHERE {_absent(d, stream, sweep)})"


def last_read(d: Dialect, source: str, stream: str) -> str:
    """A SELECT of when the source was read for the stream's last load; no row without one."""
    who = f"source = {d.literal(source)} AND stream = {d.literal(stream)}"
    loads = d.table(OPS, "loads")
    return f"SELECT read_at FROM {loads} WHERE {who} AND read_at IS NOT NULL ORDER BY loaded_at DESC LIMIT 1"


def row_digest(d: Dialect, stream: Stream, of: str = "") -> str:
    """60 bits of a row's columns and `_extra`, the same in every warehouse."""
    prefix = f"{of}." if of else ""
    columns = [*stream.table_columns(), ("_extra", "JSON")]
    texts = [d.text(f"{prefix}{d.name(name)}", kind) for name, kind in columns]
    # With its length before it, no text can run into the next one.
    parts = ", ".join(f"coalesce({d.text(f'length({text})', 'BIGINT')} || ':' || {text}, '-')" for text in texts)
    digest = d.text(f"md5(array_to_string([{parts}], ''))", "MD5")
    return f"CAST(concat('0x', substr({digest}, 1, 15)) AS BIGINT)"


def content_digest(d: Dialect, stream: Stream, relation: str) -> str:
    """A SELECT of the two numbers that tell sets of rows apart, whatever their order: count and combined digest."""
    return f"SELECT count(*) AS n, coalesce(bit_xor({row_digest(d, stream)}), 0) AS x FROM {relation}"


def differences(
    d: Dialect, stream: Stream, table: str, rows: str, *, mine: str, outdone: str, unequal: str, marks: bool
) -> tuple[str, str]:
    """Two SELECTs: (missing, changed) rows of the table, and the number of rows too many.

    `unequal` tells whether a row there has another content than the one here.
    """
    absent = f"there.{d.name('_run_id')} IS NULL"
    if marks:  # what the API has is not deleted
        absent = f"({absent} OR (there.{d.name('_deleted_at')} IS NOT NULL AND NOT {outdone}))"
    on = same(d, stream.key, "there", "here")
    lacking = (
        f"SELECT {_count(absent)}, {_count(f'NOT {absent} AND {unequal} AND NOT {outdone}')} "
        f"FROM {rows} AS here LEFT JOIN {table} AS there ON {on}"
    )
    surplus = (
        f"SELECT count(*) FROM (SELECT * FROM {table} WHERE {mine}) AS there "
        f"WHERE NOT EXISTS (SELECT 1 FROM {rows} AS here WHERE {on})"
    )
    return lacking, surplus


def _count(condition: str) -> str:
    return f"coalesce(sum(CASE WHEN {condition} THEN 1 ELSE 0 END), 0)"


def earlier_rows(d: Dialect, source: Source, stream: Stream, day: date | None) -> str:
    """The row counts of the latest loads that this one may be compared with: `usual` makes a number of them."""
    partition = d.name("partition")
    alike = "true"
    if day is not None:
        weekday = f"EXTRACT(DAYOFWEEK FROM {partition}) = EXTRACT(DAYOFWEEK FROM {d.literal(day)})"
        alike = f"{partition} <> {d.literal(day)} AND {weekday}"
    each = "loaded_at" if day is None else partition
    return (
        f"SELECT rows_loaded FROM (SELECT rows_loaded, loaded_at, "
        f"row_number() OVER (PARTITION BY {each} ORDER BY loaded_at DESC) AS latest FROM {d.table(OPS, 'loads')} "
        f"WHERE source = {d.literal(source.source)} AND stream = {d.literal(stream.name)} AND {alike}) AS loads "
        f"WHERE latest = 1 ORDER BY loaded_at DESC LIMIT {_HISTORY}"
    )


def usual(rows: Sequence[int]) -> float | None:
    """The usual number of rows; None while there are few loads to tell."""
    return float(statistics.median(rows)) if len(rows) >= _HISTORY_AT_LEAST else None


def load_values(
    source: Source, stream: Stream, day: date | None, manifest: Manifest, *, uri: str, run_id: str
) -> dict[str, Any]:
    """What is recorded of a load that happens now, by the columns of `ops.loads`, and of the rows it leaves out."""
    start, end = map(datetime.fromisoformat, manifest.window) if manifest.window else (None, None)
    now = datetime.now(UTC)
    return {
        "source": source.source,
        "stream": stream.name,
        "partition": day,
        "window_start": start,
        "window_end": end,
        "rows_loaded": manifest.rows,
        **{name: manifest.details[name] for name in ("rows_raw", "rows_quarantined", "rows_duplicate", "content_hash")},
        "landing_uri": uri,
        "run_id": run_id,
        "code_version": manifest.code_version,
        "loaded_at": now,
        "read_at": manifest.as_of,
        "quarantined_at": now,
    }


def insert_load(d: Dialect, values: Mapping[str, Any]) -> str:
    """The entry of a load in `ops.loads`."""
    cells = ", ".join(d.literal(values[name]) for name in LOADS)
    return f"INSERT INTO {d.table(OPS, 'loads')} ({', '.join(map(d.name, LOADS))}) VALUES ({cells})"


def delete_quarantine(d: Dialect, source: Source, stream: Stream, day: date | None) -> str:
    """Remove what the partition's last load left out."""
    partition = d.name("partition")
    mine = f"{partition} IS NULL" if day is None else f"{partition} = {d.literal(day)}"
    who = f"source = {d.literal(source.source)} AND stream = {d.literal(stream.name)}"
    return f"DELETE FROM {d.table(OPS, 'quarantine')} WHERE {who} AND {mine}"


def insert_quarantine(d: Dialect, rows: str, values: Mapping[str, Any]) -> str:
    """Put the rows that this load leaves out into `ops.quarantine`; `rows` has their key, reason and record."""
    cells = ", ".join(d.name(name) if name not in values else d.literal(values[name]) for name in QUARANTINE)
    return f"INSERT INTO {d.table(OPS, 'quarantine')} ({', '.join(map(d.name, QUARANTINE))}) SELECT {cells} FROM {rows}"
