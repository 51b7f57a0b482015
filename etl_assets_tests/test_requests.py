"""What a stream's declaration and a window make of requests: planning, fan-out, pages, other ways to ask."""

import json
import logging
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from itertools import repeat
from pathlib import Path
from typing import Any

import pytest
import yaml

from etl_assets import extract as extract_module
from etl_assets import redact
from etl_assets.errors import ApiError, ApiUnavailable, EtlError, FinalError, LandingError, PagingError, RetryableError
from etl_assets.extract import Extracted, check_access, extract, open_api
from etl_assets.landing import Folder, pages
from etl_assets.settings import Settings, connection
from etl_assets.spec import Source
from etl_assets.streamfiles import read_source
from etl_assets.window import Window
from etl_assets_tests.http import Exchange, Play, Script, Seen, Server, answer, serving

pytestmark = pytest.mark.timeout(30)

DAY = date(2026, 1, 5)
TOKEN = "key-requests-0001"
HEAD = """
source: acme
title: Acme
base_url: https://api.acme.example
timezone: Asia/Tokyo
start: 2026-01-01
check: people
settings:
  ACME_KEY: {secret: true, help: Profile.}
  ACME_TEAM: {help: The number.}
auth: {type: query, name: apiKey, value: "{ACME_KEY}"}
limits: {parallel: 4}
streams:
  - name: people
    path: /teams/{ACME_TEAM}/people
    key: [id]
    columns: {id: integer, name: string, zone: string}
  - name: zones
    path: /zones
    rows: zones
    key: [person]
    columns: {person: integer, zone: string}
"""


def source(folder: Path, *streams: Mapping[str, Any]) -> Source:
    """The source `acme` with further streams."""
    tree = yaml.safe_load(HEAD)
    filled = [{"key": ["id"], "columns": {"id": "integer", "at": "timestamp"}, **stream} for stream in streams]
    path = folder / "acme.yaml"
    path.write_text(yaml.safe_dump({**tree, "streams": [*tree["streams"], *filled]}, sort_keys=False), "utf-8")
    return read_source(path)


@dataclass
class Result:
    """What an extract left in the landing, and what the server saw of it."""

    server: Server
    extracted: Extracted | None
    pages: list[tuple[dict[str, Any], Any]]

    def asked(self, path: str | None = None) -> list[dict[str, Any]]:
        """The parameters of the requests, without the credential."""
        seen = [seen for seen in self.server.seen if path in (None, seen.path)]
        return [{name: value for name, value in one.params if name != "apiKey"} for one in seen]

    @property
    def rows(self) -> list[Any]:
        return [row for _, body in self.pages for row in (body if isinstance(body, list) else [body])]


def run(
    folder: Path, script: Script, *streams: Mapping[str, Any], day: date | None = None, parallel: int = 4
) -> Result:
    """Extract the last of the streams."""
    acme = source(folder, *streams)
    stream = acme.streams[-1]
    settings = Settings.read(
        {"ETL_DATA_DIR": str(folder), "ETL_RETRY_BASE_SECONDS": "0.001", "ETL_TOTAL_TIMEOUT_SECONDS": "10"}
    )
    with serving(script) as server:
        env = {"ACME_BASE_URL": server.url, "ACME_KEY": TOKEN, "ACME_TEAM": "7/8", "ACME_PARALLEL": str(parallel)}
        api = open_api(acme, connection(acme, env), settings)
        landing = Folder(settings.landing, "raw", "acme", stream.name, day)
        try:
            extracted = extract(api, stream, Window.of_day(day, acme.timezone) if day else None, landing, "run-1")
        finally:
            api.client.close()
    found = [page for file in landing.files(extracted.manifest) for page in pages(file)]
    return Result(server, extracted, [(stamp, json.loads(body)) for stamp, body in found])


def rows(*ids: int) -> list[dict[str, int]]:
    return [{"id": n} for n in ids]


def routes(**bodies: Any) -> Script:
    """Answers by the last part of the path: a value as JSON, or a function of the request."""

    def play(seen: Seen) -> Play:
        body = bodies.get(seen.path.rpartition("/")[2])
        found = body(seen) if callable(body) else body
        if found is None:
            return answer(b"not here", 404)
        return found if isinstance(found, bytes) or callable(found) else answer(json.dumps(found).encode())

    return play


