"""Tables in BigQuery: a load is a plan of jobs with ids of its own, written down before the first of them begins.

BigQuery has no transaction that spans a load job and `ops.loads`, and an answer can get lost after a job was
accepted. So the plan stands in the landing, guarded by its generation, and each of its jobs can be begun only
once, by whoever comes first: a run that was killed is finished by the next one, and a run that fell asleep
finds its jobs done by a later one instead of putting older rows over newer ones.

Nothing is appended: a day is replaced as `table$YYYYMMDD`, a snapshot as a whole, each by one load job; merges
go through a staging table and one MERGE.
"""

import contextlib
import itertools
import logging
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from functools import cached_property
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import duckdb
from google.api_core.exceptions import BadRequest, NotFound
from google.cloud import bigquery

from etl_assets.errors import FinalError, LandingError
from etl_assets.gcp import Clients, translated
from etl_assets.landing import Folder, Manifest
from etl_assets.mart import SCHEMA, Mart, load_marts
from etl_assets.spec import Source, Stream
from etl_assets.sqltext import identifier, literal
from etl_assets.store.protocol import Files, Store
from etl_assets.warehouse import bigquery_schema as schemas
from etl_assets.warehouse import spooling, sql
from etl_assets.warehouse.bigquery_dialect import BigQueryDialect, transpiled
from etl_assets.warehouse.bigquery_jobs import Job, JobFailedError, Plan, Runner
from etl_assets.warehouse.deletions import refuse_sweep
from etl_assets.warehouse.duckdb import DIALECT as LOCAL
from etl_assets.warehouse.protocol import Built, Difference, Loaded, Selected, Warehouse

log = logging.getLogger(__name__)

STAGING = "staging"
_STAGING_MS = 24 * 3600 * 1000
_RIVALS = 20  # loads of the same partition that may come first
_PLAN = "plan.json"
_ROW_GROUP = "ROW_GROUP_SIZE 100_000, ROW_GROUP_SIZE_BYTES '16MB'"  # BigQuery reads those of 16 MB and more well


