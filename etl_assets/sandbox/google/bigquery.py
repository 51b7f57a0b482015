"""The BigQuery emulator (bqemulator), with what it does otherwise than BigQuery put right.

Only what our load jobs and queries meet is repaired: load jobs that heed their configuration, job ids that
can be used once, schema changes that reach the storage, names and types that BigQuery refuses. What stays
missing is listed in docs/bigquery.md.
"""

import asyncio
import inspect
import re
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bqemulator.api.routes import jobs, tables, upload
from bqemulator.catalog.memory_repository import MemoryCatalogRepository
from bqemulator.catalog.models import Clustering, JobMeta, TableMeta, TableSchema
from bqemulator.config import PersistenceMode, Settings
from bqemulator.domain.errors import AlreadyExistsError, InvalidQueryError, ResourceRef, resource_not_found
from bqemulator.jobs import executor
from bqemulator.server import EmulatorServer
from bqemulator.storage.engine import DuckDBEngine
from bqemulator.storage.sql_identifiers import quoted_table_ref
from bqemulator.storage.type_map import bq_schema_to_duckdb_columns, duckdb_type_to_bq_field

_REFUSED_NAMES = re.compile(r"(?i)^(_PARTITION|_TABLE_|_FILE_|_ROW_TIMESTAMP|__ROOT__|_COLIDENTIFIER)")
_MONDAY = re.compile(r"(?i)DATE_TRUNC\(([\w.`]+), WEEK\(MONDAY\)\)")
_PARTITION_FORMATS = {"DAY": "%Y%m%d", "HOUR": "%Y%m%d%H", "MONTH": "%Y%m", "YEAR": "%Y"}
_HOST = "127.0.0.1"


@contextmanager
def running(files: Path, *, project: str) -> Iterator[str]:
    """The emulator in a thread; gives its URL. `gs://bucket/object` is read from `files/bucket/object`."""
    _repair()
    settings = Settings(
        persistence_mode=PersistenceMode.EPHEMERAL,
        rest_host=_HOST,
        rest_port=0,
        grpc_host=_HOST,
        grpc_port=0,
        default_project_id=project,
        gcs_local_root=files,
        enable_format_extensions=False,
        log_level="critical",
    )
    server, loop, up = EmulatorServer(settings), asyncio.new_event_loop(), threading.Event()

    def run() -> None:
        asyncio.set_event_loop(loop)
        loop.run_until_complete(server.start())
        up.set()
        loop.run_forever()

    # Its parser recurses where BigQuery's does not.
    sys.setrecursionlimit(20_000)
    usual = threading.stack_size(256 << 20)
    thread = threading.Thread(target=run, name="bigquery", daemon=True)
    thread.start()
    threading.stack_size(usual)
    if not up.wait(60):
        raise TimeoutError("the BigQuery emulator did not start within 60 s")
    try:
        yield server.rest_url
    finally:
        asyncio.run_coroutine_threadsafe(server.stop(), loop).result(20)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)


def _repair() -> None:
    if getattr(executor, "repaired", False):
        return
    executor.repaired = True
    engines: list[Any] = []
    _repair_engine(engines)
    for module in (executor, jobs, upload):
        module.execute_load_job = _load
    for name in ("_handle_load_job_with_async_envelope", "_handle_query_job", "execute_copy_job"):
        setattr(jobs, name, _once(getattr(jobs, name)))
    _repair_schema_changes(engines)


def _repair_engine(engines: list[Any]) -> None:
    """No downloaded extension; and an unread result must not block the one connection (duckdb >= 2)."""
    DuckDBEngine._load_spatial = lambda self: None

    def connection(self: Any) -> Any:
        engines[:] = [self]
        self._connection.abort()
        return self._connection

    DuckDBEngine.connection = property(connection)


def _once(handle: Callable[..., Any]) -> Callable[..., Any]:
    """A job id can be used once."""
    signature = inspect.signature(handle)

    async def guarded(*given: Any, **named: Any) -> Any:
        bound = signature.bind(*given, **named).arguments
        if bound["ctx"].catalog.get_job(bound["project_id"], bound["job_id"]) is not None:
            raise AlreadyExistsError(f"Already Exists: Job {bound['project_id']}:{bound['job_id']}")
        return await handle(*given, **named)

    return guarded


async def _load(project_id: str, job_id: str, config: dict[str, Any], ctx: Any) -> JobMeta:
    """A load job: all of it or nothing, as its configuration says."""
    now = ctx.clock.now()
    load = config["load"]
    async with ctx.engine.write_lock():
        ctx.engine.execute("BEGIN TRANSACTION")
        try:
            target = _Target(project_id, load, ctx, job_id)
            rows = target.fill([executor._resolve_uri(uri, ctx) for uri in load["sourceUris"]])
            ctx.engine.execute("COMMIT")
        except BaseException:
            ctx.engine.execute("ROLLBACK")
            raise
        target.publish()
    return JobMeta(
        project_id=project_id,
        job_id=job_id,
        job_type="LOAD",
        state="DONE",
        configuration=config,
        statistics={"load": {"outputRows": str(rows), "inputFiles": str(len(load["sourceUris"])), "badRecords": "0"}},
        creation_time=now,
        start_time=now,
        end_time=ctx.clock.now(),
        etag=job_id,
    )


