"""One statement while it runs: what it may cost, what it has asked, and what went wrong.

Every request of a statement goes through `Metered`, where budget and cancellation are checked.
"""

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from etl_assets.extract import Api
from etl_assets.messages import Answer, Request, Sender
from etl_assets.paginate import Page
from etl_assets.spec import Source
from etl_assets.sql import errors
from etl_assets.sql.errors import OperationalError
from etl_assets.sql.pushdown import Sorted, Wanted

Progress = Callable[["ScanLog"], None]
_MISFITS_SHOWN = 3
_READ = Page(b"", [], {})


@dataclass
class ScanLog:
    """What one scan asked and got. `pushed` is in the words of the request, `local` what the engine filters."""

    table: str
    columns: tuple[str, ...]
    pushed: tuple[str, ...] = ()
    local: str = ""
    exact: bool = False
    estimate: str = ""
    requests: int = 0
    waited_seconds: float = 0.0
    rows_fetched: int = 0
    rows_used: int = 0


@dataclass(frozen=True)
class Limits:
    """What a statement may cost; None is no limit. `fan_out` bounds requests that are certain from the start."""

    requests: int | None = None
    rows: int | None = None
    fan_out: int = 500


@dataclass
class SharedPages:
    """Pages that several scans read: asked for once, by whoever comes first, and kept."""

    source: Iterator[Page]
    lock: threading.Lock = field(default_factory=threading.Lock)
    pages: list[Page] = field(default_factory=list)
    ended: bool = False
    failed: BaseException | None = None
    made: float = field(default_factory=time.monotonic)

    def read(self, *, keep: bool) -> Iterator[Page]:
        """The pages from the first on; the last reader need not keep them."""
        for at in itertools.count():
            with self.lock:
                if at == len(self.pages) and not self._one_more():
                    return
                page = self.pages[at]
                if not keep:
                    self.pages[at] = _READ
            yield page

    def _one_more(self) -> bool:
        """Ask for a page; False at the end. A reading that failed stays failed: it is no end."""
        if self.failed:
            raise self.failed
        if self.ended:
            return False
        try:
            page = next(self.source, None)
        except BaseException as error:
            self.failed = error
            raise
        if page is None:
            self.ended = True
            return False
        self.pages.append(page)
        return True


@dataclass
class PageCache:
    """Pages by request. With `seconds` they are kept so long for later statements, up to `most_bytes`."""

    seconds: float = 0.0
    most_bytes: int = 64_000_000
    _kept: dict[str, SharedPages] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def pages(self, key: str, make: Callable[[], Iterator[Page]], *, keep: bool) -> Iterator[Page]:
        """The pages of the request `key`, asked for with `make` unless they are kept.

        Those that are not to be kept any longer are forgotten as they are read.
        """
        with self._lock:
            shared = self._kept.get(key)
            if shared is None and keep:
                shared = self._kept[key] = SharedPages(make())
            elif shared is not None and not keep:
                del self._kept[key]
        return make() if shared is None else shared.read(keep=keep)

    def whole(self) -> dict[str, SharedPages]:
        """What was read to its end."""
        with self._lock:
            return {key: one for key, one in self._kept.items() if one.ended}

    def keep(self, other: "PageCache") -> None:
        """Take over what another cache has whole, the newest first, and forget what is too old or too much."""
        now = time.monotonic()
        with self._lock:
            whole = {key: one for key, one in {**self._kept, **other.whole()}.items() if one.ended}
            fresh = sorted(whole.items(), key=lambda item: -item[1].made)
            self._kept.clear()
            room = self.most_bytes
            for key, one in fresh:
                room -= sum(len(page.body) for page in one.pages)
                if now - one.made < self.seconds and room > 0:
                    self._kept[key] = one

    def copy(self) -> "PageCache":
        """A cache that begins with what this one has fresh."""
        now = time.monotonic()
        with self._lock:
            return PageCache(_kept={key: one for key, one in self._kept.items() if now - one.made < self.seconds})


@dataclass
class Statement:
    """The state of one statement.

    `dry` asks nothing and gives no rows; `limited` reads no page ahead; of the tables `kept` pages are read again.
    """

    apis: Callable[[Source], Api]
    now: datetime
    limits: Limits = Limits()
    dry: bool = False
    limited: bool = False
    kept: frozenset[str] = frozenset()
    sort: Sorted | None = None
    progress: Progress | None = None
    keys: dict[str, Wanted] = field(default_factory=dict)
    promised: dict[str, str] = field(default_factory=dict)
    cache: PageCache = field(default_factory=PageCache)
    scans: list[ScanLog] = field(default_factory=list)
    filters: tuple[str, ...] = ()
    messages: list[tuple[type[Exception], Any]] = field(default_factory=list)
    error: BaseException | None = None
    requests: int = 0
    rows: int = 0
    _cancelled: threading.Event = field(default_factory=threading.Event)
    _misfits: dict[str, int] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def cancel(self) -> None:
        """Let no further request go."""
        self._cancelled.set()

    def api(self, source: Source, scan: ScanLog) -> Api:
        """The source's API, metered for the scan."""
        api = self.apis(source)
        return replace(api, client=Metered(api.client, self, scan))

    def check(self) -> None:
        """Raises OperationalError when the statement was cancelled."""
        if self._cancelled.is_set():
            raise OperationalError("the statement was cancelled")

    def take_request(self, scan: ScanLog) -> None:
        """Count a request that is about to go. Raises OperationalError when there is none left."""
        self.check()
        with self._lock:
            if self.limits.requests is not None and self.requests >= self.limits.requests:
                raise OperationalError(
                    f"{scan.table}: the statement needs more than the {self.limits.requests} requests it may make "
                    "(max_requests)"
                )
            self.requests += 1
            scan.requests += 1

    def took_rows(self, scan: ScanLog, rows: int) -> None:
        """Count rows received. Raises OperationalError when they are too many."""
        with self._lock:
            self.rows += rows
            scan.rows_fetched += rows
            if self.limits.rows is not None and self.rows > self.limits.rows:
                raise OperationalError(
                    f"{scan.table}: the statement reads more than the {self.limits.rows} rows it may read (max_rows)"
                )
        if self.progress:
            self.progress(scan)

    def misfit(self, table: str, reason: str) -> None:
        """Tell about a value that is NULL because it does not fit its column; a few of each table."""
        with self._lock:
            seen = self._misfits[table] = self._misfits.get(table, 0) + 1
            if seen <= _MISFITS_SHOWN:
                self.messages.append((errors.Warning, f"{table}: {reason}; the value is NULL"))
            elif seen == _MISFITS_SHOWN + 1:
                self.messages.append((errors.Warning, f"{table}: further values do not fit their columns"))


class Metered:
    """A client that counts for a statement, and stops when this may ask no more."""

    def __init__(self, client: Sender, statement: Statement, scan: ScanLog) -> None:
        self._client = client
        self._statement = statement
        self._scan = scan
        self.requests = 0

    @property
    def waited_seconds(self) -> float:
        """Seconds that the client spent waiting for limits."""
        return self._client.waited_seconds

    def send(self, request: Request) -> Answer:
        """As the client does."""
        self._statement.take_request(self._scan)
        before = self._client.waited_seconds
        try:
            return self._client.send(request)
        finally:
            self._scan.waited_seconds += self._client.waited_seconds - before

    def close(self) -> None:
        """Nothing: the client belongs to the connection."""