@dataclass(frozen=True)
class BigQueryWarehouse:
    """Datasets `<prefix><source>` of a project. Load files and plans lie in the landing `store`, in a bucket.

    `limits` is a local folder that all runs of a machine share; `spill` one for what does not fit into `memory_mb`
    while DuckDB writes load files. `accept_deletions` names streams (`backlog/issues`) of which a sweep may mark any
    number of rows. `sources` are those of which a SELECT may name tables.
    """

    clients: Clients
    store: Store
    limits: Path
    spill: Path
    memory_mb: int
    accept_deletions: frozenset[str]
    sources: Mapping[str, Source]

    def load(self, source: Source, stream: Stream, day: date | None, clean: Folder, run_id: str) -> Loaded:
        """Put the clean set into the table, with its entry in `ops.loads`; see `Warehouse.load`.

        Raises TableError, LandingError, GoogleUnavailable, QuotaError or AccessError.
        """
        with translated(f"{source.source}.{stream.name}"):
            return _Load(self, source, stream, day, run_id).run(clean)

    def compare(self, source: Source, stream: Stream, day: date | None, clean: Folder) -> Difference:
        """How the stream's table differs from the clean set of the day."""
        with translated(f"{source.source}.{stream.name}"):
            return _Load(self, source, stream, day, "compare").compare(clean)

    def build(self, mart: Mart) -> Built:
        """Replace the mart's table by what its SELECT gives now."""
        runner = self.runner({"mart": mart.name})
        table = self.dialect.table(SCHEMA, mart.name)
        with translated(f"mart {mart.name}"):
            present = {place: self.table(*place) for place in mart.tables}
            if missing := [f"{schema}.{name}" for (schema, name), found in present.items() if found is None]:
                raise FinalError(f"mart {mart.name} reads tables that are not loaded yet: {', '.join(missing)}")
            self.ensure_dataset(SCHEMA)
            body = transpiled(mart.sql, self.dialect, _partitions(present.values()))
            options = f"OPTIONS (description = {self.dialect.literal(mart.description)})"
            runner.query(f"CREATE OR REPLACE TABLE {table} {options} AS {body}")
            ((rows,),) = runner.query(f"SELECT count(*) FROM {table}")
            result = runner.result(f"SELECT * FROM {table} LIMIT 5")
            sample = [tuple(column.name for column in result.schema), *(tuple(row.values()) for row in result)]
        return Built(f"{self.dataset(SCHEMA)}.{mart.name}", rows, sample)

    def select(self, query: str) -> Selected:
        """The rows of one SELECT in DuckDB's dialect."""
        with translated("query"):
            found = {place: self.table(*place) for place in schemas.tables_of(query)}
            if missing := [".".join(place) for place, table in found.items() if table is None]:
                raise FinalError(f"the SELECT cannot be answered: there is no table {', '.join(missing)}")
            result = self.runner({}).result(transpiled(query, self.dialect, _partitions(found.values())))

        def rows() -> Iterator[tuple[Any, ...]]:
            with translated("query"):
                for row in result:
                    yield tuple(row.values())

        return Selected([column.name for column in result.schema], rows())

    def spool(self, selects: Mapping[str, str], file: Path) -> None:
        """Copy what each SELECT gives, one after the other."""
        with translated("query"), spooling.opened(file, self.memory_mb) as spool:
            for name, select in selects.items():
                for place in schemas.tables_of(select):
                    self._outline(spool, *place)
                spool.table(name, select)
                found = [self.table(*place) for place in schemas.tables_of(select)]
                result = self.runner({}).result(transpiled(select, self.dialect, _partitions(found)))
                for batch in result.to_arrow_iterable():
                    spool.add(name, batch)

    def _outline(self, spool: spooling.Spool, schema: str, name: str) -> None:
        """Have the spool know the columns of a table, by which DuckDB finds the types of what a SELECT gives."""
        found = self.table(schema, name)
        if found is None:
            return
        if schema == SCHEMA and (mart := next((mart for mart in load_marts() if mart.name == name), None)):
            for place in mart.tables:
                self._outline(spool, *place)
            spool.outline(schema, name, select=mart.sql)
            return
        source = self.sources.get(schema)
        stream = next((stream for stream in source.streams if stream.name == name), None) if source else None
        spool.outline(schema, name, columns=schemas.kinds(found, stream))

    def scanned_bytes(self, source: Source, stream: Stream) -> int | None:
        """What comparing the whole table with a clean set would bill at most, by a dry run; None without a table."""
        with translated(f"{source.source}.{stream.name}"):
            if self.table(source.source, stream.name) is None:
                return None
            name = self.dialect.table(source.source, stream.name)
            config = bigquery.QueryJobConfig(dry_run=True, use_query_cache=False)
            query = sql.content_digest(self.dialect, stream, name)
            job = self.client.query(query, job_config=config, retry=self.clients.bigquery_retry, job_retry=None)
            return int(job.total_bytes_processed or 0)

    @property
    def client(self) -> bigquery.Client:
        """The BigQuery client."""
        return self.clients.bigquery

    @cached_property
    def dialect(self) -> BigQueryDialect:
        """The SQL of this project."""
        return BigQueryDialect(str(self.clients.settings.project), self.clients.settings.dataset_prefix)

    def dataset(self, schema: str) -> str:
        """The dataset of a source or of `ops`, `mart`, `staging`, with its project."""
        return f"{self.clients.settings.project}.{self.clients.settings.dataset_prefix}{schema}"

    def table(self, schema: str, name: str) -> bigquery.Table | None:
        """A table as it is, None when there is none."""
        try:
            return self.client.get_table(f"{self.dataset(schema)}.{name}", retry=self.clients.bigquery_retry)
        except NotFound:
            return None

    def ensure_dataset(self, schema: str) -> None:
        """Create a dataset if there is none. What is staged goes away by itself after a day."""
        with contextlib.suppress(NotFound):  # to ask takes less of a right than to create what exists
            self.client.get_dataset(self.dataset(schema), retry=self.clients.bigquery_retry)
            return
        dataset = bigquery.Dataset(self.dataset(schema))
        dataset.location = self.clients.settings.location
        if schema == STAGING:
            dataset.default_table_expiration_ms = _STAGING_MS
        self.client.create_dataset(dataset, exists_ok=True, retry=self.clients.bigquery_retry)

    def runner(self, labels: dict[str, str]) -> Runner:
        """What runs jobs under these labels."""
        return Runner(self.clients, {name: schemas.label(value) for name, value in labels.items()}, self.limits)


