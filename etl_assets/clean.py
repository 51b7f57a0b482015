"""Clean: from raw pages to typed Parquet, by one DuckDB SELECT over the files.

Every row ends in exactly one place: the table file, the quarantine file with its reason, outside the day
asked for (windows are widened), or superseded by another version of the same key. The counts add up, or the
step fails. What each declared type accepts stands in `coltypes.py`.
"""

import contextlib
import importlib
import json
import logging
import os
import re
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any

import duckdb

from etl_assets import coltypes
from etl_assets.errors import FinalError, LandingError, QuarantineError, SettingError
from etl_assets.landing import Folder, Manifest
from etl_assets.spec import Children, Column, Source, Stream, code_version
from etl_assets.sqltext import identifier, json_path, literal
from etl_assets.template import filled
from etl_assets.window import Window

log = logging.getLogger(__name__)

_SMALLEST_BUFFER = 1 << 20
_ROW_GROUP_ROWS, _ROW_GROUP_BYTES = 20_480, 8 << 20
_COPIES_OF_A_PAGE = 60
_COPIES_OF_A_ROW_GROUP = 8
_MOST_THREADS = 2
_TRANSFORM_ROWS = 50_000
_SHOWN_REASONS = 5


@dataclass(frozen=True)
class Cleaned:
    """What a clean did. `undeclared` and `never_seen` are the drift against the stream file."""

    manifest: Manifest
    uri: str
    seconds: float
    rows_raw: int
    rows_outside: int
    rows_quarantined: int
    rows_duplicate: int
    undeclared: Mapping[str, str]
    never_seen: tuple[str, ...]


def clean(
    source: Source,
    stream: Stream,
    day: Window | None,
    *,
    values: Mapping[str, str],
    raw: Folder,
    into: Folder,
    run_id: str,
    memory_mb: int,
) -> Cleaned:
    """Clean the raw set into the clean folder. `values` are the settings of the source.

    Raises QuarantineError when too many rows do not fit, LandingError when a file is missing or cannot be
    written; then the clean folder still holds the set it held before.
    """
    started = time.monotonic()
    received = raw.manifest()
    paths = raw.files(received)
    if stream.of:
        paths = paths[:1]  # the rows of the parent's clean set
    reading = time_reading(stream, values)
    try:
        with _workspace(into) as work, _database(work, received, memory_mb) as db:
            typed, table = work / "typed.parquet", work / "table.parquet"
            records = elements(stream.of, _file(paths[0])) if stream.of else _records(received, paths)
            _type(db, typed_rows(source, stream, records, reading), typed)
            counts = _counts(db, stream, day, typed)
            if not stream.of and counts.read != received.rows:
                raise LandingError(f"{raw.uri}: {received.rows} rows were received, {counts.read} read back")
            _limit_quarantine(db, stream, day, typed, counts)
            _copy(db, _winners(stream, day, typed, counts), table)
            if stream.transform:
                _transform(db, stream, table)
            content = content_hash(db, stream, f"read_parquet({literal(str(table))})")
            text = _delimited(db, stream, table)
            files = [into.keep(table, "rows", ".parquet", counts.kept)]
            if source.owner(stream):
                parents = work / "parents.parquet"
                _copy(db, _owners(source, stream, received, paths, reading), parents)
                files.append(into.keep(parents, "parents", ".parquet", counts.kept))
            if counts.bad:
                quarantine = work / "quarantine.parquet"
                _copy(db, _quarantined(stream, day, typed), quarantine)
                files.append(into.keep(quarantine, "quarantine", ".parquet", counts.bad))
            if text:
                files.append(into.keep(text, "table", text.suffix, counts.kept))
            undeclared, never_seen = _drift(db, stream, day, typed)
    except OSError as error:
        raise LandingError(f"{into.uri}: cannot be written: {error.strerror or error}") from None
    except duckdb.IOException as error:
        raise LandingError(f"{into.uri}: {error}") from None
    except duckdb.Error as error:
        raise FinalError(f"cannot be cleaned: {error}") from None
    manifest = Manifest(
        layer="clean",
        source=source.source,
        stream=stream.name,
        partition=into.partition,
        window=received.window,
        rows=counts.kept,
        files=tuple(files),
        run_id=run_id,
        code_version=code_version(source, stream),
        created_at=datetime.now(UTC).isoformat(),
        details={
            "content_hash": content,
            "rows_raw": counts.bad + counts.good,
            "rows_quarantined": counts.bad,
            "rows_duplicate": counts.good - counts.kept,
            "raw": {
                "uri": raw.uri,
                "run_id": received.run_id,
                "started_at": received.details.get("started_at") or received.details["raw"]["started_at"],
                "files": [entry.name for entry in received.files],
            },
        },
    )
    into.seal(manifest)
    return Cleaned(
        manifest=manifest,
        uri=into.uri,
        seconds=time.monotonic() - started,
        rows_raw=counts.bad + counts.good,
        rows_outside=counts.read - counts.bad - counts.good,
        rows_quarantined=counts.bad,
        rows_duplicate=counts.good - counts.kept,
        undeclared=undeclared,
        never_seen=never_seen,
    )


