"""Extract: from a stream's declaration and a window to raw pages in the landing.

The requests of a stream form a line of units: one per slice of the window and parent row, each read page by
page. Units are fetched in parallel as far as the source permits, and written in order.
"""

import itertools
import json
import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

import msgspec

from etl_assets import answers, paginate, redact, template, window, zones
from etl_assets.auth import authoriser
from etl_assets.client import Client, beginning
from etl_assets.errors import ApiError, PagingError, named
from etl_assets.landing import Folder, Manifest, raw_writer
from etl_assets.limiter import Limiter
from etl_assets.messages import Request, Sender
from etl_assets.paginate import Page, Pager, Rest, Values
from etl_assets.pool import Unit, in_order
from etl_assets.settings import Connection, Settings
from etl_assets.spec import Service, Source, Stream, code_version
from etl_assets.window import Window

log = logging.getLogger(__name__)

PROGRESS_SECONDS = 10.0


@dataclass(frozen=True)
class Api:
    """A source as it can be asked: its declaration, where it is, and the client."""

    source: Source
    connection: Connection
    client: Sender


def open_api(source: Source, connection: Connection, settings: Settings) -> Api:
    """The API of a source with its client."""
    return Api(source, connection, open_client(source, connection, settings))


def open_client(service: Service, connection: Connection, settings: Settings) -> Client:
    """A client of the service, limited together with every other process of `ETL_DATA_DIR`."""
    secrets = {name: value for name, value in connection.values.items() if service.settings[name].secret}
    credential = json.dumps([service.name, connection.base_url, secrets], sort_keys=True)
    rates = service.limits.rates
    return Client(
        connection.base_url,
        authoriser=authoriser(service.auth, connection.values, settings.data_dir / "tokens"),
        limiter=Limiter(settings.data_dir / "limits", credential, parallel=connection.parallel, rates=rates),
        timeouts=settings.timeouts,
        retry_base_seconds=settings.retry_base_seconds,
        max_response_bytes=settings.max_response_bytes,
        connections=connection.parallel,
    )


@dataclass(frozen=True)
class Extracted:
    """What an extract did."""

    manifest: Manifest
    uri: str
    seconds: float
    requests: int
    waited_seconds: float


def extract(api: Api, stream: Stream, day: Window | None, folder: Folder, run_id: str) -> Extracted:
    """Read the stream's rows of the window (all of them without one) into the landing folder.

    Raises EtlError; then the folder still holds the set it held before.
    """
    started, requests_before, waited_before = time.monotonic(), api.client.requests, api.client.waited_seconds
    ways, started_at = _Ways(stream), datetime.now(UTC)
    with raw_writer(folder) as writer:
        progress = _Progress(f"{api.source.source}/{stream.name}")
        for page, unit in _pages(api, stream, day, ways):
            writer.add(redact.scrub_bytes(page.body), len(page.rows), page.stamp)
            progress.report(writer.pages, writer.rows, unit)
    manifest = Manifest(
        layer="raw",
        source=api.source.source,
        stream=stream.name,
        partition=folder.partition,
        window=(day.start.isoformat(), day.end.isoformat()) if day else None,
        rows=writer.rows,
        files=tuple(writer.files),
        run_id=run_id,
        code_version=code_version(api.source, stream),
        created_at=datetime.now(UTC).isoformat(),
        details={
            "request": {
                "method": stream.method,
                "path": ways.path,
                "params": ways.params,
                "body": stream.form if stream.json_body is None else stream.json_body,
            },
            "started_at": started_at.isoformat(),
            "rows_path": ways.rows,
            "one": stream.one,
            "pages": writer.pages,
            "largest_page_bytes": writer.largest_page,
        },
    )
    folder.seal(manifest)
    return Extracted(
        manifest=manifest,
        uri=folder.uri,
        seconds=time.monotonic() - started,
        requests=api.client.requests - requests_before,
        waited_seconds=api.client.waited_seconds - waited_before,
    )


