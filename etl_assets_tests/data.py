"""Material for the tests of the data half: sources out of YAML text, raw sets, clean sets, tables.

Everything goes through the library's own steps, and every result comes back as plain Python values.
"""

import functools
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import duckdb
import yaml

from etl_assets import answers
from etl_assets.clean import Cleaned, clean
from etl_assets.landing import Folder, Manifest, raw_writer
from etl_assets.pipeline import Pipeline
from etl_assets.settings import Settings
from etl_assets.spec import Source, Stream, code_version
from etl_assets.store.local import LocalStore
from etl_assets.store.protocol import Store
from etl_assets.streamfiles import read_source
from etl_assets.warehouse.bigquery_dialect import transpiled
from etl_assets.warehouse.duckdb import DuckDbWarehouse
from etl_assets.warehouse.protocol import Loaded
from etl_assets.window import Window

DAY = date(2026, 1, 5)
MEMORY_MB = 300


@dataclass(frozen=True)
class Page:
    """One answer: the body as text or as a tree, and the stamp of the request."""

    body: Any
    stamp: Mapping[str, Any] = field(default_factory=dict)

    @property
    def received(self) -> bytes:
        return self.body.encode() if isinstance(self.body, str) else json.dumps(self.body, ensure_ascii=False).encode()


def source_file(folder: Path, text: str, name: str = "demo.yaml") -> Path:
    """A stream file of that text."""
    path = folder / name
    path.write_text(text, "utf-8")
    return path


def demo(folder: Path, stream: str, *, timezone: str = "Asia/Tokyo", more: str = "") -> tuple[Source, Stream]:
    """A source `demo` with one stream `things`, given as the YAML of its keys; `more` are keys of the source."""
    declared = {"name": "things", "path": "/things", "key": ["id"], **yaml.safe_load(stream)}
    head = {
        "source": "demo",
        "title": "Demo",
        "base_url": "https://demo.example",
        "timezone": timezone,
        "start": date(2026, 1, 1),
    }
    parents = {
        "name": "parents",
        "path": "/parents",
        "key": ["id"],
        "columns": {"id": "integer", "name": "string", "zone": "string"},
    }
    streams = [declared, *([parents] if "each" in declared else [])]
    tree = {**head, **(yaml.safe_load(more) or {}), "streams": streams}
    source = read_source(source_file(folder, yaml.safe_dump(tree, allow_unicode=True, sort_keys=False)))
    return source, source.stream("things")