def typed_rows(source: Source, stream: Stream, records: str, reading: str) -> str:
    """The SELECT that types every received row. `records` is one that gives `_page`, `_stamp` and `_record`.

    It gives the table's columns and `_extra`, and what is needed to decide on the row: `_page`, and for rows
    that do not fit `_reason`, `_key` and `_record`. No column of a stream begins with an underscore.
    """
    fields = stream.field_columns()
    declared = {path: column for _, places, column in fields for path in places}
    parents = _parents(list(declared))
    zone = literal(source.timezone)
    if stream.zone:
        zone = f"coalesce({_stamped(stream.zone)}, {zone})"
    given: list[str] = []
    typed: list[str] = []
    checks: list[str] = []
    for name, places, column in fields:
        values = [_value(path, declared) for path in places]
        if name in stream.stamped():
            values.insert(0, _stamped(name, column.type == "json"))
        value = f"coalesce({', '.join(values)})" if len(values) > 1 else values[0]
        in_type = partial(coltypes.typed, column=column, zone=zone, home=source.timezone, reading=reading)
        if column.type in coltypes.NEVER_UNFIT:
            given.append(f"{in_type(value)} AS {identifier(name)}")
        else:
            text = identifier(f"={name}")  # which the check of the type needs, too
            given.append(f"{value} AS {text}")
            typed.append(f"{in_type(text)} AS {identifier(name)}")
        checks += _checks(stream, name, column)
    checks += [_missing(name) for name in _needed(stream) if name not in {field for field, _, _ in fields}]
    computed = [
        f"CAST({column.sql or 'NULL'} AS {column.duckdb_type}) AS {identifier(name)}"
        for name, column in stream.derived.items()
    ]
    computed += [
        f"timezone({literal(source.timezone)}, {identifier(name)}) AS {identifier(name + '_local')}"
        for name in stream.local
    ]
    extra = "CAST(NULL AS JSON)" if stream.extra == "drop" else _without_empty("_rest", list(declared))
    columns = ", ".join(identifier(name) for name, _ in stream.table_columns())
    key = ", ".join(f"CAST({identifier(name)} AS VARCHAR)" for name in stream.key)
    return f"""
WITH records AS ({records}),
parts AS (
    SELECT *, from_json(_record, {literal(json.dumps(_shape(declared)))}) AS _values,
           json_type(_record, {_path_list(parents)}) AS _kinds,
           json_merge_patch(_record, {literal(json.dumps(_removal(list(declared))))}) AS _rest
    FROM records),
given AS (
    SELECT _page, _stamp, _record, {_with_other_shapes("_rest", parents)} AS _rest,
           {", ".join(given)}
    FROM parts),
typed AS (SELECT {", ".join(["*", *typed])} FROM given),
complete AS (SELECT {", ".join(["*", *computed])} FROM typed),
judged AS (SELECT *, CASE {" ".join(checks)} END AS _reason FROM complete)
SELECT {columns}, {extra} AS _extra, _page, _reason,
       CASE WHEN _reason IS NOT NULL THEN nullif(concat_ws('/', {key}), '') END AS _key,
       CASE WHEN _reason IS NOT NULL THEN CAST(_record AS VARCHAR) END AS _record
FROM judged"""