class _Target:
    """The table, or the partition of it, that a load job writes."""

    def __init__(self, project: str, load: dict[str, Any], ctx: Any, job_id: str) -> None:
        self._load, self._ctx = load, ctx
        place = load["destinationTable"]
        self._dataset, (self._table, _, self._day) = place["datasetId"], place["tableId"].partition("$")
        self._project = place.get("projectId", project)
        self._ref = quoted_table_ref(self._project, self._dataset, self._table)
        self._given = tuple(tables._parse_schema_fields((load.get("schema") or {}).get("fields") or []))
        refuse(self._given)
        if ctx.catalog.get_dataset(self._project, self._dataset) is None:
            raise resource_not_found(ResourceRef("dataset", self._project, self._dataset))
        found = ctx.catalog.get_table(self._project, self._dataset, self._table)
        self._new = found is None
        self._meta = found or self._created(job_id)
        self._evolve()

    def fill(self, paths: list[str]) -> int:
        """Write the files' rows; how many."""
        run = self._ctx.engine.execute
        part = self._partition()
        disposition = self._load.get("writeDisposition", "WRITE_APPEND")
        if disposition == "WRITE_TRUNCATE":
            run(f"DELETE FROM {self._ref} WHERE {part}")
        elif disposition == "WRITE_EMPTY" and self._count(part):
            raise AlreadyExistsError(f"Already Exists: Table {self._project}:{self._dataset}.{self._table}")
        before = self._count("true")
        for path in paths:
            select, names = self._read(path)
            known = {field.name.lower() for field in self._meta.schema_.fields}
            if strange := [name for name in names if name.lower() not in known]:
                raise ValueError(f"Provided Schema does not match Table. Cannot add fields (field: {strange[0]})")
            if self._count(f"({part}) IS NOT TRUE", f"({select})"):
                raise ValueError(f"Some rows belong to different partitions rather than {self._day}")
            columns = ", ".join(f'"{name}"' for name in names)
            run(f"INSERT INTO {self._ref} ({columns}) SELECT {columns} FROM ({select})")
        for field in self._meta.schema_.fields:
            if field.mode == "REQUIRED" and self._count(f'"{field.name}" IS NULL'):
                raise ValueError(f"Required field {field.name} cannot be null")
        return self._count("true") - before

    def publish(self) -> None:
        """Let the catalogue know."""
        rows = self._count("true")
        meta = self._meta.model_copy(update={"num_rows": rows, "last_modified_time": self._ctx.clock.now()})
        (self._ctx.catalog.create_table if self._new else self._ctx.catalog.update_table)(meta)
        self._ctx.snapshots.record_change(self._project, self._dataset, self._table)

    def _created(self, etag: str) -> TableMeta:
        if self._load.get("createDisposition") == "CREATE_NEVER":
            raise resource_not_found(ResourceRef("table", self._project, self._dataset, self._table))
        columns = ", ".join(f'"{name}" {kind}' for name, kind in _columns(self._given))
        self._ctx.engine.execute(f"CREATE TABLE {self._ref} ({columns})")
        clustering = self._load.get("clustering")
        now = self._ctx.clock.now()
        return TableMeta(
            project_id=self._project,
            dataset_id=self._dataset,
            table_id=self._table,
            schema=TableSchema(fields=self._given),
            labels={},
            time_partitioning=tables._rest_to_time_partitioning(self._load.get("timePartitioning"), None),
            clustering=Clustering(fields=tuple(clustering["fields"])) if clustering else None,
            creation_time=now,
            last_modified_time=now,
            etag=etag,
        )

    def _evolve(self) -> None:
        """Columns that are new in the job's schema, if the job may add them."""
        fields = tuple(self._meta.schema_.fields)
        known = {field.name.lower() for field in fields}
        extra = tuple(field for field in self._given if field.name.lower() not in known)
        if not extra:
            return
        if "ALLOW_FIELD_ADDITION" not in (self._load.get("schemaUpdateOptions") or []):
            raise ValueError(f"Provided Schema does not match Table. Cannot add fields (field: {extra[0].name})")
        for name, kind in _columns(extra):
            self._ctx.engine.execute(f'ALTER TABLE {self._ref} ADD COLUMN "{name}" {kind}')
        self._meta = self._meta.model_copy(update={"schema_": TableSchema(fields=fields + extra)})

    def _partition(self) -> str:
        if not self._day:
            return "true"
        cut = self._meta.time_partitioning
        if cut is None or not cut.field:
            raise InvalidQueryError(f"Table {self._table} is not partitioned by a column; cannot use ${self._day}")
        return f"strftime(\"{cut.field}\", '{_PARTITION_FORMATS[cut.type]}') = '{self._day}'"

    def _read(self, path: str) -> tuple[str, list[str]]:
        """A SELECT over one file, and the columns that it gives."""
        kind, file = self._load.get("sourceFormat", "CSV").upper(), _text(path)
        columns = dict(_columns(self._given or self._meta.schema_.fields))
        if kind == "PARQUET":
            select = f"SELECT * FROM read_parquet({file})"
            described = self._ctx.engine.execute(f"DESCRIBE {select}").fetchall()
            for name, *_ in described:
                if columns.get(name) == "JSON":
                    raise ValueError(f"Unsupported field type JSON for Parquet (field: {name})")
            return select, [name for name, *_ in described]
        if kind != "CSV":
            raise InvalidQueryError(f"not emulated: source format {kind}")
        delimiter = self._load.get("fieldDelimiter", ",")
        texts = ", ".join(f"{_text(name)}: 'VARCHAR'" for name in columns)
        options = ", ".join(
            (
                f"columns = {{{texts}}}",
                "auto_detect = false, header = false",
                f"delim = {_text(chr(9) if delimiter in ('tab', chr(92) + 't') else delimiter)}",
                f"skip = {int(self._load.get('skipLeadingRows') or 0)}",
                f"quote = {_text(self._load.get('quote', chr(34)))}, escape = '\"'",
                f"nullstr = {_text(self._load.get('nullMarker', ''))}",
            )
        )
        casts = ", ".join(f'CAST("{name}" AS {kind}) AS "{name}"' for name, kind in columns.items())
        return f"SELECT {casts} FROM read_csv({file}, {options})", list(columns)

    def _count(self, where: str, rows: str = "") -> int:
        return int(self._ctx.engine.execute(f"SELECT count(*) FROM {rows or self._ref} WHERE {where}").fetchone()[0])


