"""A million rows in one day, from an API through Cloud Storage into BigQuery, in a process that stays small."""

import json
import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from etl_assets.sandbox.google.handle import Google
from etl_assets.window import Window

ROWS, PAGE = 1_000_000, 5_000
MOST_MB = 500
DAY = date(2026, 1, 5)
FILE = """
source: many
title: Many
base_url: https://many.example
timezone: Asia/Tokyo
start: 2026-01-01
limits: {parallel: 2}
streams:
  - name: rows
    path: /rows
    params: {page: "{page}", day: "{since}"}
    paging: {type: page, size: 5000}
    window: {column: at}
    key: [id]
    columns: {id: integer, at: timestamp, name: string, amount: "decimal(12,2)", share: number, flag: boolean,
              tags: json}
"""


@contextmanager
def api() -> Iterator[tuple[str, list[float]]]:
    """An API with a million rows; gives its URL and the times at which it was asked."""
    asked: list[float] = []

    def row(number: int) -> dict[str, Any]:
        return {
            "id": number,
            "at": f"2026-01-05T{number % 24:02}:{number % 60:02}:00",
            "name": f"row {number} 日本",
            "amount": number / 100,
            "share": number / 7,
            "flag": number % 2 == 0,
            "tags": [number % 5, "x"],
            "more": number % 3,
        }

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = 1 << 16

        def do_GET(self) -> None:
            asked.append(time.time())
            first = (int(parse_qs(urlsplit(self.path).query)["page"][0]) - 1) * PAGE
            body = json.dumps([row(number) for number in range(first, min(first + PAGE, ROWS))]).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class calls it so
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_million_rows_stay_below_500_mb_and_are_uploaded_while_they_are_read(
    google: Google, env: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "many.yaml").write_text(FILE, "utf-8")
    with api() as (url, asked):
        settings = {"ETL_SOURCES_DIR": str(tmp_path), "ETL_DATA_DIR": str(tmp_path / "data"), "MANY_BASE_URL": url}
        command = [sys.executable, "-m", "etl_assets_tests.warehouse.test_million"]
        child = subprocess.run(
            command, env={**os.environ, **env, **settings}, capture_output=True, text=True, check=False
        )
        assert child.returncode == 0, child.stderr
    said = json.loads(child.stdout.splitlines()[-1])
    print(said)
    assert (said["rows"], said["in_table"], said["changed"]) == (ROWS, ROWS, True)
    assert said["peak_mb"] < MOST_MB
    uploads = [call["at"] for call in google.storage.calls() if "part-" in call["body"]]
    assert len(uploads) > 10
    during = [at for at in uploads if at < asked[-1]]
    assert len(during) > len(uploads) / 2


def main() -> None:
    from etl_assets.pipeline import Pipeline

    pipeline = Pipeline.from_environment()
    source = pipeline.sources["many"]
    stream, day = source.stream("rows"), Window.of_day(DAY, source.timezone)
    seconds, peaks = {}, {}
    for step in ("extract", "clean", "load"):
        started = time.monotonic()
        done = getattr(pipeline, step)(pipeline.api(source) if step == "extract" else source, *((stream, day, "run")))
        seconds[step] = round(time.monotonic() - started, 1)
        peaks[step] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    report = {"rows": done.rows, "in_table": done.rows_in_table, "changed": done.changed}
    print(json.dumps({**report, "peak_mb": max(peaks.values()), "peaks": peaks, "seconds": seconds}))


if __name__ == "__main__":
    main()
