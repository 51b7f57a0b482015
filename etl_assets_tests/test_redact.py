"""No secret in any text: forms of a value, log records, and everything a failing client says."""

import base64
import contextlib
import html
import json
import logging
import random
import socket
import string
import threading
import traceback
import urllib.parse
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import repeat
from pathlib import Path

import pytest

from etl_assets import auth, redact
from etl_assets.errors import EtlError
from etl_assets.messages import Authoriser, Request
from etl_assets.settings import Timeouts
from etl_assets.spec import BearerAuth, Errors, HeaderAuth, QueryAuth
from etl_assets_tests.http import GET, POST, Play, Seen, answer, chunked, client, reset, serving, silence

pytestmark = pytest.mark.timeout(30)

TOKEN = 'tk/9+a b="c&d%e\\f~0/Zz8?q'
FORMS: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "quote": urllib.parse.quote,
    "quote all": lambda secret: urllib.parse.quote(secret, safe=""),
    "quote_plus": urllib.parse.quote_plus,
    "urlencode": lambda secret: urllib.parse.urlencode({"key": secret}),
    "JSON": json.dumps,
    "JSON with letters": lambda secret: json.dumps({"key": secret}, ensure_ascii=False),
    "repr": repr,
    "HTML": html.escape,
    "base64": lambda secret: base64.b64encode(secret.encode()).decode(),
    "base64 for URLs": lambda secret: base64.urlsafe_b64encode(secret.encode()).decode(),
}
each_form = pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())


def telltales(secret: str) -> set[str]:
    """Texts that give the secret away: every form of it, and the heart of it inside any longer base64."""
    raw, found = secret.encode(), set()
    for shift in range(3):
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            found.add(encode(b":" * shift + raw).decode()[4:-4])
    return found | {form(secret).strip("\"'") for form in FORMS.values()} | {secret[4:-4], secret[:12], secret[-12:]}


def assert_silent(text: str, secret: str) -> None:
    for telltale in telltales(secret):
        assert telltale not in text


@pytest.fixture(autouse=True)
def registered() -> None:
    redact.register(TOKEN)


# Forms of a value


@each_form
def test_a_secret_is_masked_in_every_form(form: Callable[[str], str]) -> None:
    text = f"asked with {form(TOKEN)} in vain"
    assert_silent(redact.scrub(text), TOKEN)
    assert redact.scrub(text).startswith("asked with ")
    assert redact.scrub(text).endswith(" in vain")
    assert redact.MASK in redact.scrub(text)
    assert redact.scrub_bytes(text.encode()) == redact.scrub(text).encode()


@pytest.mark.parametrize("before", ["", "u", "us", "user:", "someone@example.com:"])
@pytest.mark.parametrize("after", ["", "x", "\r\n", ":more"])
@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
def test_a_secret_is_masked_inside_a_longer_base64_text(
    before: str, after: str, encode: Callable[[bytes], bytes]
) -> None:
    text = f"Authorization: Basic {encode(f'{before}{TOKEN}{after}'.encode()).decode()}"
    assert_silent(redact.scrub(text), TOKEN)
    assert redact.MASK in redact.scrub(text)


@pytest.mark.parametrize(
    "alphabet",
    [string.hexdigits, string.ascii_letters + string.digits + "+/=", string.printable.strip(), "日本語🔑abc +"],
    ids=["hex", "base64", "printable", "unicode"],
)
@pytest.mark.parametrize("length", [12, 13, 14, 40])
def test_any_secret_is_masked_in_every_form(alphabet: str, length: int) -> None:
    rng = random.Random(f"{alphabet}{length}")
    for _ in range(2):
        secret = "".join(rng.choices(alphabet, k=length)).strip().ljust(length, "x")
        redact.register(secret)
        for form in FORMS.values():
            for text in (form(secret), form(f"u:{secret}"), form(f"ab{secret}c")):
                assert_silent(redact.scrub(f"<{text}>"), secret)


def test_a_secret_that_begins_another_does_not_uncover_it() -> None:
    redact.register("prefix-0123456789")
    redact.register("prefix-0123456789-and-the-rest")
    assert redact.scrub("prefix-0123456789-and-the-rest; prefix-0123456789") == "***; ***"


def test_other_text_stays_as_it_is() -> None:
    text = 'GET /things?updatedSince=2026-01-05&count=100: HTTP 404 {"key": "日本語"}'
    assert redact.scrub(text) == text
    data = text.encode()
    assert redact.scrub_bytes(data) is data