class _Ways:
    """The ways to ask for a stream's rows, and the one in use.

    A way that is refused is not tried again, and one that was answered is not left: all pages have one shape.
    """

    def __init__(self, stream: Stream) -> None:
        self._ways = [(stream.path, stream.params, stream.rows)]
        self._ways += [(way.path, way.params, way.rows) for way in stream.alternatives]
        self._current = 0
        self._answered = False
        self._lock = threading.Lock()

    @property
    def current(self) -> int:
        return self._current

    @property
    def path(self) -> str:
        return self._ways[self._current][0]

    @property
    def params(self) -> dict[str, Any]:
        return self._ways[self._current][1]

    @property
    def rows(self) -> str:
        return self._ways[self._current][2]

    def next_after(self, refused: int) -> bool:
        """Go on to the next way, unless another unit already did; False when there is none left."""
        with self._lock:
            if self._current == refused and not self._answered and refused + 1 < len(self._ways):
                self._current = refused + 1
            return self._current != refused

    def keep(self, answered: int) -> bool:
        """Stay with this way; False when another unit was refused on it and went on to the next."""
        with self._lock:
            self._answered |= self._current == answered
            return self._current == answered


@dataclass(frozen=True)
class _Asked:
    """The values that a unit's requests are filled with, and what they stamp on its rows."""

    values: Values
    stamp: dict[str, Any]
    number: int = 0
    of: int = 1

    def place(self, page: int) -> str:
        """Where a page stands among those of the stream."""
        return f"page {page} of list {self.number + 1} of {self.of}" if self.of > 1 else f"page {page}"


def _pages(api: Api, stream: Stream, day: Window | None, ways: _Ways) -> Iterator[tuple[Page, _Asked]]:
    count, asked = _units(api, stream, day)
    units = (Unit(_reader(api, stream, ways, unit)) for unit in asked)
    return in_order(units, min(api.connection.parallel, max(count, _parallel_pages(api, stream))))


def ask(api: Api, stream: Stream, values: Mapping[str, Any], stamp: Mapping[str, Any]) -> Iterator[Page]:
    """The pages of one list, each asked for when it is taken. `values` fill the placeholders besides the settings."""
    asked = _Asked({**api.connection.values, **values}, dict(stamp))
    unit = Unit(_reader(api, stream, _Ways(stream), asked))
    for part in itertools.chain([unit], unit.following):  # the first part, once read, knows what follows
        for page, _ in part.work(part):
            yield page


def _parallel_pages(api: Api, stream: Stream) -> int:
    return api.connection.parallel if getattr(stream.paging, "total", None) else 1


def _units(api: Api, stream: Stream, day: Window | None) -> tuple[int, Iterator[_Asked]]:
    """One unit per slice of the window and parent row: how many, and each when it is needed."""
    windows: list[Values] = [{}]
    if day and stream.window:
        spec = stream.window
        wide = day.widened(spec.widen)
        windows = [
            {
                "since": window.since(part, spec.format),
                "until": window.until(part, spec.format, inclusive=spec.inclusive),
            }
            for part in wide.slices(spec.longest)
        ]
    parents = _parents(api, stream, day)
    count = len(windows) * len(parents)
    return count, (
        _Asked({**api.connection.values, **times, **parent}, stamp, number, count)
        for number, (times, (parent, stamp)) in enumerate(itertools.product(windows, parents))
    )


def _parents(api: Api, stream: Stream, day: Window | None) -> list[tuple[Values, dict[str, Any]]]:
    """(placeholder values, stamp) of every parent row; one empty pair without fan-out."""
    if stream.each is None:
        return [({}, {})]
    parent = api.source.stream(stream.each.stream)
    wanted = {*_asked_by(stream), *stream.each.stamp.values(), parent.key[0]}
    return fan_out(api, stream, _rows(api, parent, day if parent.window else None, wanted))


def _asked_by(stream: Stream) -> set[str]:
    """Columns of the parent row that the requests of a stream name."""
    return {name.removeprefix("each.") for name in stream.placeholders if name.startswith("each.")}


def fan_out(api: Api, stream: Stream, rows: Iterable[Mapping[str, Any]]) -> list[tuple[Values, dict[str, Any]]]:
    """(placeholder values, stamp) of each of the parent rows, as `row_values` gives them."""
    assert stream.each is not None
    (key, *_) = api.source.stream(stream.each.stream).key
    lookups = {name: _lookup(api, spec) for name, spec in stream.each.lookup.items()}
    asked_by = _asked_by(stream)
    parents = []
    for row in rows:
        stamp = {column: row[name] for column, name in stream.each.stamp.items()}
        stamp |= {column: found.get(row[key]) for column, found in lookups.items()}
        if stream.zone in stamp:
            stamp[stream.zone] = zones.iana(stamp[stream.zone] or api.source.timezone)
        parents.append(({f"each.{name}": row[name] for name in asked_by}, stamp))
    return parents


