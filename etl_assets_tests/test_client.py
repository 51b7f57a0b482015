"""The client over real sockets: what is asked again, what is refused, how long anything may take."""

import gzip
import socket
import subprocess
import sys
import time
import tracemalloc
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import format_datetime
from itertools import chain, repeat
from pathlib import Path

import pytest

from etl_assets import client as library
from etl_assets.client import ATTEMPTS, LONGEST_BACKOFF_SECONDS, requested_wait
from etl_assets.errors import ApiError, ApiUnavailable
from etl_assets.limiter import Limiter
from etl_assets.messages import Answer, Flow, Request
from etl_assets.settings import Timeouts
from etl_assets.spec import Errors, Rate
from etl_assets_tests.http import (
    GET,
    POST,
    Exchange,
    Play,
    answer,
    chunked,
    client,
    held,
    reset,
    serving,
    silence,
    trickle,
    without_length,
)

pytestmark = pytest.mark.timeout(30)

GOOD = b'[{"id": 1}]'
HTML = b"<!doctype html><title>Sign in</title>"
NOW = datetime(2026, 1, 5, 3, 0, tzinfo=UTC).timestamp()
EMPTY_BLOCK = b"\x00\x00\x00\xff\xff"  # of deflate: five bytes that stand for none


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def gzipped(body: bytes) -> bytes:
    return gzip.compress(body, mtime=0)


# What is asked again


@pytest.mark.parametrize("status", [408, 425, 429, 500, 501, 502, 503, 504, 520, 599])
def test_an_overloaded_or_broken_api_is_asked_again(tmp_path: Path, status: int) -> None:
    with serving([answer(b"busy", status), answer(b"", status), answer(GOOD)]) as server:
        assert client(server.url, tmp_path).send(GET).body == GOOD
    assert [seen.target for seen in server.seen] == ["/things"] * 3


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 409, 410, 422, 451])
def test_a_refusal_is_final_and_tells_what_the_api_said(tmp_path: Path, status: int) -> None:
    with (
        serving(repeat(answer(b'{"message":  "not\\n for you"}', status))) as server,
        pytest.raises(ApiError, match=f"^GET /things: HTTP {status}.*not.n for you") as caught,
    ):
        client(server.url, tmp_path).send(GET)
    assert (caught.value.status, len(server.seen)) == (status, 1)


@pytest.mark.parametrize(("status", "hint"), [(401, "credential"), (403, "rights")])
def test_a_refused_credential_says_what_to_look_at(tmp_path: Path, status: int, hint: str) -> None:
    with serving([answer(b"", status)]) as server, pytest.raises(ApiError, match=f"{hint}.*empty body"):
        client(server.url, tmp_path).send(GET)


NO_WHOLE_ANSWER: dict[str, Play] = {
    "closed without an answer": b"",
    "reset": reset,
    "not HTTP": b"220 mail.example ESMTP\r\n",
    "half a head": b"HTTP/1.1 200 OK\r\nContent-Le",
    "body shorter than its length": answer(b'[{"id": 1}', headers={"Content-Length": "11"}),
    "valid JSON shorter than its length": answer(b"[]    ", headers={"Content-Length": "100"}),
    "cut inside a chunk": chunked(b"[1,")[:-8],
    "cut after a chunk": chunked(b"[1]", end=b""),
    "chunk without a size": chunked(b"[1]", end=b"xyz\r\n"),
    "two different lengths": answer(GOOD, headers={"Content-Length": "5, 6"}),
    "cut body without a length": without_length(b'[{"id": 1}, {"i'),
    "HTML": answer(HTML, headers={"Content-Type": "text/html"}),
    "empty": answer(b""),
    "blank": answer(b" \r\n"),
    "two values": answer(b"[1][2]"),
    "not a number": answer(b"[NaN]"),
    "invalid UTF-8": answer(b'["\xff"]'),
    "UTF-16": answer('["a"]'.encode("utf-16")),
    "endless nesting": answer(b"[" * 100_000),
    "gzip that is none": answer(GOOD, headers={"Content-Encoding": "gzip"}),
    "gzip that breaks off": without_length(gzipped(b"[%b]" % (b"12345," * 99))[:-20], "Content-Encoding: gzip\r\n"),
    "gzip with a wrong checksum": answer(
        gzipped(GOOD)[:-8] + b"\0" * 4 + gzipped(GOOD)[-4:], headers={"Content-Encoding": "gzip"}
    ),
}
each_broken_answer = pytest.mark.parametrize("broken", NO_WHOLE_ANSWER.values(), ids=NO_WHOLE_ANSWER.keys())


