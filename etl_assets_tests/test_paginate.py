"""Every pager against APIs that behave, and against those that would make it endless or incomplete."""

import json
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import pytest

from etl_assets.answers import rows_at
from etl_assets.errors import PagingError, RetryableError
from etl_assets.paginate import MOST_PAGES, Page, Rest, Values, check_total, pager, refuse_repetition
from etl_assets.spec import Cursor, Keyset, Offset, OnePage, PageNumber, Paging

pytestmark = pytest.mark.timeout(20)

SIZE = 3
Api = Callable[[Values], Any]
NUMBERS = count()


def page(body: Any) -> Page:
    received = json.dumps(body).encode()
    return Page(received, rows_at(received, "" if isinstance(body, list) else "rows"), {})


def read(paging: Paging, api: Api, most: int = 50) -> tuple[list[Any], list[Values]]:
    """The rows that a pager brings from the API, and what it asked for; a Rest is read to its end and checked."""
    asked: list[Values] = []
    rows: list[Any] = []

    def ask(values: Values) -> Page:
        asked.append(values)
        assert len(asked) <= most, "endless"
        answer = page(api(values))
        rows.extend(json.loads(bytes(row)) for row in answer.rows)
        return answer

    reading = pager(paging)
    try:
        request = next(reading)
        while True:
            if isinstance(request, Rest):
                before = len(rows)
                for values in request.requests:
                    refuse_repetition(ask(values), request.first)
                check_total(request, len(rows) - before)
                request = next(reading)
            else:
                request = reading.send(ask(request))
    except StopIteration:
        return rows, asked


def table(rows: int) -> list[dict[str, int]]:
    return [{"id": n} for n in range(1, rows + 1)]


SIZES = pytest.mark.parametrize(("rows", "short_pages"), [(0, 1), (1, 1), (2, 1), (3, 2), (4, 2), (6, 3), (7, 3)])


# One page


def test_a_list_without_paging_is_one_request() -> None:
    assert read(OnePage(), lambda values: table(500)) == (table(500), [{}])


# Page numbers


def by_page(rows: int, start: int = 1, **more: Any) -> Api:
    def api(values: Values) -> Any:
        at = (values["page"] - start) * values["size"]
        part = table(rows)[at : at + values["size"]]
        return {"rows": part, **{key: value(values["page"]) for key, value in more.items()}} if more else part

    return api


@SIZES
@pytest.mark.parametrize("start", [0, 1])
def test_pages_are_counted_until_a_short_one(rows: int, short_pages: int, start: int) -> None:
    found, asked = read(PageNumber(type="page", size=SIZE, start=start), by_page(rows, start))
    assert found == table(rows)
    assert asked == [{"size": SIZE, "page": start + n} for n in range(short_pages)]


@pytest.mark.parametrize("yes_no", [(True, False), ("true", "false"), ("True", "False"), (1, 0), ("1", "0")])
@pytest.mark.parametrize(("rows", "pages"), [(0, 1), (3, 1), (4, 2), (6, 2)])
def test_a_has_more_flag_decides_instead_of_the_short_page(rows: int, pages: int, yes_no: tuple[Any, Any]) -> None:
    api = by_page(rows, more=lambda number: yes_no[0] if number * SIZE < rows else yes_no[1])
    found, asked = read(PageNumber(type="page", size=SIZE, more="more"), api)
    assert (found, len(asked)) == (table(rows), pages)


def test_a_short_page_with_has_more_is_not_the_end() -> None:
    def api(values: Values) -> Any:
        return {"rows": [{"id": values["page"]}], "more": values["page"] < 4}

    assert read(PageNumber(type="page", size=SIZE, more="more"), api)[0] == table(4)


def test_has_more_on_an_empty_page_is_refused() -> None:
    api = by_page(3, more=lambda number: True)
    with pytest.raises(PagingError, match="an empty page says 'more'"):
        read(PageNumber(type="page", size=SIZE, more="more"), api)


@pytest.mark.parametrize("flag", [{}, {"more": None}])
def test_a_missing_flag_is_refused(flag: dict[str, Any]) -> None:
    with pytest.raises(PagingError, match="the answer has no 'more'"):
        read(PageNumber(type="page", size=SIZE, more="more"), lambda values: {"rows": table(3), **flag})


@pytest.mark.parametrize("flag", ["Y", "no", "", 2, [], "/next/page"])
def test_a_flag_that_is_neither_yes_nor_no_is_refused(flag: Any) -> None:
    with pytest.raises(PagingError, match="'more'"):
        read(PageNumber(type="page", size=SIZE, more="more"), lambda values: {"rows": table(3), "more": flag})


