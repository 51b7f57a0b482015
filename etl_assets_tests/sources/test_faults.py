"""Whatever an API answers instead of a page: the right rows after all, or an error that says which page, and no table.

Each fault meets the first, a middle and the last page of a list, as one that passes or one that stays. An error names
source, stream, partition, page and cause.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from etl_assets.errors import ApiError, ApiUnavailable, EtlError
from etl_assets_tests.sources.truth import Lab, Row, day, lab

PAGES = {"first": 1, "middle": 2, "last": 3}
ON = day(1)
FOREVER = -1


@dataclass(frozen=True)
class Subject:
    """A list of three pages (or requests) of a source, read on one day."""

    stream: str
    path: str
    refused: Row
    """An error inside HTTP 200 that does not pass, and what of it is told."""
    says: str
    busy: Row
    """The answer to too many requests."""
    busy_says: str
    query: Row = field(default_factory=dict)
    token_path: str = ""
    """Where the source gets a new token, if it can."""


SUBJECTS = {
    "tmetric": Subject(
        "time_entries",
        "/timeentries",
        {"body": {"message": "Busy"}},
        "no list at 'the top of the answer'",
        {"status": 429, "headers": {"Retry-After": "0"}},
        "HTTP 429",
        query={"startDate": "2026-01-04"},
    ),
    "backlog": Subject(
        "issues",
        "/api/v2/issues",
        {"body": {"errors": [{"message": "No such project.", "code": 6}]}},
        "no list at 'the top of the answer'",
        {"status": 429, "headers": {"X-RateLimit-Reset": "1"}},
        "HTTP 429",
    ),
    "jushuitan": Subject(
        "orders",
        "/open/orders/single/query",
        {"body": {"code": 130, "msg": "参数错误", "data": None}},
        "error code 130: 参数错误",
        {"body": {"code": 199, "msg": "调用频次超过限制", "data": None}},
        "error code 199: 调用频次超过限制",
        token_path="/openWeb/auth/refreshToken",
    ),
    "fxiaoke": Subject(
        "inventory_reports",
        "/data/query",
        {"body": {"errorCode": 15003, "errorMessage": "no permission", "data": None}},
        "error code 15003: no permission",
        {"body": {"errorCode": 30004, "errorMessage": "秒频次超限"}},
        "error code 30004: 秒频次超限",
        token_path="/cgi/corpAccessToken/get/V2",
    ),
}
HTML, HALF = {"html": True}, {"cut": 60}
NO_JSON = r"HTTP 200, but no JSON .*<h1>Maintenance</h1>.*; gave up after 7 attempts"


def opened(source: str, folder: Path, **env: Any) -> Any:
    """A lab in which the list has three pages, with one request at a time."""
    subject = SUBJECTS[source]

    def change(tree: Row) -> None:
        tree["limits"]["parallel"] = 1
        for one in tree["streams"]:
            if one["name"] == subject.stream and source != "tmetric":
                size = {"backlog": 7, "jushuitan": 2, "fxiaoke": 3}[source]
                one["paging"] = {**(one.get("paging") or tree["defaults"]["paging"]), "size": size}

    scale = {"tmetric": 0.1, "backlog": 0.01, "jushuitan": 0.04, "fxiaoke": 0.01}[source]
    return lab(source, folder, days=1, scale=scale, change=change, env={"ETL_RETRY_BASE_SECONDS": "0.001", **env})


def truth(x: Lab) -> set[Any]:
    names = {"tmetric": {}, "backlog": {"stream": "issues"}, "jushuitan": {"stream": "orders"}}
    query = names.get(x.name, {"stream": "inventory_reports"})
    (key,) = x.stream(SUBJECTS[x.name].stream).key
    return {row[key] for row in x.sandbox.truth(day=ON.isoformat(), **query)}


def table(x: Lab) -> set[Any]:
    (key,) = x.stream(SUBJECTS[x.name].stream).key
    return {row[key] for row in x.table(SUBJECTS[x.name].stream)}


@pytest.fixture(scope="module", params=SUBJECTS)
def x(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A lab of each source, whose day is loaded."""
    with opened(request.param, tmp_path_factory.mktemp(request.param)) as ready:
        if request.param == "jushuitan":  # the stream file of a lab has no waits, so its pace is nobody's fault
            ready.sandbox.change("settings", per_second=0, per_minute=0)
        if request.param == "tmetric":
            others = [row["id"] for row in ready.sandbox.truth(stream="members")][3:]
            ready.sandbox.change("members", delete=others)
        ready.run(SUBJECTS[request.param].stream, ON)
        assert table(ready) == truth(ready) != set()
        assert pages(ready) >= 3
        yield ready


@pytest.fixture
def subject(x: Lab) -> Iterator[Subject]:
    x.sandbox.clear_log()
    yield SUBJECTS[x.name]
    x.sandbox.clear_faults()


def pages(x: Lab) -> int:
    """How many requests the list takes."""
    found = SUBJECTS[x.name]
    wanted = {(name, str(value)) for name, value in found.query.items()}
    return sum(wanted <= {tuple(pair) for pair in row["query"]} for row in x.sandbox.log(found.path))


def met(x: Lab, page: str, *, times: int = 1, **fault: Any) -> int:
    """Set a fault for the first, a middle or the last page; its number."""
    found = SUBJECTS[x.name]
    x.sandbox.clear_log()
    x.extract(found.stream, ON)
    number = pages(x) if page == "last" else PAGES[page]
    x.sandbox.fault(path=found.path, query=found.query, skip=number - 1, times=times, **fault)
    x.sandbox.clear_log()
    return number


