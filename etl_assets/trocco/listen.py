"""The receiver of TROCCO's HTTP notifications: what they say of a run goes into the ledger.

It listens on loopback; a reverse proxy with TLS stands between it and TROCCO. A notification that never comes is a
deadline that passes, one that comes twice says the same again.
"""

import hmac
import json
import logging
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, get_args

from etl_assets import redact
from etl_assets.errors import EtlError, SettingError
from etl_assets.pipeline import Pipeline
from etl_assets.settings import connection
from etl_assets.trocco.ledger import Ledger
from etl_assets.trocco.run import SOURCE, ledger_of
from etl_assets.trocco.spec import Kind

log = logging.getLogger(__name__)

TOKEN = "TROCCO_NOTIFY_TOKEN"  # noqa: S105 - the name of a variable
_WORDS = ("succeeded", "failed", "error", "canceled", "skipped")
_MOST_BYTES = 10_000


def receiver(pipeline: Pipeline, port: int) -> ThreadingHTTPServer:
    """A server that waits to be served. Raises SettingError without TROCCO_NOTIFY_TOKEN."""
    values = connection(pipeline.sources[SOURCE]).values
    if TOKEN not in values:
        raise SettingError(f"{TOKEN} is not set: {pipeline.sources[SOURCE].settings[TOKEN].help}")
    expected, ledger = f"Bearer {values[TOKEN]}", ledger_of(pipeline)

    class Handler(BaseHTTPRequestHandler):
        timeout = 30

        def do_POST(self) -> None:
            """Take one notification."""
            given = self.headers.get("Authorization", "")
            if not hmac.compare_digest(given.encode(), expected.encode()):
                self._answer(401)
                return
            try:
                size = int(self.headers.get("Content-Length", 0))
                take(ledger, json.loads(self.rfile.read(min(size, _MOST_BYTES)), strict=False), time.time())
            except ValueError as error:
                log.warning("notification refused: %s", redact.scrub(str(error)))
                self._answer(400)
            except EtlError as error:
                log.error("%s", redact.scrub(str(error)))
                self._answer(503)
            else:
                self._answer(204)

        def _answer(self, status: int) -> None:
            self.send_response(status)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class calls it so
            log.debug(format, *args)

    return ThreadingHTTPServer(("127.0.0.1", port), Handler)


def take(ledger: Ledger, message: Any, now: float) -> bool:
    """Keep what a notification says; False for a test send. Raises ValueError when it is not in the agreed form."""
    if not isinstance(message, dict) or not str(message.get("id", "")).isdigit():
        raise ValueError('a notification is {"kind": "datamart", "id": "{{ JOB_ID }}", "status": "{{ JOB_STATUS }}"}')
    kind, status = message.get("kind", "datamart"), str(message.get("status"))
    if int(message["id"]) == 0 or "[test]" in status:
        return False
    if kind not in get_args(Kind) or status not in _WORDS:
        raise ValueError(f"unknown kind or status: {kind}, {status[:20]}")
    ledger.notice(kind, int(message["id"]), status, now)
    return True