REPEATING: dict[str, Api] = {
    "the same answer": lambda values: {"rows": table(3)},
    "the same rows in a changing answer": lambda values: {"rows": table(3), "request": next(NUMBERS)},
}


@pytest.mark.parametrize("api", REPEATING.values(), ids=REPEATING.keys())
@pytest.mark.parametrize("paging", [PageNumber(type="page", size=SIZE), Offset(type="offset", size=SIZE)])
def test_an_ignored_page_parameter_is_noticed_at_the_second_page(paging: Paging, api: Api) -> None:
    with pytest.raises(PagingError, match="two pages have the same rows"):
        read(paging, api, most=2)


def test_two_empty_pages_in_a_row_are_not_a_repetition() -> None:
    def api(values: Values) -> Any:
        return {"rows": [], "more": False}

    assert read(PageNumber(type="page", size=SIZE, more="more"), api)[0] == []


def never_ends(paging: Paging, pages: Iterator[Page]) -> None:
    reading = pager(paging)
    next(reading)
    for _ in range(MOST_PAGES - 1):
        reading.send(next(pages))
    with pytest.raises(PagingError, match=f"more than {MOST_PAGES} pages"):
        reading.send(next(pages))


@pytest.mark.parametrize("paging", [PageNumber(type="page", size=1), Offset(type="offset", size=1)])
def test_a_list_without_end_ends_nevertheless(paging: Paging) -> None:
    rows = [rows_at(b"[1]", ""), rows_at(b"[2]", "")]
    never_ends(paging, (Page(b"", rows[n % 2], {}) for n in count()))


# A row total: the rest is read in parallel

TOTALS: list[Paging] = [
    PageNumber(type="page", size=SIZE, total="total"),
    PageNumber(type="page", size=SIZE, start=0, total="total"),
    Offset(type="offset", size=SIZE, total="total"),
]
each_total = pytest.mark.parametrize("paging", TOTALS, ids=["page", "page from 0", "offset"])


def by_total(paging: Paging, rows: int, total: Any) -> Api:
    def api(values: Values) -> Any:
        first = getattr(paging, "start", 0)
        at = values["offset"] if "offset" in values else (values["page"] - first) * SIZE
        return {"rows": table(rows)[at : at + SIZE], "total": total}

    return api