def content_hash(db: duckdb.DuckDBPyConnection, stream: Stream, relation: str) -> str:
    """Equal for equal rows in any order: their number and a combined hash of the columns and `_extra`.

    `relation` is any FROM item of the given database.
    """
    count, combined = _one(db, f"SELECT count(*), coalesce(bit_xor({row_hash(stream)}), 0) FROM {relation}")
    return f"{count}-{combined:016x}"


def row_hash(stream: Stream, alias: str | None = None) -> str:
    """An SQL expression: the hash of a row's columns and `_extra`."""
    prefix = f"{alias}." if alias else ""
    columns = ", ".join(
        f"CAST({prefix}{identifier(name)} AS {'VARCHAR' if kind == 'JSON' else kind})"
        for name, kind in [*stream.table_columns(), ("_extra", "JSON")]
    )
    # Hashed once more: DuckDB joins the last column's hash by XOR, so that two rows could swap its values unseen.
    return f"hash(hash({columns}))"


@dataclass(frozen=True)
class _Counts:
    """Rows read, not fitting, fitting, and left after duplicates."""

    read: int
    bad: int
    good: int
    kept: int


def _counts(db: duckdb.DuckDBPyConnection, stream: Stream, day: Window | None, typed: Path) -> _Counts:
    bad = f"_reason IS NOT NULL AND ({_inside(stream, day)}) IS NOT FALSE"
    good = f"_reason IS NULL AND {_inside(stream, day)}"
    key = ", ".join(map(identifier, stream.key))
    return _Counts(
        *_one(
            db,
            f"""SELECT count(*), count(*) FILTER ({bad}), count(*) FILTER ({good}),
                       count(DISTINCT ({key})) FILTER ({good}) FROM {_file(typed)}""",
        )
    )


def _winners(stream: Stream, day: Window | None, typed: Path, counts: _Counts) -> str:
    """The rows of the table: those that fit, of the day, and of each key the newest version."""
    columns = ", ".join(identifier(name) for name, _ in stream.table_columns())
    sql = f"""SELECT {columns}, _extra, _page FROM {_file(typed)}
              WHERE _reason IS NULL AND {_inside(stream, day)}"""
    if counts.good == counts.kept:
        return sql
    key = ", ".join(map(identifier, stream.key))
    newest = f"{identifier(stream.version_column)} DESC NULLS LAST, " if stream.version_column else ""
    # The last resort is the content, so that the winner does not depend on the order of reading.
    order = f"{newest}_page DESC, hash({columns}, _extra) DESC"
    return f"{sql} QUALIFY row_number() OVER (PARTITION BY {key} ORDER BY {order}) = 1"


def _quarantined(stream: Stream, day: Window | None, typed: Path) -> str:
    return f"""SELECT _key AS record_key, _reason AS reason, _record AS record FROM {_file(typed)}
               WHERE _reason IS NOT NULL AND ({_inside(stream, day)}) IS NOT FALSE"""


def _limit_quarantine(
    db: duckdb.DuckDBPyConnection, stream: Stream, day: Window | None, typed: Path, counts: _Counts
) -> None:
    judged = counts.bad + counts.good
    limit = max(stream.quarantine.rows, int(stream.quarantine.share * judged))
    if counts.bad <= limit and not (counts.bad and counts.bad == judged):
        return
    reasons = db.execute(
        f"""SELECT reason, count(*), min(record_key) FROM ({_quarantined(stream, day, typed)})
            GROUP BY reason ORDER BY count(*) DESC, reason LIMIT {_SHOWN_REASONS}"""
    ).fetchall()
    shown = "\n".join(f"  {number} x {reason} (for example {key or 'no key'})" for reason, number, key in reasons)
    allowed = f"more than the limit of {limit}" if counts.bad > limit else "so that none is left"
    raise QuarantineError(
        f"{counts.bad} of {judged} rows do not fit the stream file, {allowed}:\n{shown}\n"
        "Nothing was loaded. Correct the columns of the stream, or raise its quarantine limit."
    )


def _inside(stream: Stream, day: Window | None) -> str:
    """Whether a row lies in the half-open window; NULL where its time is unknown."""
    if day is None or stream.window is None:
        return "true"
    column = identifier(stream.window.column)
    if dict(stream.table_columns())[stream.window.column] == "DATE":
        return f"({column} = DATE {literal(day.day.isoformat())})"
    start, end = (literal(edge.astimezone(UTC).isoformat()) for edge in (day.start, day.end))
    return f"({column} >= TIMESTAMPTZ {start} AND {column} < TIMESTAMPTZ {end})"


