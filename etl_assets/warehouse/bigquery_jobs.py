"""Jobs of BigQuery that begin at most once, and the plan that a load makes of them."""

import json
import time
from concurrent.futures import TimeoutError as JobTimeout
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

from google.api_core.exceptions import Conflict, GoogleAPICallError
from google.cloud import bigquery

from etl_assets.errors import EtlError, GoogleUnavailable, QuotaError, RetryableError
from etl_assets.gcp import Clients, classified
from etl_assets.limiter import Limiter


@dataclass(frozen=True)
class Job:
    """A job that is begun at most once: a load of files into a table, or SQL. `paced` is the table it changes."""

    id: str
    paced: str | None = None
    sql: str | None = None
    uris: tuple[str, ...] = ()
    into: str = ""
    config: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """The jobs of one load. `state` is open, done or failed; `as_of` is when the source was read."""

    sequence: int
    content: str
    as_of: str
    run_id: str
    state: str
    jobs: tuple[Job, ...]

    def to_json(self) -> bytes:
        """The plan as a document."""
        return json.dumps(asdict(self), ensure_ascii=False, indent=1).encode()

    @classmethod
    def from_json(cls, text: bytes) -> "Plan":
        """The inverse of `to_json`."""
        tree = json.loads(text)
        jobs = (Job(**{**job, "uris": tuple(job["uris"])}) for job in tree.pop("jobs"))
        return cls(**tree, jobs=tuple(jobs))


class JobFailedError(Exception):
    """A job has ended with an error, and its id is used up."""

    def __init__(self, error: EtlError) -> None:
        super().__init__(str(error))
        self.error = error


class Runner:
    """Runs jobs, and adds up what they cost."""

    def __init__(self, clients: Clients, labels: dict[str, str], limits: Path) -> None:
        """`labels` go with every job; `limits` is the folder in which all runs of a machine keep their limits."""
        self._labels, self._limits, self._settings = labels, limits, clients.settings
        self._client, self._retry = clients.bigquery, clients.bigquery_retry
        self._deadline = clients.settings.total_timeout_seconds
        self.waited_seconds = 0.0
        self.cost = {"jobs": 0, "bytes_billed": 0, "slot_milliseconds": 0}

    def query(self, text: str) -> list[tuple[Any, ...]]:
        """The rows of a statement that may run twice."""
        return [tuple(row.values()) for row in self.result(text)]

    def result(self, text: str) -> Any:
        """The rows of a statement as they are fetched."""
        job = self._client.query(text, job_config=self._config(), retry=self._retry, job_retry=None)
        try:
            return self._ended(job)
        except JobFailedError as failure:
            raise failure.error from None

    def once(self, job: Job) -> None:
        """Run a job unless its id has been used; then wait for that one. Raises JobFailedError when it failed."""
        try:
            begun = self._begun(job)
        except Conflict:  # begun before: by a request whose answer was lost, or by another run
            begun = self._client.get_job(job.id, retry=self._retry)
        self._ended(begun)

    def _begun(self, job: Job) -> Any:
        if job.paced:
            pacer = self._pacer(job.paced)
            try:
                pacer.wait(job.paced, time.monotonic() + self._deadline)
            except RetryableError as error:
                raise QuotaError(f"{job.paced} is changed as often as BIGQUERY_TABLE_RATES permits: {error}") from None
            self.waited_seconds += pacer.waits.seconds
        if job.sql is not None:
            return self._client.query(
                job.sql, job_config=self._config(), job_id=job.id, retry=self._retry, job_retry=None
            )
        config = bigquery.LoadJobConfig.from_api_repr({"load": job.config})
        config.labels = self._labels
        return self._client.load_table_from_uri(
            list(job.uris), job.into, job_config=cast(bigquery.LoadJobConfig, config), job_id=job.id, retry=self._retry
        )

    def _pacer(self, table: str) -> Limiter:
        """What spreads the changes of a table over time, in all processes of the machine."""
        account = f"bigquery {self._settings.project} {self._settings.dataset_prefix}"
        return Limiter(self._limits, account, parallel=1, rates={table: self._settings.table_rates})

    def _config(self) -> bigquery.QueryJobConfig:
        config = bigquery.QueryJobConfig(labels=self._labels)
        if (most := self._settings.maximum_bytes_billed) is not None:
            config.maximum_bytes_billed = most
        return config

    def _ended(self, job: Any) -> Any:
        try:
            done = job.result(timeout=self._deadline, retry=self._retry)
        except JobTimeout:
            raise GoogleUnavailable(
                f"job {job.job_id} has not ended within {self._deadline:.0f} s; run again later"
            ) from None
        except GoogleAPICallError as error:
            if job.error_result is None:
                raise
            raise JobFailedError(_failure(job, error)) from None
        self.cost["jobs"] += 1
        self.cost["bytes_billed"] += int(getattr(job, "total_bytes_billed", None) or 0)
        self.cost["slot_milliseconds"] += int(getattr(job, "slot_millis", None) or 0)
        return done


def _failure(job: Any, error: GoogleAPICallError) -> EtlError:
    result = job.error_result
    text = f"job {job.job_id}: {result.get('message') or error}"
    return classified(text, {str(result.get("reason"))}, 400)