@each_total
@pytest.mark.parametrize("rows", [0, 1, 3, 4, 6, 7])
@pytest.mark.parametrize("kind", [int, str, float])
def test_a_total_gives_all_remaining_pages_at_once(paging: Paging, rows: int, kind: type) -> None:
    found, asked = read(paging, by_total(paging, rows, kind(rows) if kind is not str or rows else "0"))
    assert found == table(rows)
    assert len(asked) == max(-(-rows // SIZE), 1)
    assert len({json.dumps(values) for values in asked}) == len(asked)


@each_total
@pytest.mark.parametrize(("rows", "total"), [(7, 8), (7, 10), (7, 5), (4, 9), (2, 0), (0, 2), (5, -1)])
def test_rows_that_do_not_match_the_total_are_refused(paging: Paging, rows: int, total: int) -> None:
    with pytest.raises((RetryableError, PagingError), match=r"promised|total"):
        read(paging, by_total(paging, rows, total))


@each_total
@pytest.mark.parametrize("api", REPEATING.values(), ids=REPEATING.keys())
def test_an_ignored_page_parameter_is_noticed_although_the_rows_add_up(paging: Paging, api: Api) -> None:
    with pytest.raises(PagingError, match="two pages have the same rows"):
        read(paging, lambda values: {**api(values), "total": 3 * SIZE})


@each_total
@pytest.mark.parametrize("total", [None, "many", [], {}, ""])
def test_a_total_that_is_no_number_is_refused(paging: Paging, total: Any) -> None:
    with pytest.raises(PagingError, match="the answer has no row total at 'total'"):
        read(paging, by_total(paging, 7, total))


@each_total
def test_a_total_without_measure_is_refused_before_its_pages_are_listed(paging: Paging) -> None:
    with pytest.raises(PagingError, match=f"more than {MOST_PAGES} pages"):
        read(paging, by_total(paging, 7, MOST_PAGES * SIZE + 1), most=1)


# Keyset


def by_key(rows: int, *, inclusive: bool = False) -> Api:
    def api(values: Values) -> Any:
        last = values["last"] or 0
        return [row for row in table(rows) if row["id"] >= last + (not inclusive)][: values["size"]]

    return api


@SIZES
def test_a_keyset_goes_on_behind_the_last_row(rows: int, short_pages: int) -> None:
    found, asked = read(Keyset(type="keyset", size=SIZE, column="id"), by_key(rows))
    assert found == table(rows)
    assert [values["last"] for values in asked] == [None, *(SIZE * n for n in range(1, short_pages))]


@pytest.mark.parametrize("rows", range(8))
def test_an_inclusive_keyset_brings_the_boundary_row_twice_and_ends(rows: int) -> None:
    found, _ = read(Keyset(type="keyset", size=SIZE, column="id", inclusive=True), by_key(rows, inclusive=True))
    ids = [row["id"] for row in found]
    assert sorted(set(ids)) == list(range(1, rows + 1))
    assert ids == sorted(ids)


def test_an_inclusive_keyset_of_single_rows_cannot_go_on_and_says_so() -> None:
    with pytest.raises(PagingError, match="'id'"):
        read(Keyset(type="keyset", size=1, column="id", inclusive=True), by_key(3, inclusive=True))


@pytest.mark.parametrize("inclusive", [False, True])
def test_a_page_full_of_one_key_cannot_be_passed_and_says_so(inclusive: bool) -> None:
    same = [{"id": 5, "n": n} for n in range(SIZE)]
    with pytest.raises(PagingError, match="'id' comes to 5 a second time"):
        read(Keyset(type="keyset", size=SIZE, column="id", inclusive=inclusive), lambda values: same)


def test_a_keyset_that_goes_round_in_circles_is_noticed() -> None:
    ends: Iterator[int] = (number for _ in count() for number in (7, 8, 9))
    with pytest.raises(PagingError, match="'id'"):
        read(Keyset(type="keyset", size=SIZE, column="id"), lambda values: [{"id": 1}, {"id": 2}, {"id": next(ends)}])


@pytest.mark.parametrize("last", [{}, {"id": None}])
def test_a_last_row_without_its_key_is_refused(last: dict[str, Any]) -> None:
    with pytest.raises(PagingError, match="the last row of a page has no 'id'"):
        read(Keyset(type="keyset", size=SIZE, column="id"), lambda values: [{"id": 1}, {"id": 2}, last])


def test_a_key_inside_the_row_keeps_its_type() -> None:
    pages = iter([[{"at": {"ms": n}} for n in (1, 2, 1767538800123)], []])
    _, asked = read(Keyset(type="keyset", size=SIZE, column="at.ms"), lambda values: next(pages))
    assert [values["last"] for values in asked] == [None, 1767538800123]


# Tokens


@pytest.mark.parametrize("end", [{}, {"next": None}, {"next": ""}])
def test_tokens_are_followed_until_there_is_none(end: dict[str, Any]) -> None:
    pages = iter([{"rows": table(1), "next": "a"}, {"rows": [], "next": "b"}, {"rows": table(2), **end}])
    found, asked = read(Cursor(type="cursor", next="next", size=SIZE), lambda values: next(pages))
    assert found == table(1) + table(2)
    assert asked == [{"size": SIZE, "cursor": token} for token in (None, "a", "b")]


@pytest.mark.parametrize("tokens", [["a", "a"], ["a", "b", "a"], [1, 1], ["1", 1]])
def test_a_token_that_comes_a_second_time_is_refused(tokens: list[Any]) -> None:
    pages = iter([{"rows": table(1), "next": token} for token in tokens])
    with pytest.raises(PagingError, match="came a second time"):
        read(Cursor(type="cursor", next="next"), lambda values: next(pages))


def test_a_token_keeps_its_type_and_place() -> None:
    pages = iter([{"rows": [], "meta": {"next": 17}}, {"rows": [], "meta": {}}])
    _, asked = read(Cursor(type="cursor", next="meta.next"), lambda values: next(pages))
    assert [values["cursor"] for values in asked] == [None, 17]


def test_tokens_without_end_end_nevertheless() -> None:
    never_ends(Cursor(type="cursor", next="next"), (Page(b'{"next": %d}' % n, [], {}) for n in count()))


def test_keys_without_end_end_nevertheless() -> None:
    rows = (rows_at(b'[{"id": %d}]' % n, "") for n in count())
    never_ends(Keyset(type="keyset", size=1, column="id"), (Page(b"", one, {}) for one in rows))
