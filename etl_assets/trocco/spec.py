"""The model of a TROCCO file: jobs of TROCCO as assets `trocco/<name>`. docs/trocco.md explains every key.

Files lie in the folder `trocco` beside the packaged stream files and below `ETL_SOURCES_DIR`.
What to put here: what may be declared, and what a partition makes of it. What to keep out: how jobs are run.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from etl_assets import declarations
from etl_assets.spec import Duration, Model, Name, Zone

Kind = Literal["transfer", "datamart", "workflow"]

FOLDER = "trocco"

_VARIABLE = re.compile(r"\$[^$\s]+\$")
_PLACEHOLDER = re.compile(r"\{([a-z_.]+)(?::([^{}]+))?\}")
_DAY_PLACEHOLDERS = ("partition", "partition.date", "partition.next")
_FILE_PLACEHOLDERS = ("file", "file.name")
_MOST_VARIABLES = 40
NO_VARIABLES = (
    "TROCCO ignores variables of a workflow. Either run its parts as jobs of their own, which take variables "
    "(recommended; `etl-assets trocco parts` writes them), or let the workflow's date variables follow context_time, "
    "or loop over a query on a table that an upstream asset writes, or set variables_by: loop or defaults, which "
    "changes the definition before each run"
)
NO_COMPLETION = (
    "TROCCO's API does not tell when a datamart has ended. Choose how it is known: "
    "{by: workflow, definition: N} runs a workflow of this one task instead; {by: notification} waits for TROCCO's "
    "HTTP notification; {by: probe, sql: …} asks the warehouse; {by: nothing} starts it and never says it succeeded"
)

Key = Annotated[str, Field(pattern=r"^[A-Za-z0-9_]+(/[A-Za-z0-9_]+)+$")]


class ByWorkflow(Model):
    """The datamart is the one task of a workflow, and that is run instead of it."""

    by: Literal["workflow"]
    definition: int = Field(description="Id of the workflow.")


class ByNotification(Model):
    """TROCCO's HTTP notification tells the end; `etl-assets trocco listen` receives it."""

    by: Literal["notification"]


class ByProbe(Model):
    """A query on the warehouse tells that it is done. Failures show as a deadline that passes."""

    by: Literal["probe"]
    sql: str = Field(
        description="One boolean; may hold `{triggered_at}` (a timestamp in UTC) and the placeholders of variables."
    )


class ByNothing(Model):
    """Started and forgotten: an observation, never a materialisation."""

    by: Literal["nothing"]


Completion = Annotated[ByWorkflow | ByNotification | ByProbe | ByNothing, Field(discriminator="by")]


class Partitions(Model):
    """One run per day."""

    start: date = Field(description="The first day.")


class Arrivals(Model):
    """One run per file that arrives in a folder, or per so many of them."""

    path: str = Field(description="Pattern of the files: a local path or gs://bucket/prefix, with * and ** at its end.")
    batch: int = Field(1, ge=1, le=1000, description="Files per run at most.")
    quiet: Duration = Field(
        timedelta(seconds=10), description="A local file counts when it has not changed for so long."
    )
    at_once: int = Field(10, ge=1, description="Runs under way at most.")