def _checks(stream: Stream, name: str, column: Column) -> list[str]:
    """WHEN branches that give the reason why a column does not fit."""
    text, value = identifier(f"={name}"), identifier(name)
    branches = []
    if column.type not in coltypes.NEVER_UNFIT:
        reason = literal(f"{name}: not a {column.type}: ")
        branches.append(f"WHEN {value} IS NULL AND {text} <> '' THEN {reason} || left({text}, 80)")
    if name in _needed(stream) or column.required:
        branches.append(_missing(name))
    return branches


def _needed(stream: Stream) -> list[str]:
    """Columns without which a row has no place: its key and its day."""
    return [*stream.key, *([stream.window.column] if stream.window else [])]


def _missing(name: str) -> str:
    return f"WHEN {identifier(name)} IS NULL THEN {literal(f'{name}: missing')}"


def elements(of: Children, rows: str) -> str:
    """The elements of the parents' lists, stamped with the parents' columns; `rows` is a FROM item with these."""
    stamp = ", ".join(f"{literal(column)}, {identifier(taken)}" for column, taken in of.stamp.items())
    return f"""
    SELECT _page, json_object({stamp}) AS _stamp, unnest(from_json({identifier(of.rows)}, '["JSON"]')) AS _record
    FROM {rows}"""


def _owners(source: Source, stream: Stream, received: Manifest, paths: list[Path], reading: str) -> str:
    """The stamps of every parent asked for, typed: also of those that have no rows of this stream."""
    if stream.of:
        stamps = ", ".join(f"{identifier(taken)} AS {identifier(column)}" for column, taken in stream.of.stamp.items())
        return f"SELECT DISTINCT {stamps} FROM {_file(paths[0])}"
    zone, home = literal(source.timezone), source.timezone
    columns = []
    for name, _, column in stream.field_columns():
        if name in stream.stamped():
            value = coltypes.typed(_stamped(name), column, zone=zone, home=home, reading=reading)
            columns.append(f"{value} AS {identifier(name)}")
    stamps = "SELECT NULL::JSON AS _stamp LIMIT 0"
    if paths:
        stamps = f"SELECT stamp AS _stamp FROM {_read_json(received, paths, {'stamp': 'JSON'})}"
    return f"SELECT DISTINCT {', '.join(columns)} FROM ({stamps})"


def _records(received: Manifest, paths: list[Path]) -> str:
    return f"SELECT _page, _stamp, unnest(_rows) AS _record FROM ({_pages(received, paths)})"


def _pages(received: Manifest, paths: list[Path]) -> str:
    """The pages of the raw files: number, stamp and list of rows."""
    if not received.rows:
        return "SELECT 0 AS _page, NULL::JSON AS _stamp, []::JSON[] AS _rows WHERE false"
    details = received.details
    steps = details["rows_path"].split(".") if details["rows_path"] else []
    kind = "JSON" if details["one"] else "JSON[]"
    for step in reversed(steps):
        kind = f"STRUCT({identifier(step)} {kind})"
    rows = "body" + "".join(f"[{literal(step)}]" for step in steps)
    return f"""
    SELECT page AS _page, stamp AS _stamp, {f"[{rows}]" if details["one"] else rows} AS _rows
    FROM {_read_json(received, paths, {"page": "BIGINT", "stamp": "JSON", "body": kind})}
    WHERE body IS NOT NULL"""


def _read_json(received: Manifest, paths: list[Path], columns: dict[str, str]) -> str:
    """The pages of raw parts as a FROM item, with the fields asked for."""
    files = ", ".join(literal(str(path)) for path in paths)
    fields = ", ".join(f"{literal(name)}: {literal(kind)}" for name, kind in columns.items())
    largest = max(received.details["largest_page_bytes"], _SMALLEST_BUFFER)
    return f"read_json([{files}], format = 'unstructured', columns = {{{fields}}}, maximum_object_size = {largest})"