# One request


def test_a_plain_list_is_one_request_with_settings_in_path_and_parameters(tmp_path: Path) -> None:
    stream = {"name": "things", "path": "/t/{ACME_TEAM}/things", "params": {"team": "{ACME_TEAM}", "tag": ["a", "b"]}}
    result = run(tmp_path, routes(things=rows(1, 2)), stream)
    (seen,) = result.server.seen
    assert seen.target == f"/t/7%2F8/things?team=7%2F8&tag=a&tag=b&apiKey={TOKEN}"
    assert (seen.method, seen.body, result.rows) == ("GET", b"", rows(1, 2))
    assert result.extracted
    assert (result.extracted.manifest.rows, result.extracted.requests) == (2, 1)


def test_a_json_body_is_filled_with_types_kept(tmp_path: Path) -> None:
    stream = {
        "name": "things",
        "method": "POST",
        "path": "/things",
        "json": {"team": "{ACME_TEAM}", "limit": "{size}", "after": "{cursor}", "deep": [{"at": "{cursor}"}, 1]},
        "rows": "rows",
        "paging": {"type": "cursor", "next": "next", "size": 2},
    }
    bodies = iter([{"rows": rows(1), "next": 17}, {"rows": rows(2), "next": None}])
    result = run(tmp_path, routes(things=lambda seen: next(bodies)), stream)
    first, second = (json.loads(seen.body) for seen in result.server.seen)
    assert first == {"team": "7/8", "limit": 2, "deep": [1]}
    assert second == {"team": "7/8", "limit": 2, "after": 17, "deep": [{"at": 17}, 1]}
    assert {(seen.method, seen.headers["content-type"]) for seen in result.server.seen} == {
        ("POST", "application/json")
    }


def test_a_form_body_is_encoded_as_utf_8(tmp_path: Path) -> None:
    stream = {"name": "things", "method": "POST", "path": "/things", "form": {"名": "値 {ACME_TEAM}", "ids": [1, 2]}}
    (seen,) = run(tmp_path, routes(things=[]), stream).server.seen
    assert seen.body == b"%E5%90%8D=%E5%80%A4+7%2F8&ids=1&ids=2"
    assert seen.headers["content-type"] == "application/x-www-form-urlencoded; charset=UTF-8"


def test_an_answer_of_one_row_is_one_row(tmp_path: Path) -> None:
    result = run(tmp_path, routes(me={"id": 5}), {"name": "me", "path": "/me", "one": True})
    assert result.extracted
    assert (result.rows, result.extracted.manifest.rows) == ([{"id": 5}], 1)


def test_rows_are_counted_at_their_path_and_answers_kept_whole(tmp_path: Path) -> None:
    body = {"data": {"items": rows(1, 2, 3)}, "code": 0}
    result = run(tmp_path, routes(things=body), {"name": "things", "path": "/things", "rows": "data.items"})
    assert result.extracted
    assert (result.extracted.manifest.rows, [page for _, page in result.pages]) == (3, [body])


def test_an_answer_that_is_no_list_is_an_error_and_leaves_no_set(tmp_path: Path) -> None:
    with pytest.raises(ApiError, match="GET /things: no list at 'the top of the answer'"):
        run(tmp_path, routes(things={"id": 1}), {"name": "things", "path": "/things"})
    with pytest.raises(LandingError):
        Folder(tmp_path / "landing", "raw", "acme", "things", None).manifest()


def test_the_one_cheap_call_of_a_check_is_authorised(tmp_path: Path) -> None:
    acme = source(tmp_path)
    with serving([answer(b"[]"), answer(b"", 401)]) as server:
        env = {"ACME_BASE_URL": server.url, "ACME_KEY": TOKEN, "ACME_TEAM": "1"}
        api = open_api(acme, connection(acme, env), Settings.read({"ETL_DATA_DIR": str(tmp_path)}))
        check_access(api)
        with pytest.raises(ApiError, match="people: HTTP 401"):
            check_access(api)
    assert [(seen.path, seen.params) for seen in server.seen] == [("/teams/1/people", [("apiKey", TOKEN)])] * 2


