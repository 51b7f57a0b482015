"""Reconciliation: compare days of the tables with what the API has now, and load again those that differ.

This is the second look that catches whatever a first load could not see: rows that the vendor changed late,
inserted with an old date, or deleted.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta

from etl_assets.extract import Api
from etl_assets.pipeline import Pipeline
from etl_assets.spec import Source, Stream
from etl_assets.warehouse.protocol import Difference
from etl_assets.window import Window

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Reconciled:
    """One day of one stream: how the table differed before; it does not any more."""

    stream: str
    day: date
    difference: Difference


def reconcile(pipeline: Pipeline, api: Api, first: date, last: date, run_id: str) -> Iterator[Reconciled]:
    """Reconcile every daily stream of the source for the days `last` to `first`, both included.

    Later days come first: a row that moved to an earlier day is taken out of the later one before it is missed there.
    Raises EtlError at the first day that cannot be read; those before it are already reconciled.
    """
    source = api.source
    for stream in source.streams:
        if stream.window is None or stream.of:
            continue
        day = last
        while day >= first:
            yield _reconciled(pipeline, api, stream, Window.of_day(day, source.timezone), run_id)
            day -= timedelta(days=1)


def _reconciled(pipeline: Pipeline, api: Api, stream: Stream, day: Window, run_id: str) -> Reconciled:
    source = api.source
    pipeline.extract(api, stream, day, run_id)
    pipeline.clean(source, stream, day, run_id)
    difference = pipeline.compare(source, stream, day)
    if difference:
        log.info("reconcile: %s/%s %s differs: %s", source.source, stream.name, day.day, difference)
        pipeline.load(source, stream, day, run_id)
        for child in children(source, stream):
            pipeline.clean(source, child, day, run_id)
            pipeline.load(source, child, day, run_id)
    return Reconciled(stream.name, day.day, difference)


def children(source: Source, stream: Stream) -> list[Stream]:
    """The child tables of a stream."""
    return [child for child in source.streams if child.of and child.of.stream == stream.name]