@each_broken_answer
def test_an_answer_that_is_not_whole_is_asked_for_again(tmp_path: Path, broken: Play) -> None:
    with serving([broken, answer(GOOD)]) as server:
        assert client(server.url, tmp_path, parallel=1).send(GET).body == GOOD
    assert len(server.seen) == 2


@pytest.mark.one_in(2)
@each_broken_answer
def test_an_answer_that_is_never_whole_is_given_up(tmp_path: Path, broken: Play) -> None:
    with (
        serving(repeat(broken)) as server,
        pytest.raises(ApiUnavailable, match=f"^GET /things: .*; gave up after {ATTEMPTS} attempts$"),
    ):
        client(server.url, tmp_path, parallel=1).send(GET)
    assert len(server.seen) == ATTEMPTS


def test_the_last_reason_and_the_beginning_of_a_strange_answer_are_told(tmp_path: Path) -> None:
    with serving(repeat(answer(HTML + b"x" * 5000))) as server, pytest.raises(ApiUnavailable) as caught:
        client(server.url, tmp_path).send(GET)
    assert "no JSON" in str(caught.value)
    assert "<title>Sign in</title>" in str(caught.value)
    assert len(str(caught.value)) < 500


def test_a_request_that_failed_frees_its_connection(tmp_path: Path) -> None:
    with serving(chain([NO_WHOLE_ANSWER["cut after a chunk"]] * 5, repeat(answer(GOOD)))) as server:
        sender = client(server.url, tmp_path, parallel=1)
        assert [sender.send(GET).body for _ in range(3)] == [GOOD] * 3


def test_a_kept_connection_that_the_api_closed_is_opened_again(tmp_path: Path) -> None:
    def hang_up(exchange: Exchange) -> None:
        exchange.send(answer(GOOD, keep=True))

    with serving([hang_up, answer(GOOD)]) as server:
        sender = client(server.url, tmp_path)
        assert [sender.send(GET).body, sender.send(GET).body] == [GOOD, GOOD]


def test_a_connection_is_used_for_many_requests(tmp_path: Path) -> None:
    sockets = []

    def note(exchange: Exchange) -> None:
        sockets.append(exchange.socket.getpeername())
        exchange.send(answer(GOOD))

    with serving([answer(GOOD, keep=True), answer(GOOD, keep=True), note, note]) as server:
        sender = client(server.url, tmp_path)
        for _ in range(4):
            sender.send(GET)
    assert len(server.seen) == 4
    assert len(set(sockets)) == 2, "the third request came over the kept connection, the fourth could not"


@pytest.mark.parametrize(
    "play",
    [
        answer(GOOD),
        chunked(b'[{"id"', b": 1}]"),
        without_length(GOOD),
        answer(gzipped(GOOD), headers={"Content-Encoding": "gzip"}),
        chunked(gzipped(GOOD)).replace(b"Connection", b"Content-Encoding: gzip\r\nConnection"),
        answer(zlib.compress(GOOD), headers={"Content-Encoding": "deflate"}),
        answer(b"\xef\xbb\xbf" + GOOD),
        answer(b"\r\n" + GOOD + b"\n"),
        answer(GOOD, 201),
    ],
    ids=["length", "chunks", "no length", "gzip", "gzip chunks", "deflate", "BOM", "blanks around", "created"],
)
def test_a_whole_answer_arrives_as_json_however_it_is_sent(tmp_path: Path, play: bytes) -> None:
    with serving([play]) as server:
        assert client(server.url, tmp_path).send(GET).body == GOOD
    assert len(server.seen) == 1