def _shape(declared: Mapping[str, Column]) -> dict[str, Any]:
    """The structure of `from_json` that takes the paths as text: one pass over a record for all of them."""
    shape: dict[str, Any] = {}
    for path, column in declared.items():
        *parents, last = path.split(".")
        place = shape
        if not _is_apart(path, declared):
            for step in parents:
                place = place.setdefault(step, {})
            place[last] = "JSON" if column.type == "json" else "VARCHAR"
    return shape


def _value(path: str, declared: Mapping[str, Column]) -> str:
    """The value at the path as text, JSON for a `json` column; NULL for JSON's null."""
    nested = declared[path].type == "json"
    if not _is_apart(path, declared):
        value = "_values" + "".join(f"[{literal(step)}]" for step in path.split("."))
    elif nested:
        value = f"json_extract(_record, {json_path(path)})"
    else:
        return f"json_extract_string(_record, {json_path(path)})"
    return f"nullif(CAST({value} AS VARCHAR), 'null')" if nested else value


def _is_apart(path: str, paths: Iterable[str]) -> bool:
    """Whether the path has no place in one structure with the others.

    That is when others lead through it, or where only the case of a name tells them apart.
    """
    steps = path.split(".")
    for other in paths:
        pairs = zip(steps, other.split("."), strict=False)
        here, there = next((pair for pair in pairs if pair[0] != pair[1]), ("", "."))
        if other.startswith(f"{path}.") or here.lower() == there.lower():
            return True
    return False


def _path_list(paths: list[str]) -> str:
    return f"[{', '.join(map(json_path, paths))}]::VARCHAR[]"


def _stamped(name: str, nested: bool = False) -> str:
    if nested:
        return f"nullif(CAST(json_extract(_stamp, {json_path(name)}) AS VARCHAR), 'null')"
    return f"json_extract_string(_stamp, {json_path(name)})"


def _removal(paths: list[str]) -> dict[str, Any]:
    """The merge patch (RFC 7386) that removes the paths from a record."""
    patch: dict[str, Any] = {}
    for path in sorted(paths):  # a path comes before the ones below it, and takes them along
        *parents, last = path.split(".")
        place: Any = patch
        for step in parents:
            place = place.setdefault(step, {})
            if place is None:
                break
        if place is not None:
            place[last] = None
    return patch


def _parents(paths: list[str]) -> list[str]:
    """The objects that the paths lead through, as far as none of them is declared itself."""
    above = {path.rsplit(".", depth)[0] for path in paths for depth in range(1, path.count(".") + 1)}
    return sorted(path for path in above if not any(f"{path}.".startswith(f"{known}.") for known in paths))


def _with_other_shapes(rest: str, parents: list[str]) -> str:
    """The rest with what came where declared paths expect an object: the removal has put `{}` there.

    `_kinds` holds the JSON types at the parents.
    """
    odd, patched = [], rest
    for number, path in enumerate(parents, 1):
        odd.append(f"_kinds[{number}] NOT IN ('OBJECT', 'NULL')")
        patch = f"json_extract(_record, {json_path(path)})"
        for step in reversed(path.split(".")):
            patch = f"json_object({literal(step)}, {patch})"
        patched = f"json_merge_patch({patched}, CASE WHEN {odd[-1]} THEN {patch} ELSE '{{}}' END)"
    return f"CASE WHEN {' OR '.join(odd)} THEN {patched} ELSE {rest} END" if parents else rest


def _without_empty(rest: str, paths: list[str]) -> str:
    """The rest of a record, without the objects that the removal emptied; NULL when nothing is left.

    Done on the text: in serialised JSON an unescaped `"name":{}` is always a field.
    """
    text = f"CAST({rest} AS VARCHAR)"
    parents = sorted({step for path in paths for step in path.split(".")[:-1]})
    if not parents:
        return f"CAST(nullif({text}, '{{}}') AS JSON)"
    names = "|".join(re.escape(json.dumps(name, ensure_ascii=False)) for name in parents)
    nothing = literal(rf"(?:[{{}},]|(?:{names}):)*")
    field = literal(rf",(?:{names}):\{{\}}|(?:{names}):\{{\}},?")
    left = text
    for _ in range(max(path.count(".") for path in paths)):
        left = f"regexp_replace({left}, {field}, '', 'g')"
    return f"CASE WHEN NOT regexp_full_match({text}, {nothing}) THEN CAST({left} AS JSON) END"


