"""A source against its simulator: run streams in a data folder of one's own, and compare tables with the truth.

`lab` gives a `Lab`; what differs from source to source (names of truths, changes at the vendor) stays in the tests.
Run as a module it is runs in a process of their own: `truth.py SOURCE STREAM[@DAY]...`.
"""

import atexit
import base64
import copy
import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus
from zoneinfo import ZoneInfo

import duckdb
import pytest
import yaml
import zstandard

from etl_assets import landing
from etl_assets.answers import rows_at
from etl_assets.errors import EtlError
from etl_assets.extract import Api
from etl_assets.pipeline import Pipeline
from etl_assets.sandbox.handle import Sandbox
from etl_assets.sandbox.server import running
from etl_assets.sandbox.world import FIRST_DAY
from etl_assets.spec import Column, Derived, Source, Stream
from etl_assets.streamfiles import packaged_files
from etl_assets.warehouse.protocol import Loaded
from etl_assets.window import Window

Row = dict[str, Any]

RUN_ID = "run-of-a-test"
_SHOWN = 5
_ABSENT = object()
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def day(number: int) -> date:
    """The data day of that number; the first is 1."""
    return FIRST_DAY + timedelta(days=number - 1)


@dataclass(frozen=True)
class Lab:
    """One source, its simulator and a data folder. Everything runs in the steps that orchestration calls."""

    sandbox: Sandbox
    name: str
    folder: Path

    @cached_property
    def pipeline(self) -> Pipeline:
        return Pipeline.from_environment()

    @property
    def source(self) -> Source:
        return self.pipeline.sources[self.name]

    @cached_property
    def api(self) -> Api:
        return self.pipeline.api(self.source)

    def stream(self, name: str) -> Stream:
        return self.source.stream(name)

    def window(self, stream: str, on: date | Window | None) -> Window | None:
        if isinstance(on, Window) or self.stream(stream).window is None:
            return on if isinstance(on, Window) else None
        assert on is not None
        return Window.of_day(on, self.source.timezone)

    def reopen(self) -> None:
        """Forget the client, as a new process would not know it."""
        self.api.client.close()
        del vars(self)["api"]

    def extract(self, stream: str, on: date | Window | None = None) -> list[Row]:
        """Read a stream into the landing; the rows that lie there, with what the request stamped on them."""
        one = self.stream(stream)
        self.pipeline.extract(self.api, one, self.window(stream, on), RUN_ID)
        rows = []
        for path, stamp, body in self.pages(stream, on):
            found = [body] if one.one else rows_at(body, path)
            rows += [{**json.loads(bytes(row)), **stamp} for row in found]
        return rows

    def pages(self, stream: str, on: date | Window | None = None) -> Iterator[tuple[str, Row, bytes]]:
        """The raw pages in the landing: path of the rows, stamp, and body."""
        folder = self.pipeline.folder("raw", self.source, self.stream(stream), self.window(stream, on))
        manifest = folder.manifest()
        for file in folder.files(manifest):
            for stamp, body in landing.pages(file):
                yield manifest.details["rows_path"], stamp, body

    def load(self, stream: str, on: date | Window | None = None) -> Loaded:
        """Clean and load what was extracted."""
        window = self.window(stream, on)
        self.pipeline.clean(self.source, self.stream(stream), window, RUN_ID)
        return self.pipeline.load(self.source, self.stream(stream), window, RUN_ID)

    def run(self, stream: str, *days: date | Window | None) -> list[Loaded]:
        """Run a stream for each of the days, in this order, and its child tables after it; what its own loads did."""
        done = []
        for on in days or (None,):
            if self.stream(stream).of is None:
                self.pipeline.extract(self.api, self.stream(stream), self.window(stream, on), RUN_ID)
            done.append(self.load(stream, on))
            for child in self.source.streams:
                if child.of and child.of.stream == stream:
                    self.load(child.name, on)
        return done

    def process(self, *runs: tuple[str, date | None]) -> "subprocess.Popen[str]":
        """The same for streams and days in a process of its own, which is running when this returns. See `output`."""
        streams = [f"{stream}@{on}" if on else stream for stream, on in runs]
        command = [sys.executable, "-m", __name__, self.name, *streams]
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        return subprocess.Popen(
            command, env=env, cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def sql(self, query: str) -> list[tuple[Any, ...]]:
        """What a query of the warehouse gives."""
        return list(self.pipeline.warehouse.select(query).rows)

    def table(self, stream: str, where: str = "true") -> list[Row]:
        """The rows of a stream's table, JSON columns as Python values."""
        found = self.pipeline.warehouse.select(f'SELECT * FROM "{self.name}"."{stream}" WHERE {where}')
        trees = {name for name, kind in [*self.stream(stream).table_columns(), ("_extra", "JSON")] if kind == "JSON"}
        return [
            {
                name: json.loads(value) if name in trees and value is not None else value
                for name, value in zip(found.columns, values, strict=True)
            }
            for values in found.rows
        ]

    def assert_true(
        self,
        stream: str,
        truth: Iterable[Row],
        *,
        where: str = "true",
        names: Mapping[str, str] | None = None,
        unknown: Iterable[str] = (),
    ) -> None:
        """The table has exactly the rows of the truth, and in every column their values.

        `names` are columns that the truth names otherwise. A column of which it does not speak must be NULL, but
        for those in `unknown`, which are not compared.
        """
        columns = {name for name, _ in self.stream(stream).table_columns()} - set(unknown)
        nothing = dict.fromkeys(columns)
        wanted = [nothing | expected(self.stream(stream), row, self.source.timezone, names or {}) for row in truth]
        differs = difference(self.stream(stream), self.table(stream, where), wanted)
        assert differs == [], f"{self.name}/{stream}: {'; '.join(differs)}"

    def secrets(self) -> list[str]:
        """The secret values of the environment."""
        return [os.environ[name] for name, one in self.source.settings.items() if one.secret and name in os.environ]

    def token_files(self) -> list[Path]:
        """The files that hold tokens, without those of locks."""
        return sorted(file for file in (self.folder / "data" / "tokens").iterdir() if file.suffix != ".lock")


@contextmanager
def lab(
    vendor: str,
    folder: Path,
    *,
    sandbox: Sandbox | None = None,
    days: int = 3,
    scale: float = 1,
    limits: bool = False,
    change: Callable[[Row], None] | None = None,
    env: Mapping[str, str | None] | None = None,
) -> Iterator[Lab]:
    """A lab in `folder`, with a simulator of its own unless one is given.

    The stream file is the packaged one, but without the waits of its rates, unless `limits` are wanted; `change`
    may change what is in it. `env` adds variables, and removes those that are None.
    """
    if sandbox is None:
        with (
            running(vendors=(vendor,), days=days, scale=scale) as own,
            lab(vendor, folder, sandbox=own, limits=limits, change=change, env=env) as ready,
        ):
            yield ready
        return
    folder.mkdir(parents=True, exist_ok=True)
    variables = {
        **sandbox.env(),
        "ETL_DATA_DIR": str(folder / "data"),
        "ETL_SOURCES_DIR": _files(vendor, folder, limits, change),
        "ETL_RETRY_BASE_SECONDS": "0.01",
        **(env or {}),
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)  # away from any .env
        for name in list(os.environ):
            if name.startswith(("ETL_", "DUCKDB_", f"{vendor.upper()}_")):
                patch.delenv(name)
        for name, value in variables.items():
            if value is not None:
                patch.setenv(name, value)
        ready = Lab(sandbox, vendor, folder)
        try:
            yield ready
        finally:
            if "api" in vars(ready):
                ready.api.client.close()


def output(*processes: "subprocess.Popen[str]") -> list[tuple[int, str]]:
    """Exit code and text of each process, when all have ended."""
    texts = [process.communicate(timeout=100)[0] for process in processes]
    return [(process.returncode, text) for process, text in zip(processes, texts, strict=True)]


def expected(stream: Stream, truth: Row, zone: str, names: Mapping[str, str]) -> Row:
    """What the table should hold of a true row, by column; columns of which the truth says nothing are left out."""
    row = {}
    columns: list[tuple[str, list[str], Column | Derived]] = [*stream.field_columns()]
    columns += [(name, [], column) for name, column in stream.derived.items()]
    for name, paths, column in columns:
        places = [names[name]] if name in names else [*paths, name]
        values = [value for place in places if (value := _at(truth, place)) is not _ABSENT]
        if values:
            given = next((value for value in values if value is not None), None)
            row[name] = _meant(given, column.type, getattr(column, "format", "iso"), zone)
    return row


def difference(stream: Stream, found: Sequence[Row], wanted: Sequence[Row]) -> list[str]:
    """How rows differ by key: sentences, a few of them."""
    here, there = ({tuple(row[name] for name in stream.key): row for row in rows} for rows in (found, wanted))
    said = [f"{len(rows) - len(keyed)} keys come twice" for rows, keyed in ((found, here), (wanted, there))]
    said = [text for text in said if text[0] != "0"]
    said += [f"missing: {key}" for key in there.keys() - here.keys()][:_SHOWN]
    said += [f"too many: {key}" for key in here.keys() - there.keys()][:_SHOWN]
    both = [(key, name) for key in here.keys() & there.keys() for name in there[key]]
    wrong = [(key, name) for key, name in both if not _same(here[key][name], there[key][name])]
    return said + [f"{key} {name}: {here[key][name]!r}, not {there[key][name]!r}" for key, name in wrong[:_SHOWN]]


def leaks(folder: Path, secrets: Iterable[str], *texts: str) -> list[str]:
    """Where a secret is found in any form: in which files below `folder`, or in which text."""
    forms = {form for secret in secrets if secret for form in _forms(secret)}
    found = [text[:200] for text in texts if any(form in text.encode() for form in forms)]
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        data = file.read_bytes() + str(file.relative_to(folder)).encode()
        if file.suffix == ".zst":
            data += zstandard.ZstdDecompressor().stream_reader(file.read_bytes()).read()
        if file.suffix in (".duckdb", ".parquet"):
            data += _dump(file)
        found += [str(file)] if any(form in data for form in forms) else []
    return found


def _files(vendor: str, folder: Path, limits: bool, change: Callable[[Row], None] | None) -> str | None:
    """Where the stream file is that a lab is to use; None for the packaged one."""
    if change:
        files = folder / "streams"
        files.mkdir(exist_ok=True)
        _copy(vendor, files, limits, change)
        return str(files)
    return None if limits else str(_without_waits(vendor))


@functools.cache
def _without_waits(vendor: str) -> Path:
    """One copy for all labs of this process: a file at the same place is read only once."""
    files = Path(tempfile.mkdtemp(prefix="etl-streams-"))
    atexit.register(shutil.rmtree, files, ignore_errors=True)
    _copy(vendor, files, False, None)
    return files


def _copy(vendor: str, folder: Path, limits: bool, change: Callable[[Row], None] | None) -> None:
    tree = copy.deepcopy(_packaged(vendor))
    if not limits:
        tree["limits"]["rates"] = {bucket: ["5000/1s"] for bucket in tree["limits"].get("rates", {})}
    if change:
        change(tree)
    (folder / f"{vendor}.yaml").write_text(yaml.safe_dump(tree, allow_unicode=True, sort_keys=False), "utf-8")


@functools.cache
def _packaged(vendor: str) -> Row:
    (file,) = (file for file in packaged_files() if file.stem == vendor)
    tree: Row = yaml.safe_load(file.read_text("utf-8"))
    return tree


def _at(row: Row, path: str) -> Any:
    """The value at a dotted path, or under the whole path as a name."""
    if path in row:
        return row[path]
    value: Any = row
    for step in path.split("."):
        if not isinstance(value, dict) or step not in value:
            return _ABSENT
        value = value[step]
    return value


def _meant(value: Any, kind: str, form: str, zone: str) -> Any:
    """A value of the truth's JSON as the column type means it, worked out without the library."""
    if value is None or (value == "" and kind not in ("string", "json")):
        return None
    match kind.split("(")[0]:
        case "string":
            return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        case "integer":
            return int(value)
        case "number":
            return float(value)
        case "decimal":
            return Decimal(str(value))
        case "timestamp":
            return _instant(value, form, zone)
        case "date":
            text = isinstance(value, str) and form == "iso"
            return date.fromisoformat(value) if text else _instant(value, form, zone).astimezone(ZoneInfo(zone)).date()
    return value


def _instant(value: Any, form: str, zone: str) -> datetime:
    if form.startswith("epoch"):
        return _EPOCH + timedelta(microseconds=int(Decimal(str(value)) * (1_000 if form == "epoch_ms" else 1_000_000)))
    moment = datetime.fromisoformat(value)
    return (moment if moment.tzinfo else moment.replace(tzinfo=ZoneInfo(zone))).astimezone(UTC)


def _same(found: Any, wanted: Any) -> bool:
    return type(found) is type(wanted) and bool(found == wanted)


def _forms(secret: str) -> set[bytes]:
    raw = secret.encode()
    texts = {secret, quote_plus(secret), raw.hex(), json.dumps(secret)[1:-1], secret[::-1]}
    coded = {base64.b64encode(raw), base64.urlsafe_b64encode(raw)}
    return {text.encode() for text in texts} | {code.rstrip(b"=")[:-1] for code in coded}


def _dump(file: Path) -> bytes:
    """The contents of a DuckDB or Parquet file as text: on disk they may be compressed."""
    if file.suffix == ".parquet":
        with duckdb.connect(":memory:") as db:
            return repr(db.execute("FROM read_parquet(?)", [str(file)]).fetchall()).encode()
    with duckdb.connect(str(file), read_only=True) as db:
        tables = db.execute("SELECT schema_name, table_name FROM duckdb_tables()").fetchall()
        rows = [db.execute(f'FROM "{schema}"."{table}"').fetchall() for schema, table in tables]
        return repr(rows).encode()


def main(source: str, *runs: str) -> int:
    """Run streams; print the rows of each table, or what went wrong."""
    one = Lab(Sandbox({}), source, Path.cwd())
    try:
        for stream, _, on in (run.partition("@") for run in runs):
            (done,) = one.run(stream, date.fromisoformat(on) if on else None)
            print(stream, done.rows_in_table)
    except EtlError as error:
        print(f"{type(error).__name__}: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