def refuse(fields: Any) -> None:
    """What BigQuery itself refuses, and the emulator would take."""
    for field in fields:
        if _REFUSED_NAMES.match(field.name):
            raise InvalidQueryError(
                f'Invalid field name "{field.name}". Field names are not allowed to start with the (case-insensitive) '
                "prefixes _PARTITION, _TABLE_, _FILE_, _ROW_TIMESTAMP, __ROOT__ and _COLIDENTIFIER"
            )


def _repair_schema_changes(engines: list[Any]) -> None:
    """Schema changes by the API reach the storage, those by ALTER TABLE the catalogue."""
    update, create = MemoryCatalogRepository.update_table, tables._rest_to_table_meta

    def checked(*given: Any) -> TableMeta:
        meta: TableMeta = create(*given)
        refuse(meta.schema_.fields)
        return meta

    def update_table(self: Any, table: TableMeta) -> Any:
        if table.table_type == "TABLE" and table.schema_.fields:
            place = (table.project_id, table.dataset_id, table.table_id)
            have = {name.lower() for name, *_ in _described(engines[0], place)}
            for name, kind in _columns(table.schema_.fields):
                if name.lower() not in have:
                    engines[0].execute(f'ALTER TABLE {quoted_table_ref(*place)} ADD COLUMN "{name}" {kind}')
        return update(self, table)

    execute = jobs.execute_query_job
    signature = inspect.signature(execute)

    async def execute_query_job(*given: Any, **named: Any) -> Any:
        bound = signature.bind(*given, **named).arguments
        # Its week begins on Sundays, whatever is asked for.
        monday = r"DATE_SUB(\1, INTERVAL MOD(EXTRACT(DAYOFWEEK FROM \1) + 5, 7) DAY)"
        bound["bq_sql"] = _MONDAY.sub(monday, bound["bq_sql"])
        done = await execute(**bound)
        for place in re.findall(r"(?i)ALTER TABLE `?([\w.-]+)`?", bound["bq_sql"].replace("`.`", ".")):
            dataset, table = place.split(".")[-2:]
            _learn(bound["ctx"].catalog, engines[0], (bound["project_id"], dataset, table))
        return done

    tables._rest_to_table_meta = checked
    MemoryCatalogRepository.update_table = update_table
    jobs.execute_query_job = execute_query_job


def _learn(catalog: Any, engine: Any, place: tuple[str, str, str]) -> None:
    meta = catalog.get_table(*place)
    known = {field.name.lower(): field for field in meta.schema_.fields}
    fields = []
    for name, kind, *_ in _described(engine, place):
        fresh, old = tables._parse_schema_fields([duckdb_type_to_bq_field(name, kind)])[0], known.get(name.lower())
        same = old is not None and _columns([old])[0][1] == _columns([fresh])[0][1]
        fields.append(old if same else fresh.model_copy(update={"description": old.description if old else None}))
    catalog.update_table(meta.model_copy(update={"schema_": TableSchema(fields=tuple(fields))}))


def _described(engine: Any, place: tuple[str, str, str]) -> list[tuple[Any, ...]]:
    rows: list[tuple[Any, ...]] = engine.execute(f"DESCRIBE {quoted_table_ref(*place)}").fetchall()
    return rows


def _columns(fields: Any) -> list[tuple[str, str]]:
    columns: list[tuple[str, str]] = bq_schema_to_duckdb_columns([tables._field_to_rest(field) for field in fields])
    return columns


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