@dataclass(frozen=True)
class Bench:
    """One stream with a landing and a warehouse in a folder of its own."""

    root: Path
    source: Source
    stream: Stream
    file: str = "warehouse.duckdb"
    google: tuple[tuple[str, str], ...] = ()  # the variables that point at the emulators, for BigQuery

    @classmethod
    def of(cls, root: Path, stream: str, *, timezone: str = "Asia/Tokyo", more: str = "") -> "Bench":
        return cls(root, *demo(root, stream, timezone=timezone, more=more))

    @classmethod
    def at(cls, root: Path) -> "Bench":
        """The bench that was made in that folder before, perhaps by another process."""
        source, google = read_source(root / "demo.yaml"), root / "google.json"
        env = json.loads(google.read_text()) if google.exists() else {}
        return cls(root, source, source.stream("things"), google=tuple(env.items()))

    def folder(self, layer: str, day: date | None) -> Folder:
        return Folder(self.landing, layer, self.source.source, self.stream.name, day)

    @property
    def pipeline(self) -> Pipeline:
        return _pipeline(self.root, self.google)

    @property
    def landing(self) -> Store:
        return self.pipeline.landing if self.google else LocalStore(self.root / "landing")

    @property
    def warehouse(self) -> Any:
        return self.pipeline.warehouse if self.google else DuckDbWarehouse(self.root / self.file, 60, MEMORY_MB)

    def land(self, pages: Iterable[Page], *, day: date | None = None, run_id: str = "run") -> Manifest:
        """Write the pages as the raw set of the day."""
        folder = self.folder("raw", day)
        with raw_writer(folder) as writer:
            for page in pages:
                body = answers.normal(page.received)
                rows = 1 if self.stream.one else len(answers.rows_at(body, self.stream.rows))
                writer.add(body, rows, page.stamp)
        window = self.window(day)
        manifest = Manifest(
            layer="raw",
            source=self.source.source,
            stream=self.stream.name,
            partition=folder.partition,
            window=(window.start.isoformat(), window.end.isoformat()) if window else None,
            rows=writer.rows,
            files=tuple(writer.files),
            run_id=run_id,
            code_version=code_version(self.source, self.stream),
            created_at=datetime.now(UTC).isoformat(),
            details={
                "started_at": datetime.now(UTC).isoformat(),
                "rows_path": self.stream.rows,
                "one": self.stream.one,
                "pages": writer.pages,
                "largest_page_bytes": writer.largest_page,
            },
        )
        folder.seal(manifest)
        return manifest

    def clean(
        self, *, day: date | None = None, run_id: str = "run", values: Mapping[str, str] | None = None
    ) -> Cleaned:
        """Clean the raw set of the day."""
        return clean(
            self.source,
            self.stream,
            self.window(day),
            values=values or {},
            raw=self.folder("raw", day),
            into=self.folder("clean", day),
            run_id=run_id,
            memory_mb=MEMORY_MB,
        )

    def load(self, *, day: date | None = None, run_id: str = "run") -> Loaded:
        """Load the clean set of the day."""
        return self.warehouse.load(self.source, self.stream, day, self.folder("clean", day), run_id)

    def cleaned(self, records: Iterable[Any], *, day: date | None = None, run_id: str = "run") -> Cleaned:
        """Land the records as one page, the list itself being the answer, and clean them."""
        self.land([Page(list(records))], day=day, run_id=run_id)
        return self.clean(day=day, run_id=run_id)

    def loaded(self, records: Iterable[Any], *, day: date | None = None, run_id: str = "run") -> Loaded:
        """Land, clean and load the records as one page."""
        self.cleaned(records, day=day, run_id=run_id)
        return self.load(day=day, run_id=run_id)

    def window(self, day: date | None) -> Window | None:
        return Window.of_day(day, self.source.timezone) if day else None

    def rows(self, *, day: date | None = None) -> list[dict[str, Any]]:
        """The rows of the clean set in force, ordered by key, without `_page`."""
        order = ", ".join(f'"{name}"' for name in self.stream.key)
        return self._file("rows-", day, f"SELECT * EXCLUDE (_page) FROM {{}} ORDER BY {order}")

    def quarantine(self, *, day: date | None = None) -> list[dict[str, Any]]:
        """The quarantined rows of the clean set in force."""
        return self._file("quarantine-", day, "SELECT * FROM {} ORDER BY ALL")

    def _file(self, prefix: str, day: date | None, sql: str) -> list[dict[str, Any]]:
        folder = self.folder("clean", day)
        for path in folder.files(folder.manifest()):
            if path.name.startswith(prefix):
                with duckdb.connect(":memory:") as db:
                    return fetch(db, sql.format(f"read_parquet('{path}')"))
        return []

    def table(self, columns: str = "*", order: str = "ALL") -> list[dict[str, Any]]:
        """The rows of the table, ordered."""
        if not self.google:
            return self.query(f"SELECT {columns} FROM demo.things ORDER BY {order}")
        rows = self.query(f"SELECT {columns} FROM demo.things")
        return sorted(rows, key=lambda row: [(value is None, value) for value in row.values()])

    def query(self, sql: str, *parameters: Any) -> list[dict[str, Any]]:
        """Rows of a query in DuckDB's dialect; instants in UTC."""
        if not self.google:
            with self.warehouse.reader() as db:
                return fetch(db, sql, *parameters)
        found = self.warehouse.select(sql)
        names = ["_partition" if name == "partition_date" else name for name in found.columns]
        return [dict(zip(names, row, strict=True)) for row in found.rows]

    def execute(self, sql: str) -> None:
        """Change the warehouse by hand."""
        if not self.google:
            with self.warehouse.writer() as (db, _):
                db.execute(sql)
            return
        for statement in filter(None, map(str.strip, sql.split(";"))):
            self.warehouse.runner({}).query(transpiled(statement, self.warehouse.dialect, {"partition_date"}))


@functools.lru_cache(maxsize=8)
def _pipeline(root: Path, google: tuple[tuple[str, str], ...]) -> Pipeline:
    return Pipeline(Settings.read({**dict(google), "ETL_DATA_DIR": str(root)}))


def fetch(db: duckdb.DuckDBPyConnection, sql: str, *parameters: Any) -> list[dict[str, Any]]:
    """Rows as dictionaries; instants in UTC."""
    db.execute("SET TimeZone = 'UTC'")
    result = db.execute(sql, list(parameters))
    names = [entry[0] for entry in result.description or []]
    return [dict(zip(names, row, strict=True)) for row in result.fetchall()]


def utc(text: str) -> datetime:
    """An instant: `2026-01-05 09:00`."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def wall(text: str) -> datetime:
    """A time without a zone: `2026-01-05 09:00`."""
    return datetime.fromisoformat(text)
