"""How a long list is read page by page, with guards against lists that never end.

A pager is a generator: it yields the placeholder values of the next request and receives the page that came
back. A yielded list asks for several pages at once, which may be fetched in parallel. The values that a
stream file may use are `page`, `offset`, `size`, `last` and `cursor`.
"""

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

import msgspec

from etl_assets import answers
from etl_assets.errors import PagingError, RetryableError
from etl_assets.spec import Cursor, Keyset, Offset, OnePage, PageNumber, Paging

MOST_PAGES = 100_000
_READINGS = 5

Values = dict[str, Any]


@dataclass(frozen=True)
class Page:
    """One answer: its body, the undecoded rows in it, and what the request knew about them."""

    body: bytes
    rows: list[msgspec.Raw]
    stamp: dict[str, Any]


@dataclass(frozen=True)
class Rest:
    """Requests that do not depend on each other's answers: the pages of a list after the first."""

    requests: list[Values]
    rows: int
    first: Page


Pager = Generator[Values | Rest, Page, None]
Identity = Callable[[msgspec.Raw], Any]


def pager(paging: Paging, identity: Identity = bytes) -> Pager:
    """The pager of a stream's `paging`. Raises PagingError while reading when the list cannot end well.

    `identity` gives what a row is recognised by when it comes again, changed or not.
    """
    match paging:
        case OnePage():
            return _one()
        case PageNumber():
            return _page_number(paging, identity)
        case Offset():
            return _offset(paging)
        case Keyset():
            return _keyset(paging)
        case Cursor():
            return _cursor(paging)


def _one() -> Pager:
    yield {}


def _page_number(paging: PageNumber, identity: Identity) -> Pager:
    base = {"size": paging.size}
    first = yield {**base, "page": paging.start}
    if paging.total:
        total = _total(first, paging.total, paging.size)
        numbers = range(paging.start + 1, paging.start + _page_count(total, paging.size))
        yield Rest([{**base, "page": number} for number in numbers], total - len(first.rows), first)
        return
    known: set[Any] = set()
    for _ in range(_READINGS):
        page, rows, found = first, len(first.rows), set(map(identity, first.rows if paging.count else ()))
        expected = answers.value_at(first.body, paging.count) if paging.count else None
        for number in range(paging.start + 1, paging.start + MOST_PAGES):
            if not _has_more(page, paging):
                break
            page, before = (yield {**base, "page": number}), page
            refuse_repetition(page, before)
            rows += len(page.rows)
            found.update(map(identity, page.rows if paging.count else ()))
        else:
            raise PagingError(f"more than {MOST_PAGES} pages")
        # A row that moves within the list comes twice, or makes another one come twice, in place of one that is lost.
        # A list that really has a row twice has it again.
        if expected is None or (rows == int(expected) and (len(found) == rows or found == known)):
            return
        known = found
        first = yield {**base, "page": paging.start}
    raise RetryableError(f"the list changed each of the {_READINGS} times it was read")


def _has_more(page: Page, paging: PageNumber | Keyset) -> bool:
    if paging.more is None:
        return len(page.rows) >= paging.size
    flag = answers.value_at(page.body, paging.more)
    if flag is None:
        raise PagingError(f"the answer has no {paging.more!r}, which tells whether there are more pages")
    if str(flag).lower() not in ("true", "1", "false", "0"):
        raise PagingError(f"{paging.more!r} is {flag!r}, which says neither that there are more pages nor that not")
    more = str(flag).lower() in ("true", "1")
    if more and not page.rows:
        raise PagingError(f"an empty page says {paging.more!r}: there are more")
    return more


def _offset(paging: Offset) -> Pager:
    base = {"size": paging.size}
    page = yield {**base, "offset": 0}
    if paging.total:
        total = _total(page, paging.total, paging.size)
        offsets = range(paging.size, total, paging.size)
        yield Rest([{**base, "offset": offset} for offset in offsets], total - len(page.rows), page)
        return
    step = paging.size - 1 if paging.overlap else paging.size
    readings, offset = 1, 0
    for _ in range(MOST_PAGES - 1):
        if len(page.rows) < paging.size:
            return
        offset += step
        page, before = (yield {**base, "offset": offset}), page
        refuse_repetition(page, before)
        if paging.overlap and not _overlaps(before, page, paging.overlap):
            # A row left the part that was already read, so that one has slipped from the next page into it.
            readings, offset = readings + 1, 0
            if readings > _READINGS:
                raise RetryableError(f"the list changed each of the {_READINGS} times it was read")
            page = yield {**base, "offset": 0}
    raise PagingError(f"more than {MOST_PAGES} pages")


def _overlaps(before: Page, page: Page, path: str) -> bool:
    last = answers.value_at(before.rows[-1], path)
    return any(answers.value_at(row, path) == last for row in page.rows)


def _keyset(paging: Keyset) -> Pager:
    last: Any = paging.start
    passed: set[str] = set()
    for _ in range(MOST_PAGES):
        page = yield {"size": paging.size, "last": last}
        more = _has_more(page, paging)
        if not page.rows:
            return
        reached = answers.value_at(page.rows[-1], paging.column)
        if reached is None:
            raise PagingError(f"the last row of a page has no {paging.column!r} to go on from")
        if not more:
            return
        if str(reached) in passed:
            raise PagingError(f"{paging.column!r} comes to {reached!r} a second time: the next page would, too")
        passed.add(str(reached))
        last = reached
    raise PagingError(f"more than {MOST_PAGES} pages")


def _cursor(paging: Cursor) -> Pager:
    seen: set[str] = set()
    token: Any = None
    for _ in range(MOST_PAGES):
        page = yield {"size": paging.size, "cursor": token}
        token = answers.value_at(page.body, paging.next)
        if token in (None, ""):
            return
        if str(token) in seen:
            raise PagingError(f"the page token {token!r} came a second time")
        seen.add(str(token))
    raise PagingError(f"more than {MOST_PAGES} pages")


def _total(page: Page, path: str, size: int) -> int:
    value = answers.value_at(page.body, path)
    try:
        total = int(value)
    except (TypeError, ValueError):
        raise PagingError(f"the answer has no row total at {path!r}: {value!r}") from None
    if _page_count(total, size) > MOST_PAGES:
        raise PagingError(f"a row total of {total} makes more than {MOST_PAGES} pages")
    return total


def _page_count(total: int, size: int) -> int:
    return max(-(-total // size), 1)


def refuse_repetition(page: Page, before: Page) -> None:
    """Raises PagingError when a page has the rows of another."""
    if page.rows and page.rows == before.rows:
        raise PagingError("two pages have the same rows: the API ignores the page parameter")


def check_total(rest: Rest, rows: int) -> None:
    """Raises RetryableError unless the remaining pages brought the rows that the total promised."""
    if rows != rest.rows:
        raise RetryableError(
            f"the API promised {rest.rows} further rows and gave {rows}: the list changed while it was read"
        )