def test_half_an_emoji_becomes_a_replacement_character(tmp_path: Path) -> None:
    with serving([answer(rb'["cut \ud83d", "whole \ud83d\ude00"]')]) as server:
        assert client(server.url, tmp_path).send(GET).body == rb'["cut \ufffd", "whole \ud83d\ude00"]'


# Requests that must not be repeated


@pytest.mark.parametrize(
    "play",
    [reset, silence, *(answer(b"", status) for status in (408, 425, 500, 503)), *NO_WHOLE_ANSWER.values()],
)
def test_a_request_that_may_have_been_acted_on_is_not_repeated(tmp_path: Path, play: Play) -> None:
    patience = Timeouts(connect=1, read=0.2, total=5)
    with (
        serving([play, answer(GOOD)]) as server,
        pytest.raises(ApiUnavailable, match=r"^POST /things: .*not repeated, the API may have acted on it"),
    ):
        client(server.url, tmp_path, timeouts=patience).send(POST)
    assert len(server.seen) == 1


def test_a_request_turned_away_with_429_was_not_acted_on_and_is_repeated(tmp_path: Path) -> None:
    with serving([answer(b"", 429), answer(GOOD)]) as server:
        assert client(server.url, tmp_path).send(POST).body == GOOD
    assert [seen.body for seen in server.seen] == [b"{}", b"{}"]


@pytest.mark.parametrize("request_", [GET, POST], ids=["repeatable", "not repeatable"])
def test_a_refused_connection_is_tried_again(tmp_path: Path, request_: Request) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        with pytest.raises(ApiUnavailable, match=f"refused.*gave up after {ATTEMPTS} attempts"):
            client(url, tmp_path).send(request_)


def test_the_word_refused_in_an_address_does_not_make_a_lost_request_repeatable(tmp_path: Path) -> None:
    asked = replace(POST, path="/refused", params=(("state", "refused"),))
    with serving([silence, answer(GOOD)]) as server, pytest.raises(ApiUnavailable, match="not repeated"):
        client(server.url, tmp_path, timeouts=Timeouts(connect=1, read=0.1, total=5)).send(asked)
    assert len(server.seen) == 1


def test_a_repeatable_post_is_asked_again(tmp_path: Path) -> None:
    with serving([answer(b"", 503), answer(GOOD)]) as server:
        assert client(server.url, tmp_path).send(replace(POST, repeatable=True)).body == GOOD


@pytest.mark.parametrize("path", ["http://[", "https://exa mple/", "//[::1/x"])
def test_a_redirect_to_nowhere_is_a_refusal(tmp_path: Path, path: str) -> None:
    with (
        serving(repeat(answer(b"", 302, {"Location": path}))) as server,
        pytest.raises(ApiError, match="redirected"),
    ):
        client(server.url, tmp_path).send(GET)
    assert len(server.seen) == 1


# How long to wait


def waits(headers: dict[str, str]) -> float | None:
    return requested_wait(Answer(429, library.requests.structures.CaseInsensitiveDict(headers), b""), NOW)