def _drift(
    db: duckdb.DuckDBPyConnection, stream: Stream, day: Window | None, typed: Path
) -> tuple[dict[str, str], tuple[str, ...]]:
    """Undeclared fields with their JSON types, and declared columns without a single value."""
    inside = f"FROM {_file(typed)} WHERE {_inside(stream, day)}"
    found = db.execute(f"SELECT DISTINCT unnest(json_keys(_extra)) AS key {inside} ORDER BY key").fetchall()
    keys = [key for (key,) in found if not _is_known(key, stream.known)]
    structures = []
    if keys:
        pointers = ", ".join(literal("/" + key.replace("~", "~0").replace("/", "~1")) for key in keys)
        values = f"""SELECT unnest([{", ".join(map(literal, keys))}]) AS key,
                            unnest(json_extract(_extra, [{pointers}])) AS value {inside}"""
        # One value of each shape is enough: json_group_structure holds all that it is given in memory.
        shapes = f"SELECT key, any_value(value) AS value FROM ({values}) GROUP BY key, json_structure(value)"
        structures = db.execute(
            f"SELECT key, CAST(json_group_structure(value) AS VARCHAR) FROM ({shapes}) GROUP BY key ORDER BY key"
        ).fetchall()
    names = [name for name, _, _ in stream.field_columns()]
    rows, *present = _one(db, f"SELECT count(*), {', '.join(f'count({identifier(n)})' for n in names)} {inside}")
    unseen = tuple(name for name, count in zip(names, present, strict=True) if rows and not count)
    undeclared = _flattened({key: json.loads(structure) for key, structure in structures})
    return {path: kind for path, kind in undeclared.items() if not _is_known(path, stream.known)}, unseen


def _is_known(path: str, known: list[str]) -> bool:
    steps = path.split(".")
    above = [".".join(steps[: n + 1]) for n in range(len(steps))]
    return any(fnmatchcase(prefix, pattern) for prefix in above for pattern in known)


def _flattened(structure: Any, prefix: str = "") -> dict[str, str]:
    if not isinstance(structure, dict):
        return {prefix: structure if isinstance(structure, str) else "LIST"}
    fields: dict[str, str] = {}
    for name, inner in structure.items():
        fields |= _flattened(inner, f"{prefix}.{name}" if prefix else name)
    return fields


def _transform(db: duckdb.DuckDBPyConnection, stream: Stream, table: Path) -> None:
    """Send the table's rows through the stream's own function, batch by batch, keeping number and keys."""
    import pyarrow
    import pyarrow.parquet

    result = table.with_suffix(".transformed")
    writer: pyarrow.parquet.ParquetWriter | None = None
    source = pyarrow.parquet.ParquetFile(table)
    try:
        for batch in source.iter_batches(_TRANSFORM_ROWS):
            typed = transformed(db, stream, batch)
            writer = writer or pyarrow.parquet.ParquetWriter(result, typed.schema, compression="zstd")
            writer.write_table(typed)
    finally:
        if writer:
            writer.close()
    if writer:
        key = ", ".join(map(identifier, stream.key))
        rows, distinct = _one(db, f"SELECT count(*), count(DISTINCT ({key})) FROM {_file(result)}")
        if rows != distinct:
            raise FinalError(f"{stream.transform}: the keys are no longer unique")
        _copy(db, f"FROM {_file(result)}", table)


def transformed(db: duckdb.DuckDBPyConnection, stream: Stream, batch: Any) -> Any:
    """A batch of typed rows (Arrow) through the stream's own function: an Arrow table in the declared types."""
    import pandas
    import pyarrow

    function = _function(str(stream.transform))
    nullable = {pyarrow.int64(): pandas.Int64Dtype(), pyarrow.bool_(): pandas.BooleanDtype()}
    columns = [*stream.table_columns(), ("_extra", "JSON"), ("_page", "BIGINT")]
    cast = ", ".join(f"CAST({identifier(name)} AS {kind}) AS {identifier(name)}" for name, kind in columns)
    frame = function(batch.to_pandas(types_mapper=nullable.get))
    if not isinstance(frame, pandas.DataFrame) or len(frame) != batch.num_rows:
        raise FinalError(f"{stream.transform}: must give back a DataFrame with as many rows as it got")
    missing = [name for name, _ in columns if name not in frame.columns]
    if missing:
        raise FinalError(f"{stream.transform}: the DataFrame has no column {', '.join(missing)}")
    view = db.from_arrow(pyarrow.Table.from_pandas(frame, preserve_index=False))
    return view.select(cast).to_arrow_table()


