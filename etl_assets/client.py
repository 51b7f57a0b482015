"""The one way out: HTTP with deadlines, retries, limits, redaction and typed errors.

What belongs here is true of every API. What one API does differently is declared in its stream file or
done by its authoriser. Nothing raised here carries a URL, a header or a body that was not scrubbed.
"""

import logging
import math
import random
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import SplitResult, urlencode, urljoin, urlsplit

import requests
import urllib3
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError, ProxyError

from etl_assets import answers, redact
from etl_assets.deadline import Adapter, ending
from etl_assets.errors import ApiError, ApiUnavailable, RetryableError
from etl_assets.limiter import Limiter
from etl_assets.messages import Answer, Authoriser, Flow, Request
from etl_assets.settings import Timeouts

log = logging.getLogger(__name__)

RETRY_STATUS = frozenset({408, 425, 429, *range(500, 600)})
ATTEMPTS = 7
LONGEST_BACKOFF_SECONDS = 60.0
LONGEST_REQUESTED_WAIT_SECONDS = 300.0
_HEADERS = {"Accept": "application/json", "Accept-Encoding": "gzip, deflate", "User-Agent": "etl-assets"}
_REDIRECTS = 3
_CHUNK = 1 << 16
_SHOWN = 200


@dataclass(frozen=True)
class _Again:
    """An outcome worth another attempt: why, and how long the API asked to wait."""

    why: str
    wait: float | None = None
    accepted: bool = True  # the API may have acted on the request


