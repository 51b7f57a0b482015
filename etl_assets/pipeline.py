"""The three steps of a stream and a day, as plain functions of the settings.

This is what orchestration calls; it knows where things lie, and nothing about who calls it.
"""

import logging
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from etl_assets import heaps
from etl_assets.clean import Cleaned
from etl_assets.clean import clean as clean_files
from etl_assets.errors import SettingError, named
from etl_assets.export import Export, Exported
from etl_assets.export import export as write_export
from etl_assets.extract import Api, Extracted, open_api
from etl_assets.extract import extract as extract_pages
from etl_assets.landing import Folder
from etl_assets.settings import Settings, connection, plain_values
from etl_assets.spec import Source, Stream
from etl_assets.store.local import LocalStore
from etl_assets.store.protocol import Store
from etl_assets.streamfiles import load_sources
from etl_assets.verify import Findings
from etl_assets.verify import inspect as inspect_files
from etl_assets.warehouse.duckdb import DuckDbWarehouse
from etl_assets.warehouse.protocol import Difference, Loaded, Warehouse
from etl_assets.window import Window

if TYPE_CHECKING:
    from etl_assets.gcp import Clients

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pipeline:
    """The steps, bound to one set of settings. Clients are opened when first needed."""

    settings: Settings

    @classmethod
    def from_environment(cls) -> "Pipeline":
        """The pipeline of the current environment."""
        heaps.share()
        return cls(Settings.read())

    @cached_property
    def sources(self) -> dict[str, Source]:
        """Every declared source by name."""
        return load_sources(self.settings.sources_dir)

    @cached_property
    def clients(self) -> "Clients":
        """The clients of Google Cloud."""
        from etl_assets.gcp import Clients

        return Clients(self.settings.google)

    @cached_property
    def landing(self) -> Store:
        """Where files are: a local folder, or a bucket."""
        root = self.settings.landing
        if not root.startswith("gs://"):
            return LocalStore(Path(root))
        from etl_assets.store.gcs import GcsStore

        return GcsStore.at(root, self.clients, self.settings.data_dir / "spool")

    @cached_property
    def warehouse(self) -> Warehouse:
        """Where tables are. Raises SettingError when its settings do not go together."""
        settings = self.settings
        if settings.warehouse == "bigquery":
            return self._bigquery()
        # A load only copies; what it could hold beyond this would be a cache that the next load does not see.
        memory_mb = settings.duckdb_memory_mb * 2 // 3
        return DuckDbWarehouse(settings.duckdb_path, settings.duckdb_lock_seconds, memory_mb, settings.accept_deletions)

    def _bigquery(self) -> Warehouse:
        settings = self.settings
        if not settings.landing.startswith("gs://"):
            raise SettingError("ETL_LANDING: BigQuery loads from a bucket; set ETL_LANDING=gs://bucket/prefix")
        from etl_assets.warehouse.bigquery import BigQueryWarehouse

        folders = {name: settings.data_dir / name for name in ("limits", "spill")}
        return BigQueryWarehouse(
            self.clients,
            self.landing,
            memory_mb=settings.duckdb_memory_mb * 2 // 3,
            accept_deletions=settings.accept_deletions,
            sources=self.sources,
            **folders,
        )

    def api(self, source: Source) -> Api:
        """The source's API. Raises SettingError when a variable of the source is missing."""
        return open_api(source, connection(source), self.settings)

    def folder(self, layer: str, source: Source, stream: Stream, day: Window | None) -> Folder:
        """Where the files of one layer, stream and day lie."""
        return Folder(self.landing, layer, source.source, stream.name, day.day if day else None)

    def extract(self, api: Api, stream: Stream, day: Window | None, run_id: str) -> Extracted:
        """API to raw files."""
        folder = self.folder("raw", api.source, stream, day)
        with named(_place(api.source, stream, day)):
            done = extract_pages(api, stream, day, folder, run_id)
        log.info(
            "raw: %d rows in %d requests, %.1f s, to %s",
            *(done.manifest.rows, done.requests, done.seconds, done.uri),
        )
        return done

    def clean(self, source: Source, stream: Stream, day: Window | None, run_id: str) -> Cleaned:
        """Raw files to typed Parquet."""
        with named(_place(source, stream, day)):
            done = clean_files(
                source,
                stream,
                day,
                values=plain_values(source),
                raw=self._received(source, stream, day),
                into=self.folder("clean", source, stream, day),
                run_id=run_id,
                memory_mb=self.settings.duckdb_memory_mb,
            )
        log.info(
            "clean: %d rows fit, %d quarantined, %d duplicates, %d of other days, %.1f s",
            *(done.manifest.rows, done.rows_quarantined, done.rows_duplicate, done.rows_outside, done.seconds),
        )
        return done

    def _received(self, source: Source, stream: Stream, day: Window | None) -> Folder:
        """What a clean step starts from: raw pages, or for a child table the clean rows of its parent."""
        if stream.of:
            return self.folder("clean", source, source.stream(stream.of.stream), day)
        return self.folder("raw", source, stream, day)

    def export(self, declared: Export, day: date | None) -> Exported:
        """Tables to a file for people."""
        done = write_export(declared, self.warehouse, self.landing, day)
        log.info("export: %d rows, %d bytes, to %s", done.rows, done.bytes, done.uri)
        return done

    def inspect(self, source: Source, stream: Stream, day: Window | None) -> Findings:
        """What is in the clean set, as its reader finds it."""
        return inspect_files(stream, self.folder("clean", source, stream, day))

    def compare(self, source: Source, stream: Stream, day: Window | None) -> Difference:
        """How the table differs from the clean set of the day."""
        folder = self.folder("clean", source, stream, day)
        return self.warehouse.compare(source, stream, day.day if day else None, folder)

    def load(self, source: Source, stream: Stream, day: Window | None, run_id: str) -> Loaded:
        """Typed Parquet to the table."""
        folder = self.folder("clean", source, stream, day)
        with named(_place(source, stream, day)):
            inspect_files(
                stream, folder, sample_rows=0
            ).refuse()  # the checks may have stopped another run, not this one
            done = self.warehouse.load(source, stream, day.day if day else None, folder, run_id)
        log.info(
            "warehouse: %s %s %d rows, %d in the table, %.1f s",
            *(done.table, "has taken" if done.changed else "already held", done.rows),
            *(done.rows_in_table, done.seconds),
        )
        return done


def _place(source: Source, stream: Stream, day: Window | None) -> str:
    return f"{source.source}/{stream.name} {day.day}" if day else f"{source.source}/{stream.name}"