def _delimited(db: duckdb.DuckDBPyConnection, stream: Stream, table: Path) -> Path | None:
    """The rows as text, in the order of their key: with a header, quoted where need be, NULL as nothing, "" as ""."""
    if stream.delimited is None:
        return None
    file = table.with_suffix(f".{stream.delimited}")
    delimiter = {"tsv": "\t", "csv": ","}[stream.delimited]
    order = ", ".join(map(identifier, stream.key))
    select = f"SELECT * EXCLUDE (_page) FROM {_file(table)} ORDER BY {order}"
    db.execute(f"COPY ({select}) TO {literal(str(file))} (FORMAT csv, HEADER, DELIMITER {literal(delimiter)})")
    return file


def _function(name: str) -> Callable[[Any], Any]:
    module, _, attribute = name.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)  # type: ignore[no-any-return]
    except (ImportError, AttributeError) as error:
        raise FinalError(f"transform {name!r}: {error}") from None


def time_reading(stream: Stream, values: Mapping[str, str]) -> str:
    """How the stream's timestamps with an offset are read. Raises SettingError for an unknown way."""
    reading = str(filled(stream.reading or "offset_aware", values))
    if reading not in ("offset_aware", "user_wall_clock"):
        raise SettingError(f"{stream.name}.reading: {reading!r} is neither offset_aware nor user_wall_clock")
    return reading


@contextlib.contextmanager
def _workspace(folder: Folder) -> Iterator[Path]:
    """A temporary folder on the file system of the landing."""
    path = folder.new_file()
    path.mkdir()
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@contextlib.contextmanager
def _database(work: Path, received: Manifest, memory_mb: int) -> Iterator[duckdb.DuckDBPyConnection]:
    """A database in memory that spills into the workspace.

    What a thread holds depends on the largest page, which it takes apart, and on the row group that it writes.
    As many threads are used as fit, and one gets what it needs.
    """
    page = received.details.get("largest_page_bytes", 0) * _COPIES_OF_A_PAGE
    memory = max(memory_mb * 1_000_000, page)
    fitting = memory // (page + _ROW_GROUP_BYTES * _COPIES_OF_A_ROW_GROUP)
    config: dict[str, str | bool | int | float | list[str]] = {
        "threads": max(1, min(os.cpu_count() or 1, _MOST_THREADS, fitting)),
        "memory_limit": f"{memory // 1_000_000}MB",
        "temp_directory": str(work / "spill"),
        "preserve_insertion_order": False,
        "autoinstall_known_extensions": False,
    }
    with duckdb.connect(":memory:", config=config) as db:
        db.execute("SET TimeZone = 'UTC'")
        yield db


def _type(db: duckdb.DuckDBPyConnection, sql: str, typed: Path) -> None:
    """Write the typed rows. Should several threads need more memory than was expected, one goes on."""
    try:
        _copy(db, sql, typed, compression="snappy")
    except duckdb.OutOfMemoryException:
        log.info("more memory is needed than there is; going on with one thread")
        db.execute("SET threads = 1")
        _copy(db, sql, typed, compression="snappy")


def _copy(db: duckdb.DuckDBPyConnection, sql: str, file: Path, compression: str = "zstd") -> None:
    groups = f"ROW_GROUP_SIZE {_ROW_GROUP_ROWS}, ROW_GROUP_SIZE_BYTES {_ROW_GROUP_BYTES}"
    db.execute(f"COPY ({sql}) TO {literal(str(file))} (FORMAT parquet, COMPRESSION {compression}, {groups})")


def _file(path: Path) -> str:
    return f"read_parquet({literal(str(path))})"


def _one(db: duckdb.DuckDBPyConnection, sql: str) -> tuple[Any, ...]:
    row = db.execute(sql).fetchone()
    assert row is not None  # an aggregate always has a row
    return row