def _lookup(api: Api, spec: Any) -> dict[Any, Any]:
    try:
        rows = _rows(api, api.source.stream(spec.stream), None, {spec.key, spec.value})
    except ApiError as error:
        if spec.optional and error.status in (403, 404):
            log.warning("going without %s: %s", spec.stream, error)
            return {}
        raise
    return {row[spec.key]: row[spec.value] for row in rows}


def _rows(api: Api, stream: Stream, day: Window | None, wanted: set[str]) -> list[dict[str, Any]]:
    """The rows of a parent list, one per key: the columns wanted, in the types of the JSON.

    Of a daily list those of the day; a row whose time cannot be read here is kept, and cut by the clean step.
    """
    rows = {}
    with named(f"reading {stream.name} for it"):
        for page, _ in _pages(api, stream, day, _Ways(stream)):
            for raw in page.rows:
                row = row_values(stream, raw, page.stamp)
                if day is None or stream.window is None or _may_lie_in(day, row[stream.window.column]):
                    rows[tuple(str(row[name]) for name in stream.key)] = {name: row[name] for name in wanted}
    return list(rows.values())


def row_values(stream: Stream, raw: bytes | msgspec.Raw, stamp: Mapping[str, Any]) -> dict[str, Any]:
    """A row by column name, in the types of the JSON. Raises ApiError for one without its key."""
    record = msgspec.json.decode(raw)
    row = {name: _first(record, paths) for name, paths, _ in stream.field_columns()} | dict(stamp)
    if row[stream.key[0]] is None:
        raise ApiError(f"a row has no {stream.key[0]}", status=200)
    return row


def _may_lie_in(day: Window, value: Any) -> bool:
    try:
        instant = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return True
    return instant.tzinfo is None or day.start <= instant < day.end


def _identity(stream: Stream) -> Callable[[msgspec.Raw], Any]:
    """The key of an undecoded row, as far as it stands in the row."""
    paths = [paths for name, paths, _ in stream.field_columns() if name in stream.key and name not in stream.stamped()]

    def key(row: msgspec.Raw) -> Any:
        record = msgspec.json.decode(row)
        return tuple(str(_first(record, places)) for places in paths)

    return key


def _first(record: Any, paths: list[str]) -> Any:
    return next((value for path in paths if (value := _at(record, path)) is not None), None)


def _at(record: Any, path: str) -> Any:
    for step in path.split("."):
        record = record.get(step) if isinstance(record, dict) else None
    return record


def _reader(
    api: Api, stream: Stream, ways: _Ways, asked: _Asked
) -> Callable[[Unit[tuple[Page, _Asked]]], Iterator[tuple[Page, _Asked]]]:
    """The work of one unit: its pages in order; what can be read in parallel becomes units behind it."""

    def read(unit: Unit[tuple[Page, _Asked]]) -> Iterator[tuple[Page, _Asked]]:
        pager: Pager = paginate.pager(stream.paging, _identity(stream))
        request: Values | Rest | None = next(pager)
        for number in itertools.count(1):
            if request is None:
                return
            if isinstance(request, Rest):
                unit.following.extend(_rest(api, stream, ways, asked, request))
                return
            with named(asked.place(number)):
                page = _page(api, stream, ways, asked, request)
            yield page, asked
            with named(asked.place(number)):
                request = _advance(pager, page)

    return read


def _rest(api: Api, stream: Stream, ways: _Ways, asked: _Asked, rest: Rest) -> Iterator[Unit[tuple[Page, _Asked]]]:
    counted: list[int] = []

    def reader(values: Values, number: int) -> Callable[[Any], Iterator[tuple[Page, _Asked]]]:
        # Of a single list that told its total, the pages are the parts by which its progress is known.
        part = replace(asked, number=number - 1, of=len(rest.requests) + 1) if asked.of == 1 else asked

        def read(unit: Any) -> Iterator[tuple[Page, _Asked]]:
            with named(asked.place(number)):
                page = _page(api, stream, ways, asked, values)
                paginate.refuse_repetition(page, rest.first)
                counted.append(len(page.rows))
                if len(counted) == len(rest.requests):
                    paginate.check_total(rest, sum(counted))
            yield page, part

        return read

    if not rest.requests:
        with named(asked.place(1)):
            paginate.check_total(rest, 0)
    for number, values in enumerate(rest.requests, 2):
        yield Unit(reader(values, number))


