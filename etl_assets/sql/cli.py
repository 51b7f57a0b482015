"""`etl-assets sql` and `etl-assets explain`."""

import csv
import itertools
import json
import math
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from etl_assets.errors import EtlError
from etl_assets.outfile import replacing

_ROWS = 1_000
_WIDEST = 60
_PROGRESS_SECONDS = 2.0


def _options(command: Callable[..., None]) -> Callable[..., None]:
    """The options that say what to connect to."""
    for option in (
        click.option("--source", help="Source whose tables need no prefix."),
        click.option("--offline", is_flag=True, help="Read the loaded warehouse instead of the APIs."),
        click.option("--dialect", help="SQL dialect of the statement, such as tsql or mysql."),
        click.option("--connect", "dsn", default="", help="Further properties: 'TimeZone=Asia/Tokyo;CacheSeconds=60'."),
    ):
        command = option(command)
    return command


@click.command("sql")
@click.argument("statement")
@click.option(
    "--format", "form", type=click.Choice(["table", "csv", "json", "parquet"]), default="table", show_default=True
)
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="File to write instead of printing.")
@click.option("--max-requests", type=click.IntRange(0), help="Most requests to make.")
@click.option("--max-rows", type=click.IntRange(0), help="Most rows to read from the APIs.")
@_options
def sql(
    statement: str,
    form: str,
    out: Path | None,
    max_requests: int | None,
    max_rows: int | None,
    **connection: Any,
) -> None:
    """Run a SELECT over the APIs.

    What an API can filter, sort or count is asked of it; the rest is done here. See docs/sql.md.
    """
    if form == "parquet" and out is None:
        raise click.UsageError("--format parquet needs --out FILE")

    def run(cursor: Any) -> None:
        cursor.max_requests, cursor.max_rows, cursor.progress = max_requests, max_rows, _Progress()
        cursor.execute(statement)
        _write(cursor, form, out)

    _connected(connection, run)


@click.command("explain")
@click.argument("statement")
@_options
def explain(statement: str, **connection: Any) -> None:
    """Show what a SELECT would ask of the APIs, without asking."""
    _connected(connection, lambda cursor: click.echo(str(cursor.explain(statement))))


def _connected(connection: dict[str, Any], work: Callable[[Any], None]) -> None:
    from etl_assets.sql import dbapi

    source, offline = connection["source"], connection["offline"] or None
    try:
        with dbapi.connect(connection["dsn"], source=source, offline=offline, dialect=connection["dialect"]) as opened:
            cursor = opened.cursor()
            try:
                work(cursor)
            except KeyboardInterrupt:
                cursor.cancel()
                raise click.Abort from None
            finally:
                for _, message in cursor.messages:
                    click.echo(f"warning: {message}", err=True)
    except (dbapi.Error, EtlError) as error:
        raise click.ClickException(str(error)) from None


class _Progress:
    """A line on stderr now and then while a long scan runs."""

    def __init__(self) -> None:
        self._started = self._last = time.monotonic()

    def __call__(self, scan: Any) -> None:
        now = time.monotonic()
        if now - self._last >= _PROGRESS_SECONDS:
            self._last = now
            waited = f", {scan.waited_seconds:.0f} s waiting for limits" if scan.waited_seconds >= 1 else ""
            click.echo(
                f"{scan.table}: {scan.requests} requests, {scan.rows_fetched} rows, "
                f"{now - self._started:.0f} s{waited}",
                err=True,
            )


def _write(cursor: Any, form: str, out: Path | None) -> None:
    write = {"csv": _write_csv, "json": _write_json, "parquet": _write_parquet, "table": _write_table}[form]
    if out is None:
        write(cursor, sys.stdout)
        return
    with (
        replacing(out) as file,
        file.open("wb") if form == "parquet" else file.open("w", encoding="utf-8", newline="") as target,
    ):
        write(cursor, target)


def _write_csv(cursor: Any, target: Any) -> None:
    writer = csv.writer(target)
    writer.writerow(_names(cursor))
    writer.writerows([_cell(value) for value in row] for row in _rows(cursor))


def _write_json(cursor: Any, target: Any) -> None:
    """A line per row; of equal names the second and further ones are numbered."""
    given = _names(cursor)
    names: list[str] = []
    for name in given:
        free = (f"{name}_{number}" for number in itertools.count(1) if f"{name}_{number}" not in given)
        names.append(next(one for one in itertools.chain([name], free) if one not in names))
    for row in _rows(cursor):
        line = dict(zip(names, map(_tree, row), strict=True))
        target.write(f"{json.dumps(line, ensure_ascii=False, allow_nan=False)}\n")


def _write_table(cursor: Any, target: Any) -> None:
    from tabulate import tabulate

    names, rows = _names(cursor), [[_short(value) for value in row] for row in _rows(cursor)]
    target.write(tabulate(rows, names, disable_numparse=True) + f"\n({len(rows)} row{'' if len(rows) == 1 else 's'})\n")


def _write_parquet(cursor: Any, target: Any) -> None:
    import pyarrow.parquet

    reader = cursor.fetch_record_batch()
    with pyarrow.parquet.ParquetWriter(target, reader.schema, compression="zstd") as writer:
        for batch in reader:
            writer.write_batch(batch)


def _names(cursor: Any) -> list[str]:
    return [column[0] for column in cursor.description or ()]


def _rows(cursor: Any) -> Iterator[tuple[Any, ...]]:
    while rows := cursor.fetchmany(_ROWS):
        yield from rows


def _cell(value: Any) -> Any:
    """A value for people: text that reads back; NULL is empty in CSV."""
    tree = _tree(value)
    return json.dumps(tree, ensure_ascii=False) if isinstance(tree, list | dict) else tree


def _tree(value: Any) -> Any:
    """A value in the types of JSON; what has none there is text."""
    match value:
        case float() if not math.isfinite(value):
            return str(value)
        case None | bool() | int() | float() | str():
            return value
        case datetime():
            return value.isoformat(sep=" ")
        case bytes():
            return value.hex()
        case list() | tuple():
            return [_tree(one) for one in value]
        case dict():
            return {str(_tree(key)): _tree(one) for key, one in value.items()}
    return str(value)


def _short(value: Any) -> str:
    text = "" if value is None else str(_cell(value)).replace("\n", " ")
    return text if len(text) <= _WIDEST else f"{text[: _WIDEST - 1]}…"