def http_date(seconds: float) -> str:
    return format_datetime(datetime.fromtimestamp(NOW + seconds, UTC), usegmt=True)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"Retry-After": "7"}, 7),
        ({"retry-after": " 0.5 "}, 0.5),
        ({"Retry-After": "0"}, 0),
        ({"Retry-After": "-3"}, 0),
        ({"Retry-After": http_date(90)}, 90),
        ({"Retry-After": http_date(-90)}, 0),
        ({"Retry-After": "Mon, 05 Jan 2026 12:00:30 +0900"}, 30),
        ({"Retry-After": "Mon, 05 Jan 2026 03:00:30 -0000"}, 30),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": ""}, None),
        ({"Retry-After": "nan"}, None),
        ({"Retry-After": "Mon, 99 Foo 2026"}, None),
        ({"Retry-After": "05 Jan 2026 00:00:00 +99999999999999999999"}, None),
        ({"X-RateLimit-Reset": str(NOW + 12)}, 12),
        ({"X-Rate-Limit-Reset": str(NOW + 12)}, 12),
        ({"X-RateLimit-Reset": str(NOW - 12)}, 0),
        ({"X-RateLimit-Reset": "30"}, None),
        ({"X-RateLimit-Reset": "tomorrow"}, None),
        ({"X-RateLimit-Reset": "nan"}, None),
        ({"X-RateLimit-Reset": "x", "X-Rate-Limit-Reset": str(NOW + 4)}, 4),
        ({"Retry-After": "3", "X-RateLimit-Reset": str(NOW + 12)}, 3),
        ({"Retry-After": "soon", "X-RateLimit-Reset": str(NOW + 12)}, 12),
    ],
)
def test_the_wait_that_an_api_asks_for_is_understood(headers: dict[str, str], seconds: float | None) -> None:
    assert waits(headers) == (None if seconds is None else pytest.approx(seconds))


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    "header",
    [
        lambda: {"Retry-After": "0.4"},
        lambda: {"X-RateLimit-Reset": str(time.time() + 0.4)},
        lambda: {"X-Rate-Limit-Reset": str(time.time() + 0.4)},
    ],
    ids=["Retry-After", "Backlog", "TROCCO"],
)
def test_the_next_attempt_comes_when_the_api_asked_for_it(
    tmp_path: Path, header: Callable[[], dict[str, str]], status: int
) -> None:
    first = answer(b"", status, header())
    with serving([first, answer(GOOD)]) as server:
        assert client(server.url, tmp_path).send(GET).body == GOOD
    assert 0.3 < server.gaps()[0] < 2


@pytest.mark.parametrize(
    "asked", ["-5", "soon", "", "nan", "-inf", "1e-400", "05 Jan 2026 00:00:00 +99999999999999999999"]
)
def test_a_senseless_wait_is_not_waited_for(tmp_path: Path, asked: str) -> None:
    with serving([answer(b"", 429, {"Retry-After": asked}), answer(GOOD)]) as server:
        assert client(server.url, tmp_path).send(GET).body == GOOD
    assert server.gaps()[0] < 2


def pause_seconds(limiter: Limiter, bucket: str = "default") -> float:
    """Seconds that a bucket is paused for, out of the refusal to wait so long."""
    try:
        limiter.wait(bucket, time.monotonic())
    except Exception as error:  # noqa: BLE001 - only its text matters
        return float(str(error).partition(" a place in ")[2].split()[0])
    return 0.0


@pytest.mark.parametrize("asked", ["86400", "inf", "Fri, 31 Dec 9999 23:59:59 GMT"])
def test_a_wait_beyond_the_deadline_is_not_begun_but_holds_for_everybody_in_bounds(tmp_path: Path, asked: str) -> None:
    patience = Timeouts(connect=1, read=1, total=5)
    with serving(repeat(answer(b"", 429, {"Retry-After": asked}))) as server:
        started = time.monotonic()
        with pytest.raises(ApiUnavailable, match="HTTP 429; gave up after 1 attempts"):
            client(server.url, tmp_path, timeouts=patience).send(GET)
        assert time.monotonic() - started < 2
        assert len(server.seen) == 1
        assert 290 < pause_seconds(Limiter(tmp_path, server.url, parallel=2, rates={})) < 301


@pytest.mark.parametrize("prefix", ["X-RateLimit", "X-Rate-Limit"])
def test_a_used_up_budget_holds_its_bucket_back_until_the_reset(tmp_path: Path, prefix: str) -> None:
    with serving(lambda seen: answer(GOOD, headers=used_up if seen.path == "/things" else {})) as server:
        sender = client(server.url, tmp_path)
        used_up = {f"{prefix}-Remaining": "0", f"{prefix}-Reset": str(time.time() + 0.5)}
        sender.send(GET)
        sender.send(replace(GET, path="/other", bucket="search"))
        sender.send(replace(GET, path="/last"))
        assert 0 < sender.waited_seconds < 1
    assert [seen.path for seen in server.seen] == ["/things", "/other", "/last"]
    assert server.gaps()[1] > 0.2
    assert 0.4 < sum(server.gaps()) < 2