# Windows

DAILY = {
    "name": "things",
    "path": "/things",
    "params": {"from": "{since}", "to": "{until}"},
}


@pytest.mark.parametrize(
    ("window", "asked"),
    [
        ({}, [("2026-01-05", "2026-01-05")]),
        ({"inclusive": False}, [("2026-01-05", "2026-01-06")]),
        ({"widen": "1d"}, [("2026-01-04", "2026-01-06")]),
        ({"format": "iso", "inclusive": False}, [("2026-01-04T15:00:00Z", "2026-01-05T15:00:00Z")]),
        ({"format": "epoch_s"}, [("1767538800", "1767625199")]),
        ({"widen": "1d", "longest": "1d"}, [(f"2026-01-0{n}", f"2026-01-0{n}") for n in (4, 5, 6)]),
        (
            {"format": "%Y-%m-%d %H:%M:%S", "longest": "12h"},
            [
                ("2026-01-05 00:00:00", "2026-01-05 11:59:59"),
                ("2026-01-05 12:00:00", "2026-01-05 23:59:59"),
            ],
        ),
    ],
)
def test_a_day_is_asked_for_in_the_form_and_the_slices_of_the_api(
    tmp_path: Path, window: dict[str, Any], asked: list[tuple[str, str]]
) -> None:
    result = run(tmp_path, routes(things=rows(1)), {**DAILY, "window": {"column": "at", **window}}, day=DAY)
    assert sorted(result.asked(), key=lambda params: params["from"]) == [{"from": a, "to": b} for a, b in asked]
    assert result.extracted
    assert result.extracted.manifest.partition == "2026-01-05"


# Fan-out

FAN_OUT = {
    "name": "entries",
    "path": "/entries",
    "params": {"user": "{each.id}", "from": "{since}"},
    "window": {"column": "at", "longest": "12h", "format": "epoch_s"},
    "each": {"stream": "people", "stamp": {"user_id": "id", "user_name": "name"}},
    "columns": {"id": "integer", "at": "timestamp", "user_id": "integer", "user_name": "string"},
}
PEOPLE = [{"id": n, "name": f"P{n}", "zone": "Asia/Tokyo"} for n in (3, 1, 2)]


def test_every_parent_row_is_asked_for_in_every_slice_and_stamped(tmp_path: Path) -> None:
    result = run(tmp_path, routes(people=PEOPLE, entries=lambda seen: [dict(seen.params[:2])]), FAN_OUT, day=DAY)
    expected = [{"user": str(n), "from": since} for since in ("1767538800", "1767582000") for n in (3, 1, 2)]
    assert sorted(map(str, result.asked("/entries"))) == sorted(map(str, expected))
    assert result.rows == expected, "in the order of windows and parents, whatever was answered first"
    assert [stamp for stamp, _ in result.pages] == [{"user_id": n, "user_name": f"P{n}"} for n in (3, 1, 2)] * 2


def test_no_parent_rows_mean_no_requests_and_an_empty_set(tmp_path: Path) -> None:
    result = run(tmp_path, routes(people=[]), FAN_OUT, day=DAY)
    assert result.extracted
    assert (result.asked("/entries"), result.extracted.manifest.rows, result.pages) == ([], 0, [])


def test_a_parent_row_without_its_key_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ApiError, match="reading people for it: a row has no id"):
        run(tmp_path, routes(people=[{"name": "x"}], entries=[]), FAN_OUT, day=DAY)


def test_one_parent_that_fails_fails_the_extract(tmp_path: Path) -> None:
    script = routes(people=PEOPLE, entries=lambda seen: answer(b"", 403) if ("user", "1") in seen.params else [])
    with pytest.raises(ApiError, match=r"GET /entries user=1 .*HTTP 403"):
        run(tmp_path, script, FAN_OUT, day=DAY)


WITH_ZONES = {
    **FAN_OUT,
    "each": {
        "stream": "people",
        "stamp": {"user_id": "id"},
        "lookup": {"user_zone": {"stream": "zones", "key": "person", "value": "zone", "optional": True}},
    },
    "zone": "user_zone",
    "columns": {"id": "integer", "at": "timestamp", "user_id": "integer", "user_zone": "string"},
}