class Client:
    """Sends requests to one source. Thread-safe."""

    def __init__(
        self,
        base_url: str,
        *,
        authoriser: Authoriser,
        limiter: Limiter,
        timeouts: Timeouts,
        retry_base_seconds: float,
        max_response_bytes: int,
        connections: int,
    ) -> None:
        """`base_url` is scheme and host; `connections` is how many threads will use the client."""
        redact.install()
        self._base_url = base_url
        self._authoriser = authoriser
        self._limiter = limiter
        self._timeouts = timeouts
        self._retry_base = retry_base_seconds
        self._max_bytes = max_response_bytes
        self._pool, self._prefix = _connections(base_url, connections)
        self._count_lock = threading.Lock()
        self.requests = 0

    @property
    def waited_seconds(self) -> float:
        """Seconds spent waiting for the limiter, over all threads."""
        return self._limiter.waits.seconds

    def send(self, request: Request) -> Answer:
        """The API's good answer, its body one JSON value.

        Raises ApiError when the API refuses or its answer cannot be used, ApiUnavailable when no good
        answer came within the attempts and the total deadline.
        """
        flow = self._authoriser(request)
        deadline = time.monotonic() + self._timeouts.total
        answer = self._with_retries(next(flow), deadline)
        while (following := _advance(flow, answer)) is not None:
            answer = self._with_retries(following, deadline)
        _raise_for(answer, request)
        return answer

    def close(self) -> None:
        """Close the connections."""
        self._pool.close()

    def _with_retries(self, request: Request, deadline: float) -> Answer:
        label = request.label
        attempt = 0
        while isinstance(outcome := self._attempt(request, label, deadline), _Again):
            attempt += 1
            wait = self._wait_after(attempt, outcome.wait)
            if outcome.wait is not None:  # also when this request gives up: others are on their way
                self._limiter.pause(request.bucket, wait)
            if outcome.accepted and not request.repeatable:
                raise ApiUnavailable(f"{label}: {outcome.why}; not repeated, the API may have acted on it")
            if attempt == ATTEMPTS or time.monotonic() + wait > deadline:
                raise ApiUnavailable(redact.scrub(f"{label}: {outcome.why}; gave up after {attempt} attempts"))
            log.warning("%s: %s; attempt %d of %d in %.1f s", label, outcome.why, attempt + 1, ATTEMPTS, wait)
            time.sleep(wait)
        return outcome

    def _wait_after(self, attempt: int, asked: float | None) -> float:
        backoff: float = self._retry_base * 2 ** (attempt - 1) * random.uniform(0.5, 1.5)
        if not asked:
            return min(backoff, LONGEST_BACKOFF_SECONDS)
        return min(asked, LONGEST_REQUESTED_WAIT_SECONDS) + random.uniform(0, min(self._retry_base, 1.0) / 4)

    def _attempt(self, request: Request, label: str, deadline: float) -> Answer | _Again:
        try:
            with self._limiter.slot(deadline):
                # Inside the slot: who waited for one would else go later than reserved, and in a crowd.
                self._limiter.wait(request.bucket, deadline)
                answer = self._exchange(request, label, deadline)
                self._heed(answer, request.bucket)
        except RetryableError as error:
            raise ApiUnavailable(f"{label}: {error}") from None
        except urllib3.exceptions.SSLError as error:
            refusal = _text(f"{label}: TLS failed, check certificates and proxy: {error}")
        except (ConnectTimeoutError, NewConnectionError, ProxyError) as error:
            return _Again(_text(f"no connection ({error})"), accepted=False)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            return _Again(_text(f"no whole answer ({error})"))
        else:
            return self._judged(answer, request)
        raise ApiError(refusal, status=0)  # out here, where the error with the URL in it is not its context

    def _heed(self, answer: Answer, bucket: str) -> None:
        """Hold the bucket back when the API says that its budget is used up."""
        for prefix in ("X-RateLimit", "X-Rate-Limit"):
            if answer.headers.get(f"{prefix}-Remaining") == "0":
                wait = reset_wait(answer, time.time())
                self._limiter.pause(bucket, min(wait or 0.0, LONGEST_REQUESTED_WAIT_SECONDS))

    def _judged(self, answer: Answer, request: Request) -> Answer | _Again:
        """The answer if it settles the request, one way or the other; `_Again` if it does not."""
        if answer.status in RETRY_STATUS:
            asked = requested_wait(answer, time.time())
            return _Again(f"HTTP {answer.status}", asked, accepted=answer.status != 429)
        if answer.status >= 300:
            return answer
        try:
            answer = Answer(answer.status, answer.headers, answers.normal(answer.body))
        except answers.NotJson as error:
            return _Again(_text(f"HTTP {answer.status}, but no JSON ({error}): {beginning(answer.body)}"))
        code = _error_code(answer, request)
        if request.errors and code in {str(known) for known in request.errors.retry}:
            return _Again(_text(f"error code {code}: {_error_message(answer, request)}"))
        return answer

    def _exchange(self, request: Request, label: str, deadline: float) -> Answer:
        target = request.path + (f"?{urlencode(request.params)}" if request.params else "")
        for _ in range(_REDIRECTS + 1):
            answer = self._sent(request, target, label, deadline)
            location = answer.headers.get("Location")
            if answer.status not in (301, 302, 303, 307, 308) or not location:
                return answer
            there = _redirected(self._base_url + target, location)
            if there is None or there[:2] != urlsplit(self._base_url)[:2] or request.method != "GET":
                host = there.hostname if there else "an unreadable address"
                raise ApiError(
                    _text(f"{label}: redirected to {host}, which is not followed; check the base URL"),
                    status=answer.status,
                )
            target = there._replace(scheme="", netloc="", fragment="").geturl()
        raise ApiError(f"{label}: redirected more than {_REDIRECTS} times", status=answer.status)

    def _sent(self, request: Request, target: str, label: str, deadline: float) -> Answer:
        with self._count_lock:
            self.requests += 1
        left = max(deadline - time.monotonic(), 0.001)
        with ending(deadline):
            response = self._pool.urlopen(
                request.method,
                self._prefix + target,
                body=request.body,
                headers={**_HEADERS, **request.headers},
                timeout=urllib3.Timeout(min(self._timeouts.connect, left), min(self._timeouts.read, left)),
                retries=False,
                redirect=False,
                assert_same_host=False,  # the pool of a proxy is asked for the URLs of the API
                preload_content=False,
            )
        try:
            return Answer(response.status, response.headers, self._body(response, label))
        finally:
            response.close()  # what was not read to its end must not stand before the next answer
            response.release_conn()

    def _body(self, response: urllib3.BaseHTTPResponse, label: str) -> bytes:
        """The decoded body, read as it arrives so that a bomb is noticed in time."""
        chunks, size = [], 0
        while chunk := response.read1(_CHUNK, decode_content=True):
            chunks.append(chunk)
            size += len(chunk)
            if size > self._max_bytes:
                raise ApiError(
                    f"{label}: the answer exceeds {self._max_bytes / 1e6:.0f} MB; ask for less at a time, "
                    "or raise ETL_MAX_RESPONSE_MB",
                    status=response.status,
                )
        return b"".join(chunks)


