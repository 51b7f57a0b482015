"""A stream file as a whole: its streams, and what they say of each other."""

import functools
import hashlib
import importlib.metadata
from collections.abc import Iterator
from datetime import date
from typing import Annotated, Any

from pydantic import Field, model_validator

from etl_assets.spec.paging import PAGING_VALUES
from etl_assets.spec.service import Service
from etl_assets.spec.stream import Children, Each, Stream
from etl_assets.spec.words import BUILT_IN, Name, Zone, placeholders


class Source(Service):
    """A stream file: one source and its streams."""

    source: Name = Field(description="Name of the source: asset group, schema, prefix of its variables.")
    timezone: Zone = Field(description="IANA zone of the source's days and of times without an offset.")
    start: date | None = Field(None, description="First day of the daily streams.")
    reload_days: int = Field(
        7, ge=1, description="Days that each daily run loads again, for late edits; `<SOURCE>_RELOAD_DAYS` replaces it."
    )
    check: Name | None = Field(None, description="Stream whose first page `etl-assets check` asks for.")
    defaults: dict[str, Any] = Field(
        default_factory=dict,
        description="Keys of every stream that does not set them itself; `columns`, `params` and `derived` are joined.",
    )
    streams: Annotated[list[Stream], Field(min_length=1)] = Field(description="The streams.")

    @model_validator(mode="after")
    def _consistent(self) -> "Source":
        names = [stream.name for stream in self.streams]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"streams: two streams are named {name!r}")
        if self.start is None and any(stream.window for stream in self.streams):
            raise ValueError("start: daily streams need their first day")
        if self.check and self.check not in [stream.name for stream in self.streams if not stream.window]:
            raise ValueError(f"check: there is no stream {self.check!r} that can be asked without a day")
        for stream in self.streams:
            _check_stream(self, stream)
        return self

    def owner(self, stream: Stream) -> tuple[Stream, dict[str, str]] | None:
        """The daily stream with whose rows those of `stream` come and go, and the columns taken from it.

        Lines of an order or comments of an issue are the ones that its newest version has.
        """
        if stream.of:
            return self.stream(stream.of.stream), stream.of.stamp
        if stream.each and self.stream(stream.each.stream).window:
            return self.stream(stream.each.stream), stream.each.stamp
        return None

    def stream(self, name: str) -> Stream:
        """The stream of that name; KeyError without one."""
        return {stream.name: stream for stream in self.streams}[name]

    @property
    def name(self) -> str:
        """The source's name."""
        return self.source


def code_version(source: Source, stream: Stream) -> str:
    """Changes whenever the declaration of the stream does: package version and a digest."""
    declared = f"{source.timezone}{source.base_url}{stream.model_dump_json(exclude={'query'})}"
    return f"{_package_version()}+{hashlib.sha256(declared.encode()).hexdigest()[:12]}"


@functools.cache
def _package_version() -> str:
    return importlib.metadata.version("etl-assets")