@pytest.mark.parametrize("nothing", ["", "   ", "\n"])
def test_an_empty_secret_masks_nothing(nothing: str) -> None:
    redact.register(nothing)
    assert redact.scrub("a b\nc") == "a b\nc"


def test_blanks_around_a_secret_do_not_hide_it() -> None:
    redact.register("  spaced-secret-1234\n")
    assert redact.scrub("Bearer spaced-secret-1234") == "Bearer ***"


# Log records


@dataclass
class Log:
    """What a handler at the root wrote, tracebacks included."""

    handler: logging.Handler
    lines: list[str]

    @property
    def text(self) -> str:
        return "\n".join(self.lines)


@pytest.fixture
def log() -> Iterator[Log]:
    redact.install()
    lines: list[str] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(self.format(record))

    root, handler = logging.getLogger(), Handler()
    level = root.level
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s %(message)s"))
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield Log(handler, lines)
    root.setLevel(level)
    root.removeHandler(handler)


@each_form
def test_log_records_of_any_logger_are_masked(log: Log, form: Callable[[str], str]) -> None:
    somebody = logging.getLogger("somebody.else")
    somebody.debug("GET %s took %d ms", form(TOKEN), 5)
    somebody.info(f"sent {form(TOKEN)}")
    somebody.warning("%(key)s is wrong", {"key": form(TOKEN)})
    somebody.error(ValueError(form(TOKEN)))
    assert len(log.lines) == 4
    assert log.text.count(redact.MASK) == 4
    assert_silent(log.text, TOKEN)


def test_a_logged_traceback_is_masked(log: Log) -> None:
    try:
        try:
            raise KeyError(f"cause {TOKEN}")
        except KeyError as error:
            raise ValueError(f"effect {TOKEN}") from error
    except ValueError:
        logging.getLogger("somebody.else").exception("it failed with %s", TOKEN)
    assert "it failed with ***" in log.text
    assert "ValueError: effect ***" in log.text
    assert "cause ***" in log.text
    assert_silent(log.text, TOKEN)


def test_a_traceback_without_a_secret_stays_an_exception_of_the_record(
    log: Log, caplog: pytest.LogCaptureFixture
) -> None:
    try:
        raise ValueError("harmless")
    except ValueError:
        logging.getLogger("somebody.else").exception("it failed")
    (record,) = [record for record in caplog.records if record.name == "somebody.else"]
    assert record.exc_info
    assert "ValueError: harmless" in log.text


def test_a_record_whose_arguments_do_not_fit_harms_nobody_and_shows_nothing(
    log: Log, capsys: pytest.CaptureFixture[str]
) -> None:
    logging.getLogger("somebody.else").info("%d rows for %d", "many", TOKEN)
    logging.getLogger("somebody.else").info("no place for it", TOKEN)
    assert_silent(log.text + capsys.readouterr().err, TOKEN)