def _connections(base_url: str, number: int) -> tuple[urllib3.HTTPConnectionPool, str]:
    """The pool of connections to the host, and what stands before the path of a request.

    Proxies and certificate bundles of the environment count, as requests reads them. There is no session: no
    cookies, no .netrc entry that would replace a header, no redirects followed unasked.
    """
    found = requests.Session().merge_environment_settings(base_url, {}, True, None, None)
    adapter = Adapter(pool_connections=1, pool_maxsize=number, max_retries=0, pool_block=True)
    base = requests.Request("GET", base_url).prepare()
    pool = adapter.get_connection_with_tls_context(base, found["verify"], found["proxies"], found["cert"])
    assert isinstance(pool, urllib3.HTTPConnectionPool)
    adapter.cert_verify(pool, base_url, found["verify"], found["cert"])  # type: ignore[no-untyped-call]
    return pool, adapter.request_url(base, found["proxies"]).rstrip("/")  # a plain HTTP proxy is given the whole URL


def requested_wait(answer: Answer, now: float) -> float | None:
    """Seconds that the API asks to wait: Retry-After in seconds or as a date, or a rate limit's reset time.

    `now` and reset times are epoch seconds. None when nothing readable is asked.
    """
    if (text := answer.headers.get("Retry-After")) is not None:
        try:
            if not math.isnan(seconds := float(text)):
                return max(seconds, 0.0)
        except ValueError:
            pass
        try:
            when = parsedate_to_datetime(text)
            return max((when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp() - now, 0.0)
        except (ValueError, OverflowError):
            pass
    return reset_wait(answer, now)


def reset_wait(answer: Answer, now: float) -> float | None:
    """Seconds until the rate limit's reset time (Backlog's or TROCCO's spelling), None without one."""
    for name in ("X-RateLimit-Reset", "X-Rate-Limit-Reset"):
        try:
            reset = float(answer.headers[name])
        except (KeyError, ValueError):
            continue
        if reset > datetime(2000, 1, 1, tzinfo=UTC).timestamp():
            return max(reset - now, 0.0)
    return None


def _redirected(url: str, location: str) -> SplitResult | None:
    """Where a redirect leads; None when it is no address."""
    try:
        return urlsplit(urljoin(url, location))
    except ValueError:
        return None


def _advance(flow: Flow, answer: Answer) -> Request | None:
    try:
        return flow.send(answer)
    except StopIteration:
        return None


def _raise_for(answer: Answer, request: Request) -> None:
    if answer.status >= 300:
        hint = {401: "; the credential is wrong, expired or replaced", 403: "; rights are missing"}
        raise ApiError(
            _text(f"{request.label}: HTTP {answer.status}{hint.get(answer.status, '')}: {beginning(answer.body)}"),
            status=answer.status,
        )
    if (code := _error_code(answer, request)) is not None:
        raise ApiError(
            _text(f"{request.label}: error code {code}: {_error_message(answer, request)}"),
            status=answer.status,
            code=code,
        )


def _error_code(answer: Answer, request: Request) -> str | None:
    """The error code inside the answer, None when it says success."""
    if request.errors is None:
        return None
    code = answers.value_at(answer.body, request.errors.code)
    return None if str(code) in map(str, request.errors.ok) else str(code)


def _error_message(answer: Answer, request: Request) -> str:
    path = request.errors.message if request.errors else None
    return redact.scrub(str(answers.value_at(answer.body, path) if path else ""))[:_SHOWN]


def beginning(body: bytes) -> str:
    """The first words of an answer, for an error's text."""
    known = redact.scrub_bytes(body)  # before the cut: half a secret would not be recognised
    return " ".join(known[: _SHOWN * 4].decode("utf-8", "replace").split())[:_SHOWN] or "empty body"


def _text(text: str) -> str:
    return redact.scrub(text)