def _check_stream(source: Source, stream: Stream) -> None:
    """References out of a stream: to settings, to its parent, to rate buckets."""
    where = f"streams.{stream.name}"
    if stream.bucket != "default" and stream.bucket not in source.limits.rates:
        raise ValueError(f"{where}.bucket: {stream.bucket!r} is not under limits.rates")
    allowed = {"since", "until"} | BUILT_IN | PAGING_VALUES[stream.paging.type]
    allowed |= set(source.settings) | set(stream.values)
    for role, name in (("deletes", stream.deletes and stream.deletes.stream), ("sweep", stream.sweep)):
        if name and name not in {other.name for other in source.streams if other.mode == "snapshot"}:
            raise ValueError(f"{where}.{role}: there is no snapshot stream {name!r}")
    if stream.of:
        _check_children(source, stream, stream.of)
    for stamp in stream.stamped():
        if stamp not in {name for name, _, _ in stream.field_columns()}:
            raise ValueError(f"{where}: the stamped column {stamp!r} is not under columns")
    if stream.each:
        for name, role in _parents(stream.each):
            try:
                parent = source.stream(name)
            except KeyError:
                raise ValueError(f"{where}.{role}: there is no stream {name!r}") from None
            if parent.of or (parent.window and not stream.window) or (parent.window and role != "each.stream"):
                raise ValueError(f"{where}.{role}: {name!r} is not a plain list")
        _refuse_circle(source, stream)
        _check_owner(source, stream, stream.each)
        columns = {name for name, _, _ in source.stream(stream.each.stream).field_columns()}
        allowed |= {f"each.{name}" for name in columns}
        for stamp, column in stream.each.stamp.items():
            if column not in columns:
                raise ValueError(f"{where}.each.stamp.{stamp}: {stream.each.stream} has no column {column!r}")
        for name, lookup in stream.each.lookup.items():
            for role, column in (("key", lookup.key), ("value", lookup.value)):
                if column not in {field for field, _, _ in source.stream(lookup.stream).field_columns()}:
                    raise ValueError(f"{where}.each.lookup.{name}.{role}: {lookup.stream} has no column {column!r}")
    for column, listed in stream.query.closed.items():
        other, _, listed_column = listed.partition(".")
        known_lists = {one.name: one for one in source.streams if not one.window and not one.of}
        if other not in known_lists or listed_column not in dict(known_lists[other].table_columns()):
            raise ValueError(f"{where}.query.closed.{column}: there is no {listed!r} among the plain lists")
    for name in placeholders(stream.reading):
        if name not in source.settings or source.settings[name].secret:
            raise ValueError(f"{where}.reading: {{{name}}} is not a setting that may be shown")
    for name in sorted(stream.placeholders):
        if name not in allowed:
            raise ValueError(f"{where}: placeholder {{{name}}} means nothing here; known: {sorted(allowed)}")
    if stream.window is None and {"since", "until"} & stream.placeholders:
        raise ValueError(f"{where}: {{since}} and {{until}} need a window")


def _refuse_circle(source: Source, stream: Stream) -> None:
    above, seen = stream, [stream.name]
    while above.each:
        above = source.stream(above.each.stream)
        if above.name in seen:
            raise ValueError(f"streams.{stream.name}.each.stream: {above.name!r} is asked for by itself")
        seen.append(above.name)


def _check_owner(source: Source, stream: Stream, each: Each) -> None:
    """Rows asked for per row of a daily parent belong to the day and version of that row."""
    parent = source.stream(each.stream)
    if not parent.window or not stream.window:
        return
    where = f"streams.{stream.name}.each.stamp"
    for name in [*parent.key, parent.window.column]:
        if name not in each.stamp.values():
            raise ValueError(f"{where}: {name!r} of {each.stream} is missing")
    if each.stamp.get(stream.window.column) != parent.window.column:
        raise ValueError(f"{where}: {stream.window.column!r} must be {parent.window.column!r} of {each.stream}")


def _check_children(source: Source, stream: Stream, of: Children) -> None:
    where = f"streams.{stream.name}.of"
    try:
        parent = source.stream(of.stream)
    except KeyError:
        raise ValueError(f"{where}.stream: there is no stream {of.stream!r}") from None
    types = dict(parent.table_columns())
    if parent.of:
        raise ValueError(f"{where}.stream: {of.stream!r} is itself a child table")
    if types.get(of.rows) != "JSON":
        raise ValueError(f"{where}.rows: {of.stream} has no json column {of.rows!r}")
    for column, taken in of.stamp.items():
        if taken not in types:
            raise ValueError(f"{where}.stamp.{column}: {of.stream} has no column {taken!r}")
    needed = [*parent.key, *([parent.window.column] if parent.window else [])]
    for name in needed:
        if name not in of.stamp.values():
            raise ValueError(f"{where}.stamp: {name!r} of {of.stream} is missing")
    if (parent.window is None) != (stream.window is None) or parent.mode != stream.mode:
        raise ValueError(f"{where}: {stream.name} must have a window and be loaded as {of.stream} is")
    if stream.window and parent.window and of.stamp.get(stream.window.column) != parent.window.column:
        raise ValueError(f"{where}.stamp: {stream.window.column!r} must be {parent.window.column!r} of {of.stream}")


def _parents(each: Each) -> Iterator[tuple[str, str]]:
    yield each.stream, "each.stream"
    for name, lookup in each.lookup.items():
        yield lookup.stream, f"each.lookup.{name}.stream"