def test_records_without_a_secret_keep_their_arguments(log: Log, caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("somebody.else").info("%d rows", 5)
    assert caplog.records[-1].args == (5,)
    assert log.lines[-1] == "INFO somebody.else 5 rows"


def test_installing_twice_wraps_once() -> None:
    redact.install()
    factory = logging.getLogRecordFactory()
    redact.install()
    assert logging.getLogRecordFactory() is factory


# Everything a failing client says

VALUES = {"KEY": TOKEN}
NO_STORE = Path("/nonexistent")  # these ways keep no token
STYLES: dict[str, Authoriser] = {
    "bearer": auth.authoriser([BearerAuth(type="bearer", token="KEY")], VALUES, NO_STORE),
    "header": auth.authoriser([HeaderAuth(type="header", name="X-Key", value="Token {KEY}")], VALUES, NO_STORE),
    "query": auth.authoriser([QueryAuth(type="query", name="apiKey", value="{KEY}")], VALUES, NO_STORE),
}
CODES = Errors(code="code", ok=[0], message="msg", retry=[7])


def echo(status: int, form: Callable[[str], str], before: str = "") -> Callable[[Seen], Play]:
    """Answers that repeat the credential, as error pages do."""
    return lambda seen: answer(f"{before}{form(TOKEN)} of {seen.target} {seen.headers}".encode(), status)


def elsewhere(seen: Seen) -> Play:
    return answer(b"", 302, {"Location": f"http://{urllib.parse.quote(TOKEN, safe='')}.example/{TOKEN}"})


def strange_header(seen: Seen) -> Play:
    return f"HTTP/1.1 200 OK\r\nno colon {TOKEN}\r\nX: {TOKEN}\r\n\r\n<html>{TOKEN}".encode()


FAILURES: dict[str, Callable[[Seen], Play]] = {
    **{f"{status} echoed as {name}": echo(status, form) for status in (401, 200, 503) for name, form in FORMS.items()},
    **{f"401 echoed at {n}": echo(401, str, "x" * n) for n in (150, 180, 190, 195, 199)},
    **{f"200 echoed after {n} blanks": echo(200, str, " " * n) for n in (780, 790, 5000)},
    "an error code": lambda seen: answer(json.dumps({"code": 5, "msg": f"{TOKEN} {seen.target}"}).encode()),
    "a passing error code": lambda seen: answer(json.dumps({"code": 7, "msg": TOKEN}).encode()),
    "a code that is the secret": lambda seen: answer(json.dumps({"code": TOKEN, "msg": "x"}).encode()),
    **{
        f"a message cut at {n}": lambda seen, n=n: answer(json.dumps({"code": 5, "msg": "x" * n + TOKEN}).encode())
        for n in (180, 190, 195)
    },
    "a redirect": elsewhere,
    "a strange header": strange_header,
    "a reset": lambda seen: reset,
    "a hang-up": lambda seen: b"",
    "silence": lambda seen: silence,
    "a status line": lambda seen: f"HTTP/1.1 {TOKEN}\r\n\r\n".encode(),
    "a cut body": lambda seen: chunked(f"[{json.dumps(TOKEN)}".encode(), end=b""),
    "a bad chunk": lambda seen: chunked(b"[", end=f"{TOKEN}\r\n".encode()),
    "too much": lambda seen: answer(json.dumps([TOKEN] * 1000).encode()),
}


def everything_said(error: BaseException) -> str:
    """All texts of the exception and of those behind it, suppressed or not."""
    said, todo, known = [], [error], set()
    while todo:
        one = todo.pop()
        if id(one) not in known:
            known.add(id(one))
            said += [str(one), repr(one), repr(one.args), *traceback.format_exception(one)]
            todo += [behind for behind in (one.__cause__, one.__context__) if behind is not None]
    return "\n".join(said)


@pytest.mark.one_in(5)
@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("failure", FAILURES)
def test_a_failing_client_keeps_its_credential_to_itself(tmp_path: Path, log: Log, style: str, failure: str) -> None:
    with serving(FAILURES[failure]) as server, pytest.raises(EtlError) as caught:
        client(
            server.url,
            tmp_path,
            authoriser=STYLES[style],
            timeouts=Timeouts(connect=1, read=0.1, total=0.3),
            max_response_bytes=5_000,
        ).send(replace(GET, errors=CODES))
    assert TOKEN in "".join([*server.seen[0].headers.values(), *dict(server.seen[0].params).values()])
    assert_silent(everything_said(caught.value), TOKEN)
    assert_silent(log.text, TOKEN)
    assert "urllib3" in log.text, "the log is looked at below the library, too"


each_kind = pytest.mark.parametrize("request_", [GET, POST], ids=["repeatable", "not repeatable"])


@each_kind
@pytest.mark.parametrize("style", STYLES)
def test_a_client_that_finds_nobody_keeps_its_credential_to_itself(
    tmp_path: Path, log: Log, style: str, request_: Request
) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        with pytest.raises(EtlError, match="refused") as caught:
            client(url, tmp_path, authoriser=STYLES[style]).send(request_)
    assert_silent(everything_said(caught.value), TOKEN)
    assert_silent(log.text, TOKEN)


@each_kind
@pytest.mark.parametrize("style", STYLES)
def test_a_client_that_finds_no_tls_keeps_its_credential_to_itself(
    tmp_path: Path, log: Log, style: str, request_: Request
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        speaker = threading.Thread(target=speak_plainly, args=(listener,))
        speaker.start()
        url = f"https://127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(EtlError, match="TLS failed") as caught:
            client(url, tmp_path, authoriser=STYLES[style]).send(request_)
        speaker.join()
    assert_silent(everything_said(caught.value), TOKEN)
    assert_silent(log.text, TOKEN)


def speak_plainly(listener: socket.socket) -> None:
    """Answer the first TLS greeting as a server that knows none."""
    connection, _ = listener.accept()
    with connection, contextlib.suppress(OSError):
        connection.recv(1 << 16)
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        while connection.recv(1 << 16):
            pass


@pytest.mark.parametrize("style", STYLES)
def test_a_good_exchange_logs_no_credential(tmp_path: Path, log: Log, style: str) -> None:
    with serving(repeat(answer(b"[]"))) as server:
        client(server.url, tmp_path, authoriser=STYLES[style]).send(GET)
    assert "urllib3" in log.text
    assert_silent(log.text, TOKEN)