def _advance(pager: Pager, page: Page) -> Values | Rest | None:
    try:
        return pager.send(page)
    except StopIteration:
        return None
    except PagingError as error:  # which may show values of the answer
        raise PagingError(redact.scrub(str(error))) from None


def _page(api: Api, stream: Stream, ways: _Ways, asked: _Asked, values: Values) -> Page:
    while True:
        way = ways.current
        request = _request(api, stream, ways, {**stream.values, **asked.values, **values, "uuid": str(uuid.uuid4())})
        try:
            answer = api.client.send(request)
        except ApiError as error:
            if error.status not in (403, 404) or not ways.next_after(way):
                raise
            log.warning("%s; asking another way: %s", error, ways.path)
        else:
            if ways.keep(way):
                break
    try:
        rows = [msgspec.Raw(answer.body)] if stream.one else answers.rows_at(answer.body, ways.rows)
    except answers.NotJson as error:
        said = f"{request.label}: {redact.scrub(str(error))}: {beginning(answer.body)}"
        raise ApiError(redact.scrub(said), status=answer.status) from None
    return Page(answer.body, rows, asked.stamp)


def _request(api: Api, stream: Stream, ways: _Ways, values: Values) -> Request:
    """The request, labelled by its path template and its parameters: enough to find it, and no secret."""
    params = template.params(ways.params, values)
    headers, body = {}, None
    if stream.json_body is not None:
        headers["Content-Type"] = "application/json"
        body = msgspec.json.encode(template.filled(stream.json_body, values))
    elif stream.form is not None:
        headers["Content-Type"] = "application/x-www-form-urlencoded; charset=UTF-8"
        body = urlencode(template.params(stream.form, values)).encode()
    shown = " ".join(f"{name}={value}" for name, value in params)
    return Request(
        method=stream.method,
        path=template.path(ways.path, values),
        label=redact.scrub(f"{stream.method} {ways.path} {shown}".strip()),
        params=params,
        headers=headers,
        body=body,
        bucket=stream.bucket,
        errors=stream.errors or api.source.errors,
    )


@dataclass
class _Progress:
    """A log line at a steady pace while a long extract runs."""

    name: str
    started: float = field(default_factory=time.monotonic)
    last: float = field(default_factory=time.monotonic)

    def report(self, pages: int, rows: int, unit: _Asked) -> None:
        now = time.monotonic()
        if now - self.last < PROGRESS_SECONDS:
            return
        self.last = now
        elapsed = now - self.started
        done = unit.number + 1
        eta = f", about {elapsed / done * (unit.of - done):.0f} s left" if unit.of > 1 else ""
        log.info(
            "%s: %d pages, %d rows, %.0f rows/s, part %d of %d%s",
            *(self.name, pages, rows, rows / elapsed, done, unit.of, eta),
        )


def preview(api: Api, stream: Stream, day: Window | None) -> Iterator[Request]:
    """The first request of each slice of the window, before it is authorised; nothing is sent.

    Where the request is made once per row of a parent, the values of the parent are left as placeholders.
    """
    alone = stream.model_copy(update={"each": None})
    first = next(paginate.pager(stream.paging, _identity(stream)))
    assert not isinstance(first, Rest)  # the first page is always asked for alone
    _, units = _units(api, alone, day)
    for asked in units:
        yield _request(api, stream, _Ways(stream), _Unfilled({**stream.values, **asked.values, **first, "uuid": "…"}))


class _Unfilled(dict[str, Any]):
    """Values of which those of a parent row, not known yet, stand for themselves."""

    def __missing__(self, name: str) -> str:
        return f"{{{name}}}"


def check_access(api: Api) -> None:
    """Ask for the first page of one stream, if the source names one. Raises EtlError when it is refused."""
    if api.source.check:
        stream = api.source.stream(api.source.check)
        next(_pages(api, stream, None, _Ways(stream)), None)
