"""Replay: clean and load again what lies in the landing, without asking the API.

For a changed declaration: the raw files are what the API said, whatever the columns were then.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date

from etl_assets.errors import FinalError
from etl_assets.landing import Manifest, days
from etl_assets.pipeline import Pipeline
from etl_assets.reconcile import children
from etl_assets.spec import Source, Stream, code_version
from etl_assets.window import Window


@dataclass(frozen=True)
class Planned:
    """A raw set that can be replayed. `outdated` says whether it was read under another declaration."""

    source: Source
    stream: Stream
    window: Window | None
    raw: Manifest
    outdated: bool

    @property
    def day(self) -> date | None:
        """The partition; None for a snapshot."""
        return self.window.day if self.window else None


@dataclass(frozen=True)
class Replayed:
    """A table that was loaded from it: the stream's own, or one of its child tables."""

    table: str
    day: date | None
    rows: int
    quarantined: int
    changed: bool


def plan(
    pipeline: Pipeline, source: Source, stream: Stream, first: date | None = None, last: date | None = None
) -> list[Planned]:
    """The raw sets in force, oldest first: of a snapshot its one, else of the days `first` to `last` as far as given.

    A child table is replayed with its parent. Raises FinalError when there is nothing to replay, LandingError when a
    set of files is damaged.
    """
    if stream.of:
        stream = source.stream(stream.of.stream)
    name = f"{source.source}/{stream.name}"
    if stream.window is None:
        if first or last:
            raise FinalError(f"{name} is a snapshot: it has no days")
        windows: list[Window | None] = [None]
    else:
        landed = days(pipeline.landing, "raw", source.source, stream.name)
        chosen = [day for day in landed if (first or day) <= day <= (last or day)]
        windows = [Window.of_day(day, source.timezone) for day in chosen]
        if not chosen:
            held = f"from {landed[0]} to {landed[-1]}" if landed else "none"
            raise FinalError(f"{name}: no raw files of these days; there are {held}. Materialise the raw asset")
    return [_planned(pipeline, source, stream, window) for window in windows]


def replay(pipeline: Pipeline, planned: Planned, run_id: str) -> Iterator[Replayed]:
    """Clean and load one raw set, and its child tables after it.

    Raises EtlError as the steps do; the table is then as it was.
    """
    source, day = planned.source, planned.window
    for stream in (planned.stream, *children(source, planned.stream)):
        cleaned = pipeline.clean(source, stream, day, run_id)
        loaded = pipeline.load(source, stream, day, run_id)
        yield Replayed(loaded.table, planned.day, loaded.rows, cleaned.rows_quarantined, loaded.changed)


def _planned(pipeline: Pipeline, source: Source, stream: Stream, window: Window | None) -> Planned:
    raw = pipeline.folder("raw", source, stream, window).manifest()
    return Planned(source, stream, window, raw, raw.code_version != code_version(source, stream))
