"""Trace: where a row of a table came from: its run, its day, and the page and line of the raw file that holds it.

A row carries the run that wrote it, `ops.loads` knows that run's load, and the raw files of the landing are searched
page by page for the row's key. They are the newest set: whether the row was loaded from it is said.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any

import duckdb
import msgspec

from etl_assets import answers, landing
from etl_assets.errors import FinalError, LandingError
from etl_assets.landing import Folder, Manifest
from etl_assets.pipeline import Pipeline
from etl_assets.spec import Source, Stream
from etl_assets.sqltext import identifier, literal
from etl_assets.window import Window

MOST_ROWS = 20

Key = dict[str, str]


@dataclass(frozen=True)
class Found:
    """A place of the key in the raw files: the page of the set, which is a line of the file, and the row in the page.

    All are counted from 1 on. `stamp` is what the request knew of its rows. `used` marks the page that the clean files
    were made from, where the key stands in several.
    """

    file: Path
    line: int
    page: int
    row: int | None
    stamp: Mapping[str, Any]
    used: bool


@dataclass(frozen=True)
class Trace:
    """One row of the table, with its way back. What could not be found is None or empty, and `gaps` says why."""

    key: Key
    day: date | None
    loaded_at: datetime
    run_id: str
    window: tuple[datetime, datetime] | None
    code_version: str | None
    raw: Manifest | None
    found: tuple[Found, ...]
    gaps: tuple[str, ...]


@dataclass(frozen=True)
class SetAside:
    """A row that is in quarantine instead of the table."""

    day: date | None
    reason: str
    run_id: str


def key_of(stream: Stream, given: Sequence[str]) -> Key:
    """The key columns out of `name=value` texts, or of values in the order of the stream's key.

    Raises FinalError for a column that is none of the key, or more values than columns.
    """
    named = [text.partition("=") for text in given]
    if all(separator and name in stream.key for name, separator, _ in named):
        return {name: value for name, _, value in named}
    if len(given) > len(stream.key):
        raise FinalError(f"{stream.name}: the key is {', '.join(stream.key)}; {len(given)} values were given")
    return dict(zip(stream.key, given, strict=False))


def trace(pipeline: Pipeline, source: Source, stream: Stream, key: Key) -> list[Trace]:
    """The rows with that key, or with that part of it; none where the table has none.

    Raises FinalError when the table does not exist or more than 20 rows match.
    """
    rows = _rows(pipeline, source, stream, key)
    if len(rows) > MOST_ROWS:
        raise FinalError(f"more than {MOST_ROWS} rows match; give more of the key: {', '.join(stream.key)}")
    return [_traced(pipeline, source, stream, row) for row in rows]


def told(trace: Trace, ui_url: str | None) -> Iterator[tuple[str, str]]:
    """A trace in words: (what, value) line by line."""
    yield "row", ", ".join(f"{name}={value}" for name, value in trace.key.items())
    yield "run", trace.run_id + (f"  {ui_url}/runs/{trace.run_id}" if ui_url else "")
    yield (
        "loaded",
        f"{trace.loaded_at.isoformat(timespec='seconds')}, by {trace.code_version or 'a load not in ops.loads'}",
    )
    if trace.day:
        window = f": {trace.window[0].isoformat()} to {trace.window[1].isoformat()}" if trace.window else ""
        yield "day", f"{trace.day}{window}"
    if trace.raw:
        asked = trace.raw.details["request"]
        params = " ".join(f"{name}={value}" for name, value in asked["params"].items())
        yield "request", f"{asked['method']} {asked['path']} {params}".strip()
        if asked.get("body"):
            yield "with", json.dumps(asked["body"], ensure_ascii=False)
        yield "read", f"{trace.raw.created_at:.19}Z by run {trace.raw.run_id}, {trace.raw.rows} rows"
    for found in trace.found:
        row = f", row {found.row}" if found.row else ""
        other = "" if found.used or len(trace.found) == 1 else ", another version"
        yield "raw file", f"{found.file} line {found.line}"
        yield "page", f"{found.page}{row}{other}"
        if found.stamp:
            yield "asked for", ", ".join(f"{name}={value}" for name, value in found.stamp.items())
    for gap in trace.gaps:
        yield "but", gap


def set_aside(pipeline: Pipeline, source: Source, stream: Stream, key: Key) -> list[SetAside]:
    """The quarantined rows with that key; only a whole key finds them."""
    text = "/".join(key[name] for name in stream.key if name in key)
    sql = f"""
        SELECT "partition" AS day, reason, run_id FROM ops.quarantine
        WHERE source = {literal(source.source)} AND stream = {literal(stream.name)} AND record_key = {literal(text)}"""
    return [SetAside(**row) for row in _selected(pipeline, sql)]


def _selected(pipeline: Pipeline, sql: str) -> list[dict[str, Any]]:
    """The rows of a SELECT. Raises FinalError when the table does not exist."""
    found = pipeline.warehouse.select(sql)
    return [dict(zip(found.columns, row, strict=True)) for row in found.rows]


def _rows(pipeline: Pipeline, source: Source, stream: Stream, key: Key) -> list[dict[str, Any]]:
    """Key and system columns of the rows, those of a child table's parent, and the load that wrote each."""
    above = list(_above(source, stream).values()) if stream.of else []
    columns = ", ".join(
        f"CAST({identifier(name)} AS VARCHAR) AS {identifier(name)}" for name in dict.fromkeys([*stream.key, *above])
    )
    day = f"{'_partition' if stream.window else 'NULL::DATE'} AS day"
    sql = f"""
        WITH found AS (
            SELECT {columns}, {day}, _loaded_at, _run_id
            FROM {identifier(source.source)}.{identifier(stream.name)} WHERE {_same(key)} LIMIT {MOST_ROWS + 1})
        SELECT found.*, load.window_start, load.window_end, load.code_version FROM found
        LEFT JOIN (
            SELECT * FROM ops.loads WHERE source = {literal(source.source)} AND stream = {literal(stream.name)}
            QUALIFY row_number() OVER (PARTITION BY run_id, "partition" ORDER BY loaded_at DESC) = 1) AS load
        ON load.run_id = found._run_id AND load."partition" IS NOT DISTINCT FROM found.day
        ORDER BY {", ".join(map(identifier, stream.key))}"""
    return _selected(pipeline, sql)