def stamps(result: Result) -> dict[int, str]:
    return {stamp["user_id"]: stamp["user_zone"] for stamp, _ in result.pages}


def test_a_looked_up_zone_is_stamped_by_its_iana_name_or_the_zone_of_the_source(tmp_path: Path) -> None:
    found = {"zones": [{"person": 1, "zone": "Eastern Standard Time"}, {"person": 2, "zone": "Europe/Berlin"}]}
    result = run(tmp_path, routes(people=PEOPLE, zones=found, entries=rows(1)), WITH_ZONES, day=DAY)
    assert stamps(result) == {1: "America/New_York", 2: "Europe/Berlin", 3: "Asia/Tokyo"}


@pytest.mark.parametrize("status", [403, 404])
def test_an_optional_lookup_that_is_refused_is_gone_without_and_said_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, status: int
) -> None:
    script = routes(people=PEOPLE, zones=lambda seen: answer(b"", status), entries=rows(1))
    assert stamps(run(tmp_path, script, WITH_ZONES, day=DAY)) == dict.fromkeys((1, 2, 3), "Asia/Tokyo")
    assert "going without zones" in caplog.text


@pytest.mark.parametrize(("status", "error"), [(401, ApiError), (500, ApiUnavailable)])
def test_a_lookup_that_fails_otherwise_fails_the_extract(tmp_path: Path, status: int, error: type[EtlError]) -> None:
    with pytest.raises(error, match=f"HTTP {status}"):
        run(tmp_path, routes(people=PEOPLE, zones=lambda seen: answer(b"", status)), WITH_ZONES, day=DAY)


def test_a_lookup_that_is_not_optional_may_not_be_refused(tmp_path: Path) -> None:
    strict = json.loads(json.dumps(WITH_ZONES))
    strict["each"]["lookup"]["user_zone"]["optional"] = False
    with pytest.raises(ApiError, match="HTTP 404"):
        run(tmp_path, routes(people=PEOPLE, entries=rows(1)), strict, day=DAY)


def test_an_unknown_zone_is_refused_and_not_guessed(tmp_path: Path) -> None:
    found = {"zones": [{"person": 1, "zone": "Middle Earth Standard Time"}]}
    with pytest.raises(FinalError, match="Middle Earth"):
        run(tmp_path, routes(people=PEOPLE, zones=found, entries=rows(1)), WITH_ZONES, day=DAY)


# Pages

PAGED = {
    "name": "things",
    "path": "/things",
    "params": {"page": "{page}", "count": "{size}"},
    "rows": "rows",
    "paging": {"type": "page", "size": 2, "total": "total"},
}


def by_page(total: int, claimed: int | None = None) -> Script:
    def things(seen: Seen) -> Any:
        at = (int(dict(seen.params)["page"]) - 1) * 2
        return {"rows": rows(*range(at + 1, min(at + 2, total) + 1)), "total": total if claimed is None else claimed}

    return routes(things=things)