@pytest.mark.parametrize(
    "headers",
    [
        {"X-RateLimit-Remaining": "0"},
        {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "60"},
        {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "never"},
        {"X-RateLimit-Remaining": "1", "X-RateLimit-Reset": "9999999999"},
    ],
)
def test_a_budget_without_a_reset_time_or_with_something_left_holds_nothing_back(
    tmp_path: Path, headers: dict[str, str]
) -> None:
    with serving(repeat(answer(GOOD, headers=headers))) as server:
        sender = client(server.url, tmp_path)
        sender.send(GET)
        sender.send(GET)
        assert sender.waited_seconds == 0


def test_a_reset_far_away_holds_back_for_five_minutes_at_most(tmp_path: Path) -> None:
    headers = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "9999999999"}
    with serving([answer(GOOD, headers=headers)]) as server:
        client(server.url, tmp_path).send(GET)
        assert 290 < pause_seconds(Limiter(tmp_path, server.url, parallel=2, rates={})) <= 300


def test_the_waits_between_attempts_grow_and_differ(tmp_path: Path) -> None:
    base, senders = 0.01, 8

    def gaps(number: int) -> list[float]:
        with serving(repeat(answer(b"", 503))) as server, pytest.raises(ApiUnavailable):
            client(server.url, tmp_path, retry_base_seconds=base).send(GET)
        return server.gaps()

    with ThreadPoolExecutor(senders) as pool:
        observed = list(pool.map(gaps, range(senders)))
    for gap in observed:
        assert all(base * 2**n * 0.5 <= seconds < base * 2**n * 1.5 + 1 for n, seconds in enumerate(gap))
    last = [gap[-1] for gap in observed]
    assert max(last) - min(last) > 0.02, "everybody who was turned away together comes back together"


def test_a_wait_between_attempts_has_a_bound(tmp_path: Path) -> None:
    sender = client("http://127.0.0.1:9", tmp_path, retry_base_seconds=10.0)
    waited = [sender._wait_after(attempt, None) for attempt in range(1, ATTEMPTS) for _ in range(50)]
    assert max(waited) == LONGEST_BACKOFF_SECONDS
    assert len(set(waited)) > 100


# Deadlines