def _above(source: Source, stream: Stream) -> dict[str, str]:
    """The key of a child table's parent: parent column and the own column that it is stamped on."""
    assert stream.of is not None
    stamped = {taken: own for own, taken in stream.of.stamp.items()}
    return {name: stamped[name] for name in source.stream(stream.of.stream).key}


def _same(key: Key) -> str:
    return " AND ".join(f"CAST({identifier(name)} AS VARCHAR) = {literal(value)}" for name, value in key.items())


def _traced(pipeline: Pipeline, source: Source, stream: Stream, row: dict[str, Any]) -> Trace:
    day, sought = row["day"], {name: row[name] for name in stream.key}
    read, key, window = stream, sought, Window.of_day(day, source.timezone) if day else None
    if stream.of:  # its rows lie in the raw files of the parent
        read, key = source.stream(stream.of.stream), {n: row[own] for n, own in _above(source, stream).items()}
    raw, found, gaps = None, [], []
    try:
        folder = pipeline.folder("raw", source, read, window)
        raw = folder.manifest()
        page = _page(pipeline.folder("clean", source, read, window), raw, key)
        found = list(_search(folder, raw, read, key, page))
        if not found:
            gaps.append("the raw files were read again since, and no longer hold the key")
        elif datetime.fromisoformat(raw.created_at) > row["_loaded_at"]:
            gaps.append("the raw files were read again after the row was loaded, and hold it still")
    except LandingError as error:
        gaps.append(str(error))
    return Trace(
        key=sought,
        day=day,
        loaded_at=row["_loaded_at"],
        run_id=row["_run_id"],
        window=_local(window, row["window_start"], row["window_end"]),
        code_version=row["code_version"],
        raw=raw,
        found=tuple(found),
        gaps=tuple(gaps),
    )


def _local(window: Window | None, start: datetime | None, end: datetime | None) -> tuple[datetime, datetime] | None:
    """The window that was loaded, on the clock of the source."""
    if window is None or start is None or end is None:
        return None
    return start.astimezone(window.zone), end.astimezone(window.zone)


def _page(folder: Folder, raw: Manifest, key: Key) -> int | None:
    """The page, from 0 on, that the clean row was taken from; None where the clean files were made from other ones."""
    clean = folder.manifest()
    if clean.details["raw"]["files"] != [entry.name for entry in raw.files]:
        return None
    with duckdb.connect(":memory:") as db:
        db.execute("SET TimeZone = 'UTC'")
        rows = f"read_parquet({literal(str(folder.files(clean)[0]))})"
        found = db.execute(f"SELECT _page FROM {rows} WHERE {_same(key)}").fetchone()
    return int(found[0]) if found else None


def _search(folder: Folder, raw: Manifest, stream: Stream, key: Key, page: int | None) -> Iterator[Found]:
    """Every place of the key in the raw set, read one page at a time."""
    number = 0
    for file in folder.files(raw):
        for line, (stamp, body) in enumerate(landing.pages(file), 1):
            rows: list[int | None] = [*_hits(raw, stream, key, stamp, body)]
            if not rows and number == page:
                rows = [None]  # the key is written otherwise there than in the table, as a time may be
            for row in rows:
                yield Found(file, line, number + 1, row, stamp, number == page)
            number += 1


def _hits(raw: Manifest, stream: Stream, key: Key, stamp: Mapping[str, Any], body: bytes) -> Iterator[int]:
    """The rows of a page that have the key, counted from 1 on."""
    paths = {name: places for name, places, _ in stream.field_columns() if name in key}
    plain = [value for name, value in key.items() if name not in stamp and value.isascii() and value.isalnum()]
    if not all(value.encode() in body for value in plain):
        return  # without decoding: most pages do not hold it
    for number, record in enumerate(_records(raw, body), 1):
        tree = msgspec.json.decode(record)
        if all(_value(tree, stamp, name, paths) == value for name, value in key.items()):
            yield number


def _records(raw: Manifest, body: bytes) -> list[msgspec.Raw]:
    if raw.details["one"]:
        return [msgspec.Raw(body)]
    try:
        return answers.rows_at(body, raw.details["rows_path"])
    except answers.NotJson:
        return []  # an answer without rows need not have the shape of the others


def _value(record: Any, stamp: Mapping[str, Any], name: str, paths: Mapping[str, list[str]]) -> str:
    """The value of a key column as the table shows it, as far as it is a number or a text."""
    values = [stamp[name]] if name in stamp else [_at(record, path) for path in paths.get(name, [])]
    return str(next((value for value in values if value is not None), None))


def _at(record: Any, path: str) -> Any:
    for step in path.split("."):
        record = record.get(step) if isinstance(record, dict) else None
    return record