class Job(Model):
    """A job of TROCCO, and the asset that it is."""

    name: Name = Field(description="Name of the asset: `trocco/<name>`.")
    description: str = Field("", description="One sentence for the UI.")
    kind: Kind = Field(description="What the definition is.")
    definition: int = Field(gt=0, description="Id of the definition, the number in the address of its page.")
    variables: dict[str, str] = Field(
        default_factory=dict, description='Custom variables: `"$name$": value`; values may hold placeholders.'
    )
    variables_by: Literal["loop", "defaults"] | None = Field(
        None,
        description="How a workflow gets its variables: its loop, or the defaults of its definitions, are changed.",
    )
    context_time: str | None = Field(
        None, description='Moment that date variables are expanded for, such as "{partition.date} 00:00:00".'
    )
    time_zone: Zone = Field("Asia/Tokyo", description="Zone of context_time and of the days.")
    memo: str | None = Field(None, description="Note on the run; datamarts only.")
    partitions: Partitions | None = Field(None, description="One run per day; without it the asset has no partitions.")
    arrivals: Arrivals | None = Field(None, description="One run per file that arrives.")
    deps: list[Key] = Field(default_factory=list, description="Upstream assets, such as `warehouse/backlog/issues`.")
    produces: list[Key] = Field(
        default_factory=list, description="Tables that the job writes: assets downstream, materialised with it."
    )
    then: list[Key] = Field(
        default_factory=list, description="Assets to materialise after it, where it is not run by a Dagster run."
    )
    wait: Literal["step", "sensor"] = Field(
        "step", description="step: the run waits for the end. sensor: it ends at once and a sensor waits for all jobs."
    )
    completion: Completion | None = Field(None, description="How the end of a datamart is known.")
    queue_deadline: Duration = Field(timedelta(hours=6), description="Longest time in the queue.")
    run_deadline: Duration = Field(timedelta(hours=6), description="Longest time from leaving the queue to the end.")
    settle: Duration = Field(
        timedelta(minutes=2), description="After a lost answer: how long a job may take to appear in the history."
    )
    error_grace: Duration = Field(
        timedelta(seconds=70), description="A workflow's `error` counts after so long: it may yet be run again."
    )
    on_skipped: Literal["fail", "retrigger"] = Field(
        "fail", description="When TROCCO skipped the run because another is active: fail, or start it again later."
    )
    on_cancel: Literal["leave", "hand_over"] = Field(
        "leave", description="When the Dagster run is cancelled: leave the job alone, or let the sensor report its end."
    )
    started: Literal["here", "elsewhere"] = Field(
        "here", description="elsewhere: TROCCO's own schedule starts it; the asset shows its runs."
    )
    cron: str | None = Field(
        None, description="Schedule of the asset, delivered stopped; a daily asset runs yesterday."
    )
    demo: bool = Field(False, description="Runs against the simulators only.")

    @property
    def runs(self) -> tuple[Kind, int]:
        """(kind, id) of the definition that is really run."""
        if isinstance(self.completion, ByWorkflow):
            return "workflow", self.completion.definition
        return self.kind, self.definition

    @model_validator(mode="after")
    def _consistent(self) -> "Job":
        _check_variables(self)
        if self.kind == "datamart" and self.completion is None and self.started == "here":
            raise ValueError(f"completion: {NO_COMPLETION}")
        if self.kind != "datamart" and (self.completion or self.memo):
            raise ValueError("completion and memo: for datamarts only")
        if self.started == "elsewhere" and self.kind != "transfer":
            raise ValueError("started: the API lists runs of transfers only")
        if self.arrivals and (self.partitions or self.deps or self.wait == "step" or self.started == "elsewhere"):
            raise ValueError("arrivals: files start the job, so set wait: sensor, and no partitions and no deps")
        if isinstance(self.completion, ByNothing) and (self.wait == "sensor" or self.produces):
            raise ValueError("completion: a job whose end is never known is not waited for and produces nothing")
        known = [*(_DAY_PLACEHOLDERS if self.partitions else ()), *(_FILE_PLACEHOLDERS if self.arrivals else ())]
        texts = [*self.variables.values(), self.context_time or ""]
        if isinstance(self.completion, ByProbe):
            texts.append(self.completion.sql.replace("{triggered_at}", ""))
        for found in (match for text in texts for match in _PLACEHOLDER.finditer(text)):
            if found[1] not in known:
                raise ValueError(f"placeholder {found[0]} means nothing here; known: {', '.join(known) or 'none'}")
        return self


def _check_variables(job: Job) -> None:
    for name in job.variables:
        if not _VARIABLE.fullmatch(name):
            raise ValueError(f"variables: {name!r} is not written with its dollar signs, such as $day$")
    if len(job.variables) > _MOST_VARIABLES:
        raise ValueError(f"variables: TROCCO takes {_MOST_VARIABLES} at most")
    kind, _ = job.runs
    if kind == "workflow" and job.variables and job.variables_by is None:
        raise ValueError(f"variables: {NO_VARIABLES}")
    if job.variables_by and (job.kind != "workflow" or not job.variables):
        raise ValueError("variables_by: for workflows with variables only")
    if job.variables_by and job.arrivals and job.arrivals.at_once > 1:
        raise ValueError("arrivals.at_once: runs that change the definition go one after the other; set it to 1")


class JobFile(Model):
    """A file of jobs."""

    jobs: list[Job] = Field(min_length=1, description="The jobs.")

    @model_validator(mode="after")
    def _named_once(self) -> "JobFile":
        names = [job.name for job in self.jobs]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"jobs: two jobs are named {name!r}")
        return self


@dataclass(frozen=True)
class Asked:
    """What one run of a job is asked to do: the values sent to TROCCO, filled from the partition or the files."""

    variables: Mapping[str, str]
    context_time: str | None
    time_zone: str
    memo: str | None

    @classmethod
    def of(cls, job: Job, partition: str = "", files: tuple[str, ...] = ()) -> "Asked":
        """The values for a partition (`YYYY-MM-DD`; empty without one), or for files that arrived."""
        return cls(
            variables={name: filled(text, job, partition, files) for name, text in job.variables.items()},
            context_time=filled(job.context_time, job, partition, files) if job.context_time else None,
            time_zone=job.time_zone,
            memo=job.memo,
        )


def filled(text: str, job: Job, partition: str, files: tuple[str, ...] = ()) -> str:
    """The text with its placeholders replaced; `{partition.date:%Y%m%d}` writes a day in another form."""

    def value(match: re.Match[str]) -> str:
        if match[1].startswith("file"):
            names = files if match[1] == "file" else tuple(file.rsplit("/", 1)[-1] for file in files)
            return ",".join(names)
        if match[1] == "partition" and not match[2]:
            return partition
        day = date.fromisoformat(partition) + timedelta(days=match[1] == "partition.next")
        return datetime.combine(day, time()).strftime(match[2] or "%Y-%m-%d")

    return _PLACEHOLDER.sub(value, text) if job.partitions or job.arrivals else text


def load_jobs(extra: Path | None = None) -> dict[str, Job]:
    """Every job by name: the packaged ones, and those of the folder `trocco` in `extra`, which replace equal names.

    Raises StreamFileError when a file is wrong.
    """
    return declarations.declared("job", FOLDER, extra, lambda path: [(job.name, job) for job in read_jobs(path)])


def read_jobs(path: Path) -> list[Job]:
    """One file, validated. Raises StreamFileError that names file, job and key."""
    return declarations.read(path, JobFile, begins_with="jobs").jobs