@pytest.mark.parametrize("total", [0, 1, 2, 3, 4, 9])
@pytest.mark.parametrize("parallel", [1, 4])
def test_pages_behind_a_total_are_read_once_each_and_kept_in_order(tmp_path: Path, total: int, parallel: int) -> None:
    result = run(tmp_path, by_page(total), PAGED, parallel=parallel)
    count = max(-(-total // 2), 1)
    assert sorted(params["page"] for params in result.asked()) == [str(n + 1) for n in range(count)]
    assert [row["id"] for page in result.rows for row in page["rows"]] == list(range(1, total + 1))
    assert result.extracted
    assert result.extracted.manifest.rows == total


def test_pages_behind_a_total_are_read_at_the_same_time(tmp_path: Path) -> None:
    together = threading.Barrier(3)

    def things(seen: Seen) -> Any:
        number = int(dict(seen.params)["page"])
        body = answer(json.dumps({"rows": rows(number * 2, number * 2 + 1), "total": 8}).encode())

        def play(exchange: Exchange) -> None:
            together.wait(5)
            exchange.send(body)

        return body if number == 1 else play

    result = run(tmp_path, routes(things=things), PAGED)
    assert len(result.asked()) == 4


@pytest.mark.parametrize(("total", "claimed"), [(5, 8), (9, 7), (1, 9)])
def test_rows_that_do_not_match_the_total_fail_the_extract(tmp_path: Path, total: int, claimed: int) -> None:
    with pytest.raises(RetryableError, match="the API promised"):
        run(tmp_path, by_page(total, claimed), PAGED)


def test_an_ignored_page_parameter_fails_the_extract_although_the_rows_add_up(tmp_path: Path) -> None:
    body = {"rows": rows(1, 2), "total": 6}
    with pytest.raises(PagingError, match="the API ignores the page parameter"):
        run(tmp_path, routes(things=lambda seen: {**body, "page": dict(seen.params)["page"]}), PAGED)


def test_a_paging_error_names_the_page(tmp_path: Path) -> None:
    stream = {**PAGED, "paging": {"type": "page", "size": 2}}
    with pytest.raises(PagingError, match=r"page 2: two pages have the same rows"):
        run(tmp_path, routes(things={"rows": rows(1, 2)}), stream)


@pytest.mark.parametrize(
    ("script", "stream", "told"),
    [
        (
            by_page(5),
            PAGED,
            ["1 pages, 2 rows, part 1 of 1", "2 pages, 4 rows, part 2 of 3", "3 pages, 5 rows, part 3 of 3"],
        ),
        (
            routes(people=PEOPLE, entries=rows(7)),
            FAN_OUT,
            [f"{n} pages, {n} rows, part {n} of 6" for n in range(1, 7)],
        ),
    ],
    ids=["total", "fan-out"],
)
def test_a_long_extract_says_how_far_it_is_and_how_long_it_will_take(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    script: Script,
    stream: dict[str, Any],
    told: list[str],
) -> None:
    monkeypatch.setattr(extract_module, "PROGRESS_SECONDS", 0)
    with caplog.at_level(logging.INFO, "etl_assets.extract"):
        run(tmp_path, script, stream, day=DAY if stream is FAN_OUT else None)
    lines = [record.getMessage() for record in caplog.records if " pages, " in record.getMessage()]
    assert [re.sub(r", \d+ rows/s|, about \d+ s left", "", line).partition(": ")[2] for line in lines] == told
    assert all(("s left" in line) != line.endswith("part 1 of 1") for line in lines)


def test_pages_of_parents_come_in_the_order_of_the_parents(tmp_path: Path) -> None:
    stream = {
        **PAGED,
        "params": {"page": "{page}", "user": "{each.id}"},
        "each": {"stream": "people", "stamp": {"user_id": "id"}},
        "columns": {"id": "integer", "user_id": "integer"},
    }

    def things(seen: Seen) -> Any:
        user, page = int(dict(seen.params)["user"]), int(dict(seen.params)["page"])
        return {"rows": rows(user * 100 + page * 2, user * 100 + page * 2 + 1), "total": 10}

    people = [{"id": n} for n in range(12)]
    result = run(tmp_path, routes(people=people, things=things), stream, parallel=3)
    ids = [row["id"] for page in result.rows for row in page["rows"]]
    assert ids == [user * 100 + n for user in range(12) for n in range(2, 12)]


# Other ways to ask

WAYS = {
    "name": "things",
    "path": "/v3/new",
    "params": {"x": "{page}"},
    "rows": "rows",
    "paging": {"type": "page", "size": 2},
    "alternatives": [
        {"path": "/v2/old", "params": {"y": "{page}"}, "rows": "items"},
        {"path": "/v1/oldest", "rows": ""},
    ],
}


@pytest.mark.parametrize("status", [403, 404])
def test_a_refused_way_is_left_for_the_next_one(tmp_path: Path, caplog: pytest.LogCaptureFixture, status: int) -> None:
    result = run(tmp_path, routes(new=lambda seen: answer(b"", status), old={"items": rows(1)}), WAYS)
    assert [(seen.path, seen.params[0]) for seen in result.server.seen] == [
        ("/v3/new", ("x", "1")),
        ("/v2/old", ("y", "1")),
    ]
    assert result.extracted
    assert result.extracted.manifest.rows == 1
    assert result.extracted.manifest.details["rows_path"] == "items"
    assert "asking another way: /v2/old" in caplog.text


def test_a_way_that_was_refused_is_not_tried_again_for_the_next_page(tmp_path: Path) -> None:
    bodies = iter([{"items": rows(1, 2)}, {"items": rows(3)}])
    result = run(tmp_path, routes(old=lambda seen: next(bodies)), WAYS)
    assert [seen.path for seen in result.server.seen] == ["/v3/new", "/v2/old", "/v2/old"]


def test_when_every_way_is_refused_the_last_refusal_is_raised(tmp_path: Path) -> None:
    with pytest.raises(ApiError, match="GET /v1/oldest: HTTP 404"):
        run(tmp_path, routes(), WAYS)


@pytest.mark.parametrize(("status", "error"), [(401, ApiError), (400, ApiError), (500, ApiUnavailable)])
def test_another_way_is_for_refusals_only(tmp_path: Path, status: int, error: type[EtlError]) -> None:
    with pytest.raises(error, match=f"GET /v3/new x=1: HTTP {status}"):
        run(tmp_path, routes(new=lambda seen: answer(b"", status), old={"items": rows(1)}), WAYS)


def test_a_way_that_answered_is_not_left_in_the_middle_of_a_list(tmp_path: Path) -> None:
    """The set would be of two shapes, and the rows of one of them lost."""
    first = iter([{"rows": rows(1, 2)}])
    with pytest.raises(ApiError, match="GET /v3/new x=2: HTTP 404"):
        run(tmp_path, routes(new=lambda seen: next(first, None), old={"items": rows(3)}), WAYS)


def test_requests_on_their_way_when_a_way_is_refused_are_asked_again_the_other_way(tmp_path: Path) -> None:
    refused = threading.Event()
    stream = {
        **DAILY,
        "params": {"from": "{since}"},
        "rows": "rows",
        "window": {"column": "at", "longest": "12h", "format": "epoch_s"},
        "alternatives": [{"path": "/old", "params": {"from": "{since}"}, "rows": "items"}],
    }

    def new(seen: Seen) -> Play:
        def late(exchange: Exchange) -> None:
            assert refused.wait(5)
            exchange.send(answer(b'{"rows": [{"id": 1}]}'))

        return late if seen.params[0][1] == "1767538800" else answer(b"", 404)

    def old(seen: Seen) -> Any:
        refused.set()
        return {"items": [{"id": int(seen.params[0][1])}]}

    result = run(tmp_path, routes(things=new, old=old), stream, day=DAY)
    assert [page["items"][0]["id"] for page in result.rows] == [1767538800, 1767582000]


# What may be shown


@pytest.mark.parametrize("refusal", [answer(b"", 404), answer(b"", 302, {"Location": "/"})], ids=["404", "redirects"])
def test_a_label_shows_path_and_parameters_but_no_secret(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, refusal: bytes
) -> None:
    caplog.set_level(logging.DEBUG)
    stream = {"name": "things", "path": "/t/{ACME_KEY}/things", "params": {"team": "{ACME_TEAM}", "k": "x{ACME_KEY}"}}
    with pytest.raises(ApiError) as caught:
        run(tmp_path, repeat(refusal), stream)
    assert str(caught.value).startswith("page 1: GET /t/{ACME_KEY}/things team=7/8 k=x***: ")
    assert TOKEN not in str(caught.value)
    assert TOKEN not in caplog.text


def test_a_credential_that_the_api_repeats_is_not_written_to_the_landing(tmp_path: Path) -> None:
    body = {"id": 1, "self": f"https://api.acme.example/things?apiKey={TOKEN}"}
    result = run(tmp_path, routes(things=[body]), {"name": "things", "path": "/things"})
    assert result.rows == [{"id": 1, "self": "https://api.acme.example/things?apiKey=***"}]
    assert redact.scrub(TOKEN) == "***"
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert TOKEN.encode() not in written