class _Load:
    """One load: the table, its staging tables, and the plan."""

    def __init__(
        self, warehouse: BigQueryWarehouse, source: Source, stream: Stream, day: date | None, run_id: str
    ) -> None:
        self._w, self._source, self._stream, self._day, self._run_id = warehouse, source, stream, day, run_id
        self._d = warehouse.dialect
        self._place = f"{source.source}.{stream.name}"
        self._name = self._d.table(source.source, stream.name)
        self._marks = bool(stream.deletes or stream.sweep)
        self._labels = {"source": source.source, "stream": stream.name, "run": run_id}
        self._runner = warehouse.runner(self._labels)
        self._files: Files = warehouse.store.folder(f"load/{source.source}/{stream.name}/{day or 'snapshot'}")

    def run(self, clean: Folder) -> Loaded:
        """Load the clean set."""
        started = time.monotonic()
        manifest = clean.manifest()
        paths = {path.name.split("-")[0]: path for path in clean.files(manifest)}
        if self._w.table(sql.OPS, "quarantine") is None:
            self._make_ops()
        self._table = self._prepared()
        usual = self._usual()
        self._mark_deleted()  # so that these rows are not taken for moved ones, and kept
        self._refuse_sweeps(manifest, paths["rows"])
        changed = self._brought(clean, manifest, paths)
        for other in self._source.streams:
            self._tell(other, manifest)
        ((in_table,),) = self._runner.query(f"SELECT count(*) FROM {self._name}")
        return Loaded(
            table=self._place,
            uri=f"{self._w.dataset(self._source.source)}.{self._stream.name}",
            rows=manifest.rows,
            rows_in_table=in_table,
            changed=changed,
            usual_rows=usual,
            seconds=time.monotonic() - started,
            waited_seconds=self._runner.waited_seconds,
            cost=self._runner.cost,
        )

    def compare(self, clean: Folder) -> Difference:
        """How the table differs; writes nothing but a staging table."""
        manifest = clean.manifest()
        found = self._w.table(self._source.source, self._stream.name)
        if found is None:
            return Difference(manifest.rows, 0, 0)
        self._table = found
        rows = next(path for path in clean.files(manifest) if path.name.startswith("rows-"))
        there, here = (sql.row_digest(self._d, self._stream, of) for of in ("there", "here"))
        outdone = "false"
        if self._stream.mode == "merge":
            version = self._d.name(str(self._stream.version_column))
            outdone = f"coalesce(there.{version} > here.{version}, false)"
        lacking, surplus = sql.differences(
            self._d,
            self._stream,
            self._name,
            self._staged("rows", [self._load_file(rows)], self._row_schema()),
            mine=self._own(),
            outdone=outdone,
            unequal=f"{there} <> {here}",
            marks=self._marks,
        )
        return Difference(*self._runner.query(lacking)[0], *self._runner.query(surplus)[0])

    # The table

    def _prepared(self) -> bigquery.Table:
        """The table with the declared columns. Raises TableError before anything is changed."""
        found = self._w.table(self._source.source, self._stream.name)
        return self._created() if found is None else self._evolved(found)

    def _created(self) -> bigquery.Table:
        self._w.ensure_dataset(self._source.source)
        for partition in schemas.PARTITION_NAMES:
            table = bigquery.Table(f"{self._w.dataset(self._source.source)}.{self._stream.name}")
            table.schema = schemas.table_schema(self._stream, partition, marks=self._marks)
            if self._stream.window:
                table.time_partitioning = bigquery.TimePartitioning(field=partition)
            table.clustering_fields = schemas.clustering(self._stream)
            table.description = self._stream.description or None
            table.labels = {name: schemas.label(value) for name, value in self._labels.items()}
            try:
                return self._w.client.create_table(table, exists_ok=True, retry=self._w.clients.bigquery_retry)
            except BadRequest as error:
                if "field name" not in str(error) or partition == schemas.PARTITION_NAMES[-1]:
                    raise
        raise AssertionError("a name is taken or refused")

    def _evolved(self, table: bigquery.Table) -> bigquery.Table:
        wanted = schemas.table_schema(self._stream, self._partition_of(table), marks=self._marks)
        widened = schemas.widened(self._place, table.schema, wanted)
        schema = schemas.joined(table.schema, wanted)
        description = self._stream.description or None
        if (schema, description) != (list(table.schema), table.description):
            table.schema, table.description = schema, description
            table.labels = {name: schemas.label(value) for name, value in self._labels.items()}
            fields = ["schema", "description", "labels"]
            table = self._w.client.update_table(table, fields, retry=self._w.clients.bigquery_retry)
        if widened:
            for statement in schemas.widening(self._name, table, widened):
                self._runner.query(statement)
            table = self._w.client.get_table(table, retry=self._w.clients.bigquery_retry)
        return table

    def _partition_of(self, table: bigquery.Table) -> str:
        found = table.time_partitioning
        return str(found.field) if found else schemas.PARTITION_NAMES[-1]

    @property
    def _partition(self) -> str:
        return self._partition_of(self._table)

    def _own(self, of: str = "") -> str:
        return sql.own(self._d, self._partition, self._day, marks=self._marks, of=of)

    def _usual(self) -> float | None:
        day = self._day
        if day and day >= datetime.now(ZoneInfo(self._source.timezone)).date():
            return None  # the day is not over
        query = sql.earlier_rows(self._d, self._source, self._stream, day)
        return sql.usual([rows for (rows,) in self._runner.query(query)])

    def _make_ops(self) -> None:
        for schema in (sql.OPS, STAGING):
            self._w.ensure_dataset(schema)
        for name, columns in (("loads", sql.LOADS), ("quarantine", sql.QUARANTINE)):
            table = bigquery.Table(f"{self._w.dataset(sql.OPS)}.{name}", schema=schemas.fields(columns))
            table.clustering_fields = ["source", "stream"]
            self._w.client.create_table(table, exists_ok=True, retry=self._w.clients.bigquery_retry)

    # Deletions

    def _mark_deleted(self) -> None:
        if statement := self._marking(self._stream):
            self._runner.query(statement)

    def _marking(self, stream: Stream) -> str | None:
        """The statement that marks what another stream has told; None where nobody tells."""
        deletes = stream.deletes
        if deletes is None or self._w.table(self._source.source, deletes.stream) is None:
            return None
        there = self._d.table(self._source.source, deletes.stream)
        return sql.mark_deleted(self._d, self._d.table(self._source.source, stream.name), there, deletes)

    def _tell(self, other: Stream, manifest: Manifest) -> None:
        """Mark what this load says is deleted in a table that listens to it, if there is one."""
        tells = bool(other.deletes and other.deletes.stream == self._stream.name)
        sweeps = other.sweep == self._stream.name
        if not (tells or sweeps) or self._w.table(self._source.source, other.name) is None:
            return
        if tells and (statement := self._marking(other)):
            self._runner.query(statement)
        if sweeps:
            table = self._d.table(self._source.source, other.name)
            self._runner.query(sql.mark_absent(self._d, table, other, sql.Sweep(self._name, manifest.as_of)))

    def _refuse_sweeps(self, manifest: Manifest, rows: Path) -> None:
        """Raises FinalError, before anything is loaded, when this is a sweep that lacks too much to be believed."""
        for other in self._source.streams:
            name = f"{self._source.source}/{other.name}"
            if other.sweep != self._stream.name or name in self._w.accept_deletions:
                continue
            if self._w.table(self._source.source, other.name) is None:
                continue
            found = self._staged("rows", [self._load_file(rows)], self._row_schema())
            table = self._d.table(self._source.source, other.name)
            counted = sql.count_absent(self._d, table, other, sql.Sweep(found, manifest.as_of))
            ((live, absent),) = self._runner.query(counted)
            refuse_sweep(self._source, other, listed=manifest.rows, live=live, absent=absent)

    def _marking_swept(self, manifest: Manifest) -> str | None:
        """The statement that marks what the last sweep did not find, of a day that was read before it began."""
        sweep = self._stream.sweep
        if not sweep or self._day is None or self._w.table(self._source.source, sweep) is None:
            return None
        read = self._runner.query(sql.last_read(self._d, self._source.source, sweep))
        if not read or manifest.as_of >= read[0][0]:
            return None
        found = sql.Sweep(self._d.table(self._source.source, sweep), read[0][0])
        return sql.mark_absent(self._d, self._name, self._stream, found, self._own("t"))

    # Rows

    def _brought(self, clean: Folder, manifest: Manifest, paths: dict[str, Path]) -> bool:
        """Bring the table to the content of the clean set and record the load; whether rows were written."""
        content = self._content(paths["rows"])
        for _ in range(_RIVALS):
            plan, generation = self._plan()
            if plan and plan.state == "open":
                log.info("%s: finishing the load of run %s first", self._place, plan.run_id)
                self._finish(plan)
                continue
            if plan and manifest.as_of < datetime.fromisoformat(plan.as_of) < datetime.now(UTC):
                return self._superseded(plan)
            values = sql.load_values(
                self._source, self._stream, self._day, manifest, uri=clean.uri, run_id=self._run_id
            )
            held, quarantined = self._held()
            jobs = [] if held == content else self._row_jobs(clean, manifest, paths, values)
            record = self._record(clean, manifest, values, quarantined)
            if not jobs:
                seen = Plan(plan.sequence if plan else 0, content, manifest.as_of.isoformat(), self._run_id, "done", ())
                if not self._files.replace(_PLAN, seen.to_json(), generation):
                    continue
                if statement := self._marking_swept(manifest):
                    self._runner.query(statement)
                self._run([replace(job, id=f"etl_{uuid.uuid4().hex}") for job in record])
                return False
            sequence = plan.sequence + 1 if plan else 1
            as_of = manifest.as_of.isoformat()
            names = self._job_ids(as_of, sequence, content)
            jobs = [replace(job, id=name) for job, name in zip([*jobs, *record], names, strict=False)]
            following = Plan(sequence, content, as_of, self._run_id, "open", tuple(jobs))
            if self._files.replace(_PLAN, following.to_json(), generation):
                self._files.sweep({_PLAN, *(uri.rsplit("/", 1)[-1] for job in jobs for uri in job.uris)})
                self._finish(following, mine=True)
                return True
        raise LandingError(f"{self._files.uri}: other runs keep loading the same partition; run again later")

    def _superseded(self, plan: Plan) -> bool:
        """What there is to do when another run has read the source later: nothing, unless its load failed."""
        if plan.state != "done":
            raise LandingError(f"{self._place}: run {plan.run_id} has read this later, and its load failed; load again")
        log.warning("%s: run %s has loaded what it read later; nothing to do", self._place, plan.run_id)
        return False

    def _plan(self) -> tuple[Plan | None, int]:
        try:
            text, generation = self._files.read(_PLAN)
        except FileNotFoundError:
            return None, 0
        return Plan.from_json(text), generation

    def _job_ids(self, as_of: str, sequence: int, content: str) -> Iterator[str]:
        """The same for the same stream, day, content and load, and never again: also if the landing was emptied."""
        where = f"{self._w.dataset(self._source.source)} {self._files.uri} {as_of}"
        place = uuid.uuid5(uuid.NAMESPACE_URL, where).hex[:12]
        named = f"etl_{self._source.source}_{self._stream.name}_{self._day or 'snapshot'}_{place}"
        return (f"{named}_{sequence}_{content.replace(':', '_')}_{number}" for number in itertools.count())

    def _finish(self, plan: Plan, *, mine: bool = False) -> None:
        """Run what is left of the plan, and close it. Of somebody else's plan a failed job is only noted."""
        try:
            self._run(plan.jobs)
            state = "done"
        except JobFailedError as failure:
            self._close(plan, "failed")
            if mine:
                raise failure.error from None
            log.warning("%s: the load of run %s failed: %s", self._place, plan.run_id, failure)
            return
        self._close(plan, state)

    def _run(self, jobs: "tuple[Job, ...] | list[Job]") -> None:
        for job in jobs:
            self._runner.once(job)

    def _close(self, plan: Plan, state: str) -> None:
        present, generation = self._plan()
        if present and (present.sequence, present.state) == (plan.sequence, "open"):  # else somebody was quicker
            self._files.replace(_PLAN, replace(plan, state=state).to_json(), generation)

    def _held(self) -> tuple[str, int]:
        """The content of the load's own rows in the table, and how many rows are in quarantine."""
        digest = sql.content_digest(self._d, self._stream, f"{self._name} WHERE {self._own()}")
        partition = self._d.name("partition")
        mine = f"{partition} IS NULL" if self._day is None else f"{partition} = {self._d.literal(self._day)}"
        quarantined = (
            f"SELECT count(*) FROM {self._d.table(sql.OPS, 'quarantine')} WHERE {mine} "
            f"AND source = {self._d.literal(self._source.source)} AND stream = {self._d.literal(self._stream.name)}"
        )
        query = f"SELECT n, x, ({quarantined}) FROM ({digest})"
        ((rows, combined, count),) = self._runner.query(query)
        return f"{rows}:{combined}", count

    def _content(self, rows: Path) -> str:
        with self._local() as db:
            query = sql.content_digest(LOCAL, self._stream, f"read_parquet({literal(str(rows))})")
            ((count, combined),) = db.execute(query).fetchall()
        return f"{count}:{combined}"

    def _row_jobs(self, clean: Folder, manifest: Manifest, paths: dict[str, Path], values: dict[str, Any]) -> list[Job]:
        """The jobs that bring the rows; none when everything that differs is newer in other partitions."""
        if self._stream.mode != "merge" and not self._marks:
            file = self._load_file(paths["rows"], values["loaded_at"])
            decorator = f"${self._day:%Y%m%d}" if self._day else ""
            config = self._load_config(list(self._table.schema))
            into = f"{self._w.dataset(self._source.source)}.{self._stream.name}{decorator}"
            return [Job("", paced=self._place, uris=(file,), into=into, config=config)]
        rows = self._staged("rows", [self._load_file(paths["rows"])], self._row_schema())
        owners = None
        if self._stream.mode == "merge":
            owners = self._staged_owners(clean, manifest) or rows
            rows = f"({self._fresh(rows, manifest)})"
            ((n, x),) = self._runner.query(sql.content_digest(self._d, self._stream, rows))
            if self._held()[0] == f"{n}:{x}":
                return []
        statement = self._merge(rows, owners, values)
        # rows that were read before they were deleted
        if marking := [text for text in (self._marking(self._stream), self._marking_swept(manifest)) if text]:
            statement = ";\n".join(["BEGIN TRANSACTION", statement, *marking, "COMMIT TRANSACTION;"])
        return [Job("", paced=self._place, sql=statement)]

    def _decisive(self, read_at: datetime) -> sql.Merge:
        assert self._day is not None  # a merge needs a window
        keys = sql.owner(self._source, self._stream)
        return sql.Merge(self._stream, keys, self._partition, self._day, read_at)

    def _fresh(self, rows: str, manifest: Manifest) -> str:
        m = self._decisive(manifest.as_of)
        there = sql.elsewhere(self._d, m, sql.Versions(self._name, self._marks), self._own(), self._parents())
        return sql.fresh(self._d, rows, there, m.keys, sql.newer(self._d, m, marks=True))

    def _parents(self) -> sql.Versions | None:
        of = self._stream.of
        found = self._w.table(self._source.source, of.stream) if of else None
        if of is None or found is None:
            return None
        marks = any(column.name == "_deleted_at" for column in found.schema)
        return sql.Versions(self._d.table(self._source.source, of.stream), marks)

    def _merge(self, rows: str, owners: str | None, values: dict[str, Any]) -> str:
        """One MERGE: put the rows, drop those that they replace, and drop or mark those that the day no longer has.

        `owners` holds the versions that decide: each drops the rows of its key that are no newer. The keys of what
        is put are NULL on the matching side, so that it matches nothing.
        """
        names = [name for name, _ in self._stream.table_columns()] + ["_extra"]
        columns = [*names, *([self._partition] if self._day else []), "_loaded_at", "_run_id"]
        fixed = {
            self._partition: self._d.literal(self._day),
            "_loaded_at": self._d.literal(values["loaded_at"]),
            "_run_id": self._d.literal(self._run_id),
        }
        cells = ", ".join(fixed.get(name) or f"s.{self._d.name(name)}" for name in columns)
        keys, version = sql.owner(self._source, self._stream), str(self._stream.version_column)
        given = dict(self._stream.table_columns())
        matching = [f"CAST(NULL AS {schemas.type_name(given[key])}) AS `k_{n}`" for n, key in enumerate(keys)]
        puts = f"SELECT put.*, {', '.join(matching)} FROM {rows} AS put"
        drops, matched, gone = "", "", "DELETE"
        if owners:
            taken = ", ".join(f"{self._d.name(key)} AS `k_{n}`" for n, key in enumerate(keys))
            grouped = ", ".join(f"`k_{n}`" for n, _ in enumerate(keys))
            versions = f"SELECT {taken}, {self._d.name(version)} AS v FROM {owners}"
            empty = ", ".join(
                f"v AS {self._d.name(name)}" if name == version else f"CAST(NULL AS {schemas.type_name(kind)})"
                for name, kind in [*self._stream.table_columns(), ("_extra", "JSON")]
            )
            newest = f"SELECT {grouped}, max(v) AS v FROM ({versions}) GROUP BY {grouped}"
            drops = f" UNION ALL SELECT {empty}, {grouped} FROM ({newest})"
            outdone = sql.newer(self._d, self._decisive(values["read_at"]), marks=self._marks, there="t", here="s")
            matched = f"WHEN MATCHED AND ({self._own('t')} OR NOT {outdone}) THEN DELETE "
            if self._marks:
                gone = f"UPDATE SET {self._d.name('_deleted_at')} = {self._d.literal(values['read_at'])}"
        on = " AND ".join(f"t.{self._d.name(key)} = s.`k_{n}`" for n, key in enumerate(keys))
        return (
            f"MERGE {self._name} AS t USING ({puts}{drops}) AS s ON {on} {matched}"
            f"WHEN NOT MATCHED BY TARGET AND s.`k_0` IS NULL THEN "
            f"INSERT ({', '.join(map(self._d.name, columns))}) VALUES ({cells}) "
            f"WHEN NOT MATCHED BY SOURCE AND {self._own('t')} THEN {gone}"
        )

    def _record(self, clean: Folder, manifest: Manifest, values: dict[str, Any], quarantined: int) -> list[Job]:
        """The jobs that record the load: its entry comes last, so that it is never there twice."""
        bad = [f"{clean.uri}/{entry.name}" for entry in manifest.files if entry.name.startswith("quarantine-")]
        statements = []
        if bad or quarantined:
            statements.append(sql.delete_quarantine(self._d, self._source, self._stream, self._day))
        if bad:
            schema = schemas.fields({name: sql.QUARANTINE[name] for name in ("record_key", "reason", "record")})
            statements.append(sql.insert_quarantine(self._d, self._staged("quarantine", bad, schema), values))
        statements.append(sql.insert_load(self._d, values))
        return [Job("", sql=";\n".join(statements))]

    # Files

    def _load_file(self, rows: Path, loaded_at: datetime | None = None) -> str:
        """The rows as BigQuery takes them, in the landing; their URI.

        JSON becomes text: a load job cannot read JSON out of Parquet. With `loaded_at` the file holds the columns
        that tell when, by whom and for which day the rows were written.
        """
        columns = [
            f"CAST({identifier(name)} AS VARCHAR) AS {identifier(name)}" if kind == "JSON" else identifier(name)
            for name, kind in [*self._stream.table_columns(), ("_extra", "JSON")]
        ]
        if loaded_at:
            columns += [f"{LOCAL.literal(loaded_at)} AS _loaded_at", f"{LOCAL.literal(self._run_id)} AS _run_id"]
            if self._day:
                columns.append(f"{LOCAL.literal(self._day)} AS {identifier(self._partition)}")
        order = ", ".join(map(identifier, self._stream.key))
        file = self._files.scratch()
        with self._local() as db:
            select = f"SELECT {', '.join(columns)} FROM read_parquet({literal(str(rows))}) ORDER BY {order}"
            db.execute(f"COPY ({select}) TO {literal(str(file))} (FORMAT parquet, COMPRESSION zstd, {_ROW_GROUP})")
        name = f"rows-{uuid.uuid4().hex}.parquet"
        self._files.keep(file, name)
        self._files.settle()
        return f"{self._files.uri}/{name}"

    def _local(self) -> duckdb.DuckDBPyConnection:
        self._w.spill.mkdir(parents=True, exist_ok=True)
        db = duckdb.connect(
            ":memory:",
            config={
                "threads": 1,
                "memory_limit": f"{self._w.memory_mb}MB",
                "temp_directory": str(self._w.spill / f"spill-{uuid.uuid4().hex}"),
                "preserve_insertion_order": False,
                "autoinstall_known_extensions": False,
            },
        )
        db.execute("SET TimeZone = 'UTC'")
        return db

    def _row_schema(self) -> list[bigquery.SchemaField]:
        return schemas.fields({**dict(self._stream.table_columns()), "_extra": "JSON"})

    def _staged_owners(self, clean: Folder, manifest: Manifest) -> str | None:
        """The versions of a child's parents in a staging table; None for a stream that is nobody's child."""
        uris = [f"{clean.uri}/{entry.name}" for entry in manifest.files if entry.name.startswith("parents-")]
        if not uris:
            return None
        kinds = dict(self._stream.table_columns())
        return self._staged("parents", uris, schemas.fields({name: kinds[name] for name in self._stream.stamped()}))

    def _staged(self, kind: str, uris: list[str], schema: list[bigquery.SchemaField]) -> str:
        """Load files into a staging table of this load alone; its name."""
        name = f"{self._source.source}_{self._stream.name}_{kind}_{uuid.uuid4().hex}"
        job = Job(f"etl_{name}", uris=tuple(uris), into=f"{self._w.dataset(STAGING)}.{name}")
        try:
            self._runner.once(replace(job, config=self._load_config(schema, whole=False)))
        except JobFailedError as failure:
            raise failure.error from None
        return self._d.table(STAGING, name)

    def _load_config(self, schema: list[bigquery.SchemaField], *, whole: bool = True) -> dict[str, Any]:
        config = bigquery.LoadJobConfig(
            source_format=bigquery.SourceFormat.PARQUET,
            write_disposition=bigquery.WriteDisposition.WRITE_TRUNCATE,
            schema=schema,
        )
        if whole:
            config.time_partitioning = self._table.time_partitioning
            config.clustering_fields = self._table.clustering_fields
        loaded: dict[str, Any] = config.to_api_repr()["load"]
        return loaded


def readiness(warehouse: Warehouse, sources: Sequence[Source]) -> Iterator[str]:
    """What a check says of bucket and project. Raises EtlError when one of them refuses."""
    assert isinstance(warehouse, BigQueryWarehouse)
    settings = warehouse.clients.settings
    with contextlib.suppress(FileNotFoundError):
        warehouse.store.folder("check").read("nothing")  # an answer, if only that there is none
    yield f"landing ready at {warehouse.store.folder('').uri}"
    with translated("BigQuery"):
        warehouse.runner({}).query("SELECT 1")
    yield f"project {settings.project} runs jobs in {settings.location}"
    for source in sources:
        scanned = [warehouse.scanned_bytes(source, stream) for stream in source.streams]
        present = [number for number in scanned if number is not None]
        yield f"{source.source}: {len(present)} tables, comparing all of them bills {sum(present) / 1e6:.1f} MB"


def _partitions(tables: Any) -> set[str]:
    return {str(table.time_partitioning.field) for table in tables if table is not None and table.time_partitioning}