@pytest.mark.one_in(2)
@pytest.mark.parametrize(
    "play",
    [
        silence,
        trickle(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n[", b" ", 0.02),
        trickle(b"HTTP/1.1 200 OK\r\n\r\n[", b" ", 0.02),
        trickle(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n", 0.02),
        trickle(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n[", b"", 1),
        trickle(b"HTTP/1.1 2", b"0", 0.02),
        trickle(b"HTTP/1.1 200 OK\r\nX-Long: ", b"x", 0.02),
        trickle(b"", b"HTTP/1.1 100 Continue\r\n\r\n", 0.02),
        trickle(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n" + gzipped(b"")[:10], EMPTY_BLOCK, 0.02),
        trickle(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n" + gzipped(b"")[:10], EMPTY_BLOCK * 999, 0.001),
    ],
    ids=[
        *("never answers", "trickles", "trickles without end", "trickles in chunks", "stops in the middle"),
        *("trickles its status", "trickles a header", "never comes to the point"),
        *("trickles what decodes to nothing", "floods with what decodes to nothing"),
    ],
)
def test_the_total_deadline_ends_a_request(tmp_path: Path, play: Play) -> None:
    started = time.monotonic()
    with serving(repeat(play)) as server, pytest.raises(ApiUnavailable, match=r"^GET /things: no whole answer"):
        client(server.url, tmp_path, timeouts=Timeouts(connect=1, read=0.5, total=0.8)).send(GET)
    assert 0.3 < time.monotonic() - started < 2


def test_a_rate_that_has_no_place_before_the_deadline_ends_a_request_at_once(tmp_path: Path) -> None:
    with serving(repeat(answer(GOOD))) as server:
        rates = {"default": [Rate(count=1, seconds=60)]}
        sender = client(server.url, tmp_path, rates=rates)
        sender.send(GET)
        started = time.monotonic()
        with pytest.raises(ApiUnavailable, match=r"the limit of 'default' requests frees a place in 60 s"):
            sender.send(GET)
        assert time.monotonic() - started < 2
    assert len(server.seen) == 1


def test_slots_that_stay_taken_end_a_request_at_the_deadline(tmp_path: Path) -> None:
    with serving(repeat(answer(GOOD))) as server:
        other = Limiter(tmp_path, server.url, parallel=1, rates={})
        sender = client(server.url, tmp_path, parallel=1, timeouts=Timeouts(connect=1, read=1, total=0.2))
        with other.slot(time.monotonic()), pytest.raises(ApiUnavailable, match=r"^GET /things: all 1 parallel"):
            sender.send(GET)
        assert server.seen == []
        assert sender.send(GET).body == GOOD


# Size


@pytest.mark.parametrize(
    "play",
    [
        answer(b'["%b"]' % (b"x" * 10_000)),
        without_length(b'["%b"]' % (b"x" * 10_000)),
        chunked(*[b"x" * 500] * 30),
        answer(gzipped(b'["%b"]' % (b"x" * 10_000)), headers={"Content-Encoding": "gzip"}),
    ],
    ids=["length", "no length", "chunks", "gzip"],
)
def test_an_answer_beyond_the_size_limit_is_refused(tmp_path: Path, play: bytes) -> None:
    with serving([play, answer(GOOD)]) as server:
        sender = client(server.url, tmp_path, parallel=1, max_response_bytes=9_000)
        with pytest.raises(ApiError, match=r"^GET /things: the answer exceeds .* ETL_MAX_RESPONSE_MB"):
            sender.send(GET)
        assert sender.send(GET).body == GOOD, "the connection of the refused answer is free again"


def test_an_answer_of_just_the_size_limit_is_taken(tmp_path: Path) -> None:
    with serving([answer(b'["%b"]' % (b"x" * 8_996))]) as server:
        assert len(client(server.url, tmp_path, max_response_bytes=9_000).send(GET).body) == 9_000


def test_a_gzip_bomb_does_not_fill_the_memory(tmp_path: Path) -> None:
    bomb = answer(gzip.compress(b"0" * 50_000_000, 9), headers={"Content-Encoding": "gzip"})
    assert len(bomb) < 100_000
    with serving([bomb]) as server:
        sender = client(server.url, tmp_path)
        tracemalloc.start()
        try:
            with pytest.raises(ApiError, match="exceeds 1 MB"):
                sender.send(GET)
            assert tracemalloc.get_traced_memory()[1] < 8_000_000
        finally:
            tracemalloc.stop()


# Redirects


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("location", ["/moved?page=2", "moved?page=2", "{url}/moved?page=2", "//{netloc}/moved?page=2"])
def test_a_redirect_on_the_same_host_is_followed_with_the_credential(
    tmp_path: Path, status: int, location: str
) -> None:
    def authorise(request: Request) -> Flow:
        yield replace(request, headers={"X-Key": "7"})

    with serving(lambda seen: moved if seen.path == "/things" else answer(GOOD)) as server:
        target = location.format(url=server.url, netloc=server.netloc)
        moved = answer(b"moved", status, {"Location": target})
        sender = client(server.url, tmp_path, authoriser=authorise)
        assert sender.send(GET).body == GOOD
        assert sender.requests == 2
    assert [(seen.target, seen.headers["x-key"]) for seen in server.seen] == [
        ("/things", "7"),
        ("/moved?page=2", "7"),
    ]


@pytest.mark.parametrize("location", ["{other}/things", "//{other_netloc}/things", "https://{netloc}/things"])
def test_a_redirect_elsewhere_is_refused_and_gets_no_request(tmp_path: Path, location: str) -> None:
    with serving([]) as other, serving(lambda seen: answer(b"", 302, {"Location": target})) as server:
        target = location.format(other=other.url, other_netloc=other.netloc, netloc=server.netloc)
        with pytest.raises(ApiError, match=r"^GET /things: redirected to 127.0.0.1, which is not followed") as caught:
            client(server.url, tmp_path).send(GET)
    assert caught.value.status == 302
    assert (len(server.seen), len(other.seen)) == (1, 0)


def test_a_redirected_post_is_not_sent_a_second_time(tmp_path: Path) -> None:
    with (
        serving(repeat(answer(b"", 307, {"Location": "/elsewhere"}))) as server,
        pytest.raises(ApiError, match="redirected"),
    ):
        client(server.url, tmp_path).send(replace(POST, repeatable=True))
    assert len(server.seen) == 1


def test_redirects_in_a_circle_end(tmp_path: Path) -> None:
    with (
        serving(lambda seen: answer(b"", 302, {"Location": "/b" if seen.path == "/things" else "/things"})) as server,
        pytest.raises(ApiError, match="redirected more than 3 times"),
    ):
        client(server.url, tmp_path).send(GET)
    assert len(server.seen) == 4


def test_a_redirect_without_an_address_is_a_refusal(tmp_path: Path) -> None:
    with serving([answer(b"", 302)]) as server, pytest.raises(ApiError, match="HTTP 302"):
        client(server.url, tmp_path).send(GET)


# What the environment may and may not change


def test_netrc_and_cookies_are_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login someone password else\ndefault login a password b\n")
    (tmp_path / ".netrc").chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))

    def authorise(request: Request) -> Flow:
        yield replace(request, headers={"Authorization": "Bearer mine"})

    with serving([answer(GOOD, headers={"Set-Cookie": "sid=1; Path=/"}, keep=True)] * 2) as server:
        plain = client(server.url, tmp_path)
        plain.send(GET)
        client(server.url, tmp_path, authoriser=authorise).send(GET)
    with serving([answer(GOOD, headers={"Set-Cookie": "sid=1; Path=/"})] * 2) as server:
        plain = client(server.url, tmp_path)
        plain.send(GET)
        plain.send(GET)
    first, second = server.seen
    assert not {"authorization", "cookie"} & (first.headers.keys() | second.headers.keys())


def test_a_credential_is_not_replaced_by_netrc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "netrc").write_text("default login a password b\n")
    (tmp_path / "netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))

    def authorise(request: Request) -> Flow:
        yield replace(request, headers={"Authorization": "Bearer mine"})

    with serving([answer(GOOD)]) as server:
        client(server.url, tmp_path, authoriser=authorise).send(GET)
    assert server.seen[0].headers["authorization"] == "Bearer mine"


def test_a_proxy_of_the_environment_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving([answer(GOOD)]) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        assert client("http://api.example", tmp_path).send(GET).body == GOOD
    assert [(seen.target, seen.headers["host"]) for seen in proxy.seen] == [
        ("http://api.example/things", "api.example")
    ]


def test_a_host_excepted_from_the_proxy_is_asked_directly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving([]) as proxy, serving([answer(GOOD)]) as server:
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        assert client(server.url, tmp_path).send(GET).body == GOOD
    assert proxy.seen == []


# What is sent


def test_a_request_arrives_as_it_was_planned(tmp_path: Path) -> None:
    asked = Request(
        "POST",
        "/api/%E8%AA%B2%E9%A1%8C%2F1",
        "POST /api/{key}",
        params=(("id", "1"), ("id", "2"), ("q", "a b&c=d/é+"), ("empty", "")),
        headers={"Content-Type": "application/json"},
        body=b'{"page": 1}',
    )
    with serving([answer(GOOD)]) as server:
        client(server.url, tmp_path).send(asked)
    (seen,) = server.seen
    assert (seen.method, seen.path, seen.params) == ("POST", asked.path, list(asked.params))
    assert (seen.body, seen.headers["content-type"]) == (asked.body, "application/json")
    assert (seen.headers["accept"], seen.headers["user-agent"]) == ("application/json", "etl-assets")


def test_requests_are_counted_with_their_repetitions(tmp_path: Path) -> None:
    with serving([answer(b"", 503), answer(GOOD), answer(GOOD)]) as server:
        sender = client(server.url, tmp_path)
        sender.send(GET)
        sender.send(GET)
        assert sender.requests == len(server.seen) == 3


# Authorisation in two steps


def test_an_authoriser_may_answer_a_refusal_with_a_fresh_token(tmp_path: Path) -> None:
    def authorise(request: Request) -> Flow:
        refused = yield replace(request, headers={"X-Token": "old"})
        if refused.status == 401:
            yield replace(request, headers={"X-Token": "new"})

    with serving([answer(b"", 503), answer(b"", 401), answer(b"", 503), answer(GOOD)]) as server:
        assert client(server.url, tmp_path, authoriser=authorise).send(GET).body == GOOD
    assert [seen.headers["x-token"] for seen in server.seen] == ["old", "old", "new", "new"]


# Errors inside answers with status 200

CODES = Errors(code="code", ok=[0, "ok"], message="msg", retry=[199, "E7"], reauth=[])


@pytest.mark.parametrize("body", [b'{"code": 0}', b'{"code": "0"}', b'{"code": "ok", "msg": "fine"}'])
def test_a_declared_success_code_is_a_success_as_text_or_number(tmp_path: Path, body: bytes) -> None:
    with serving([answer(body)]) as server:
        assert client(server.url, tmp_path).send(replace(GET, errors=CODES)).body == body


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b'{"code": 100, "msg": "bad sign"}', "100"),
        (b'{"code": "E1", "msg": "bad sign"}', "E1"),
        (b'{"msg": "bad sign"}', "None"),
        (b'{"code": null, "msg": "bad sign"}', "None"),
    ],
)
def test_an_error_inside_a_good_status_is_an_error_with_code_and_message(
    tmp_path: Path, body: bytes, code: str
) -> None:
    with (
        serving([answer(body)]) as server,
        pytest.raises(ApiError, match=f"^GET /things: error code {code}: bad sign$") as caught,
    ):
        client(server.url, tmp_path).send(replace(GET, errors=CODES))
    assert (caught.value.code, caught.value.status, len(server.seen)) == (code, 200, 1)


@pytest.mark.parametrize("code", ["199", '"199"', '"E7"'])
def test_an_error_code_declared_as_passing_is_asked_again(tmp_path: Path, code: str) -> None:
    body = f'{{"code": {code}, "msg": "slow"}}'.encode()
    with serving([answer(body), answer(b'{"code": 0}')]) as server:
        assert client(server.url, tmp_path).send(replace(GET, errors=CODES)).body == b'{"code": 0}'
    with (
        serving(repeat(answer(body))) as server,
        pytest.raises(ApiUnavailable, match=r"error code \w+: slow; gave up"),
    ):
        client(server.url, tmp_path).send(replace(GET, errors=CODES))


def test_a_long_error_message_is_cut(tmp_path: Path) -> None:
    with serving([answer(b'{"code": 5, "msg": "%b"}' % (b"m" * 5000))]) as server, pytest.raises(ApiError) as caught:
        client(server.url, tmp_path).send(replace(GET, errors=CODES))
    assert 150 < len(str(caught.value)) < 400


# Many at once

_SENDER = """
import sys, threading
from pathlib import Path
from etl_assets_tests.http import GET, client
sender = client(sys.argv[1], Path(sys.argv[2]), parallel=int(sys.argv[3]))
sys.stdin.readline()
threads = [threading.Thread(target=lambda: [sender.send(GET) for _ in range(5)]) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(sender.requests)
"""


@pytest.mark.parametrize("parallel", [1, 3])
def test_requests_in_flight_never_exceed_the_limit_over_two_processes(tmp_path: Path, parallel: int) -> None:
    with serving(repeat(held(answer(GOOD), 0.01))) as server:
        command = [sys.executable, "-c", _SENDER, server.url, str(tmp_path), str(parallel)]
        pipe = subprocess.PIPE
        senders = [subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) for _ in range(2)]
        done = [sender.communicate("go\n", timeout=25)[0].strip() for sender in senders]
    assert done == ["20", "20"]
    assert len(server.seen) == 40
    assert server.most_at_once == parallel


def test_requests_that_queued_behind_a_slow_answer_keep_to_the_rate(tmp_path: Path) -> None:
    with serving(chain([held(answer(GOOD), 1.3)], repeat(answer(GOOD)))) as server:
        sender = client(server.url, tmp_path, parallel=1, rates={"default": [Rate(count=2, seconds=1)]})
        with ThreadPoolExecutor(5) as pool:
            list(pool.map(lambda _: sender.send(GET), range(5)))
        assert sender.waited_seconds > 1, "waiting for a slot is waiting"
    times = [seen.at for seen in server.seen]
    assert len(times) == 5
    assert all(third - first > 0.5 for first, third in zip(times, times[2:], strict=False)), times