def assert_told(x: Lab, error: EtlError, page: int, cause: str) -> None:
    """The error names all five: source, stream, partition, page and cause."""
    place = rf"page 1 of list {page} of 3" if x.name == "tmetric" else rf"page {page}"
    assert re.search(rf"^{x.name}/{SUBJECTS[x.name].stream} {ON}: {place}: .*{cause}", str(error)), str(error)


LASTING = {
    "an error inside HTTP 200": ("refused", "says", ApiError),
    "too many requests": ("busy", "busy_says", ApiUnavailable),
    "HTML": (HTML, NO_JSON, ApiUnavailable),
    "a cut answer": (HALF, r"no whole answer .*; gave up after 7 attempts", ApiUnavailable),
    "an empty answer": ({"empty": True}, r"no JSON .*empty body; gave up", ApiUnavailable),
    "a server error": ({"status": 500}, r"HTTP 500; gave up after 7 attempts", ApiUnavailable),
    "a refusal": ({"status": 403}, r"HTTP 403; rights are missing", ApiError),
    "null": ({"body": "null"}, r"(no list at|error code None)", ApiError),
    "an empty object": ({"body": {}}, r"(no list at|error code None)", ApiError),
}


@pytest.mark.one_in(9)
@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("kind", LASTING)
def test_a_fault_that_stays_is_told_with_its_place_and_loads_nothing(
    x: Lab, subject: Subject, kind: str, page: str
) -> None:
    fault, cause, error = LASTING[kind]
    fault, cause = getattr(subject, str(fault), fault), getattr(subject, str(cause), cause)
    before = table(x)
    folder = x.pipeline.folder("raw", x.source, x.stream(subject.stream), x.window(subject.stream, ON))
    number = met(x, page, times=FOREVER, **fault)
    manifest = folder.manifest()
    with pytest.raises(error) as caught:
        x.run(subject.stream, ON)
    assert_told(x, caught.value, number, cause)
    assert (table(x), folder.manifest()) == (before, manifest)


@pytest.mark.one_in(3)
@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize(
    "fault", ["busy", HTML, HALF, {"status": 503}, {"reset": True}, {"empty": True}], ids=lambda fault: str(fault)
)
def test_a_fault_that_passes_costs_no_row(x: Lab, subject: Subject, fault: Any, page: str) -> None:
    met(x, page, times=2, **(getattr(subject, fault) if isinstance(fault, str) else fault))
    found = x.extract(subject.stream, ON)
    assert x.sandbox.faults()[0]["fired"] == 2
    paths = next(
        paths for name, paths, _ in x.stream(subject.stream).field_columns() if name == x.stream(subject.stream).key[0]
    )
    assert truth(x) <= {next(row[path] for path in paths if path in row) for row in found}


@pytest.mark.one_in(2)
@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("source", SUBJECTS)
def test_a_token_that_ends_at_a_page_is_renewed_or_told(tmp_path: Path, page: str, source: str) -> None:
    subject = SUBJECTS[source]
    with opened(source, tmp_path) as x:
        end = {
            "tmetric": ("token", {"expire": True}),
            "backlog": ("key", {"revoke": x.sandbox.env().get("BACKLOG_API_KEY")}),
        }
        action, order = end.get(source, ("token", {"expire": True}))
        number = PAGES[page] - 1
        after = {"path": subject.path, "query": subject.query, "count": number}
        x.sandbox.change(action, **order, **({"after": after} if number else {}))
        if subject.token_path:
            x.run(subject.stream, ON)
            assert table(x) == truth(x)
            assert x.sandbox.count(subject.token_path) >= 1
            return
        with pytest.raises(ApiError, match="HTTP 401; the credential is wrong, expired or replaced") as caught:
            x.run(subject.stream, ON)
        place = r"reading \w+ for it: page 1" if source == "tmetric" and not number else r"page \d"
        assert re.search(rf"^{source}/{subject.stream} {ON}: {place}", str(caught.value)), str(caught.value)
        assert not x.pipeline.settings.duckdb_path.exists()


REFUSALS = {
    "jushuitan": {"body": {"code": 150, "msg": "禁止刷新", "data": None}},
    "fxiaoke": {"body": {"errorCode": 10006, "errorMessage": "the parameter appSecret is missing or illegal"}},
}


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("source", REFUSALS)
def test_a_renewal_that_is_refused_at_a_page_is_told_with_its_place(tmp_path: Path, source: str, page: str) -> None:
    subject = SUBJECTS[source]
    with opened(source, tmp_path) as x:
        x.extract(subject.stream, ON)
        number = PAGES[page]
        after = {"path": subject.path, "count": number - 1}
        x.sandbox.change("token", expire=True, **({"after": after} if number > 1 else {}))
        x.sandbox.fault(path=subject.token_path, times=FOREVER, **REFUSALS[source])
        with pytest.raises(ApiError) as caught:
            x.run(subject.stream, ON)
        cause = rf"{subject.token_path}.*(150|10006)"
        assert re.search(rf"^{source}/{subject.stream} {ON}: page {number}: .*{cause}", str(caught.value)), str(
            caught.value
        )
        assert not x.pipeline.settings.duckdb_path.exists()
