"""A run of a push, from its rows to its report.

What to put here: reading the rows, and noting in the ledger what the target should hold. What to keep out: the
dealings with the target (send.py).
"""

import logging
import shutil
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from etl_assets.errors import FinalError
from etl_assets.locks import held
from etl_assets.pipeline import Pipeline
from etl_assets.push.landed import landing
from etl_assets.push.ledger import Entry, Ledger
from etl_assets.push.mapping import Wanted
from etl_assets.push.rows import Readable, records, selects
from etl_assets.push.send import Tally, session
from etl_assets.push.spec import Push, Target
from etl_assets.settings import Settings

log = logging.getLogger(__name__)

_PROBLEMS_SHOWN = 10


@dataclass
class Pushed(Tally):
    """What a run did. `states` are all records of the push by state, `problems` the first that need attention."""

    seconds: float = 0.0
    states: dict[str, int] = field(default_factory=dict)
    problems: list[Entry] = field(default_factory=list)

    @property
    def unchanged(self) -> int:
        """Records that the target had already as they should be."""
        return self.states.get("sent", 0) - self.written

    @property
    def dead(self) -> int:
        """Records that will not be sent again by themselves: dead letters, and those of which nothing is known."""
        return self.states.get("dead", 0) + self.states.get("unknown", 0)


def ledger_file(settings: Settings) -> Path:
    """Where the ledger of all pushes is."""
    return settings.data_dir / "push" / "ledger.sqlite"


def push(pipeline: Pipeline, target: Target, declared: Push, run_id: str) -> Pushed:
    """Bring the target up to date with the rows of the push, or say why not.

    Raises EtlError when the target as a whole could not be reached or used; all that was done until then is noted,
    and a further run goes on from there. Records that the target refuses do not raise: see `Pushed.states`.
    """
    started, done = time.monotonic(), Pushed()
    file = ledger_file(pipeline.settings)
    lock = file.with_name(f"{target.name}.{declared.name}.lock")
    patience = pipeline.settings.timeouts.total
    with (
        held(
            lock,
            started + patience,
            lambda who: f"another run of this push is still going on after {patience:.0f} s: {who}",
        ),
        closing(Ledger(file, target.name, declared.name, run_id)) as ledger,
    ):
        try:
            if declared.mode == "land_only":
                done.where, done.written = _land(pipeline, target, declared, ledger)
            else:
                with session(target, declared, ledger=ledger, settings=pipeline.settings, tally=done) as dealings:
                    dealings.decide_doubts()
                    _plan(pipeline, target, declared, ledger)
                    dealings.send()
        finally:
            done.states, done.problems = ledger.counts(), ledger.problems(_PROBLEMS_SHOWN)
            done.seconds = time.monotonic() - started
            _log(target, declared, done)
    return done


def _log(target: Target, declared: Push, done: Pushed) -> None:
    states = ", ".join(f"{count} {state}" for state, count in sorted(done.states.items())) or "none"
    log.info(
        "push/%s/%s: %d written, %d deleted, %d unchanged, %d refused, %.1f s; all records: %s",
        *(target.name, declared.name, done.written, done.deleted, done.unchanged, done.refused, done.seconds, states),
    )


def _plan(pipeline: Pipeline, target: Target, declared: Push, ledger: Ledger) -> None:
    """Note in the ledger what the target should hold. Raises FinalError rather than have most of it deleted."""
    for batch in _wanted(pipeline, target, declared):
        ledger.plan(batch)
    delete = declared.removed.action == "delete"
    gone, all_ = ledger.gone()
    if delete and gone > all_ * declared.removed.at_most:
        raise FinalError(
            f"{gone} of {all_} records would be deleted at the target, more than `removed.at_most` allows; "
            "look at the rows, or raise it for a run"
        )
    ledger.remove(delete=delete)


def _land(pipeline: Pipeline, target: Target, declared: Push, ledger: Ledger) -> tuple[str, int]:
    """The documents of all rows as files in the landing, and nothing else: where, and how many are new or changed."""
    with landing(pipeline.landing, target, declared, ledger.run_id) as landed:
        for batch in _wanted(pipeline, target, declared):
            ledger.plan(batch)
            landed.add([one.document for one in batch if one.document is not None])
    return landed.uri, ledger.landed()


def _wanted(pipeline: Pipeline, target: Target, declared: Push) -> Iterator[list[Wanted]]:
    """The records of all rows, in batches, read from copies that are gone afterwards."""
    settings = pipeline.settings
    folder = settings.data_dir / "push" / f"{target.name}.{declared.name}.rows"
    shutil.rmtree(folder, ignore_errors=True)  # of a killed run
    folder.mkdir(parents=True)
    spool = folder / "rows.duckdb"
    try:
        warehouse: Readable = pipeline.warehouse
        if read := selects(declared):
            warehouse.spool(read, spool)
        clean, memory_mb = _clean(pipeline, declared), settings.duckdb_memory_mb
        yield from records(declared, target.timezone, spool=spool, clean=clean, memory_mb=memory_mb)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _clean(pipeline: Pipeline, declared: Push) -> Path | None:
    """The file with the clean rows, where these are pushed."""
    if declared.origin.clean is None:
        return None
    source_name, stream_name = declared.origin.clean.split(".")
    try:
        source = pipeline.sources[source_name]
        stream = source.stream(stream_name)
    except KeyError:
        raise FinalError(f"from.clean: there is no stream {declared.origin.clean}") from None
    if stream.window:
        raise FinalError(f"from.clean: {declared.origin.clean} comes by day; push from its table")
    folder = pipeline.folder("clean", source, stream, None)
    (rows,) = [file for file in folder.files(folder.manifest()) if file.name.startswith("rows-")]
    return rows
