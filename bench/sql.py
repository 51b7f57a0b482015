"""The benchmark of SQL: SELECT * over many issues, page by page, beside shillelagh on the same server in one run.

Both read the same columns of the same pages over one connection, and fetch rows in lots. Ratios matter; seconds depend
on the machine. Writes `bench/sql-result.json`.
"""

import argparse
import asyncio
import json
import os
import re
import resource
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

PAGE = 100
LOT = 1_000
KEY = "key-of-the-benchmark"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rows", type=int, default=100_000)
    options.add_argument("--repeat", type=int, default=3)
    asked = options.parse_args()
    runs: dict[str, list[dict[str, float]]] = {"etl_assets": [], "shillelagh": []}
    with server(asked.rows) as url:
        for _ in range(asked.repeat):
            for name, found in runs.items():  # in turn, so that a slow spell of the machine hits both
                found.append(in_child(name, url))
    result = {
        "rows": asked.rows,
        "rows_per_second": {name: round(median(run["rows"] / run["seconds"] for run in r)) for name, r in runs.items()},
        "memory_growth_mb": {name: round(max(run["growth_mb"] for run in r)) for name, r in runs.items()},
        "ratio": round(
            median(b["seconds"] / a["seconds"] for a, b in zip(runs["etl_assets"], runs["shillelagh"], strict=True)), 2
        ),
        "cpu_ratio": round(
            median(b["cpu"] / a["cpu"] for a, b in zip(runs["etl_assets"], runs["shillelagh"], strict=True)), 2
        ),
    }
    shown = json.dumps(result, indent=1)
    Path(__file__).with_name("sql-result.json").write_text(shown + "\n")
    print(shown)


def in_child(name: str, url: str) -> dict[str, float]:
    """What the named function measured in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        env = {**os.environ, "ETL_DATA_DIR": folder, "ETL_SOURCES_DIR": folder, "BENCH_URL": url}
        _without_waits(Path(folder))
        done = subprocess.run([sys.executable, __file__, name], env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{name} failed: {done.stderr}")
    measured: dict[str, float] = json.loads(done.stdout)
    return measured


def _without_waits(folder: Path) -> None:
    from etl_assets.streamfiles import packaged_files

    (file,) = (file for file in packaged_files() if file.stem == "backlog")
    text = re.sub(r"limits: \{.*\}", "limits: {parallel: 1, rates: {search: [100000/1s]}}", file.read_text("utf-8"))
    (folder / "backlog.yaml").write_text(text, "utf-8")


@contextmanager
def server(rows: int) -> Iterator[str]:
    """The list of issues on loopback, in a process of its own."""
    child = subprocess.Popen([sys.executable, __file__, "serve", str(rows)], stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout
        yield child.stdout.readline().strip()
    finally:
        child.terminate()
        child.wait()


def serve(rows: int) -> None:
    """Pages of issues as the sandbox shows them, with ids of their own."""
    import msgspec
    import requests

    from etl_assets.sandbox.server import running

    with running(vendors=["backlog"]) as sandbox:
        env = sandbox.env()
        query = {"apiKey": env["BACKLOG_API_KEY"], "count": PAGE, "sort": "created", "order": "asc"}
        shown = requests.get(f"{env['BACKLOG_BASE_URL']}/api/v2/issues", params=query, timeout=60).json()

    def page(offset: int, count: int) -> bytes:
        issues = shown[: max(min(count, rows - offset), 0)]
        for place, issue in enumerate(issues):
            issue["id"] = offset + place + 1
        return msgspec.json.encode(issues)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except asyncio.IncompleteReadError:
                return writer.close()
            found = re.search(rb"offset=(\d+)", head)
            body = page(int(found[1]) if found else 0, PAGE)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body))
            writer.write(body)

    async def forever() -> None:
        listener = socket.create_server(("127.0.0.1", 0))
        print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
        await (await asyncio.start_server(answer, sock=listener)).serve_forever()

    asyncio.run(forever())


def etl_assets() -> Any:
    """A cursor of ours."""
    from etl_assets.sql import backlog

    connection = backlog.connect(f"ApiKey={KEY};Url={os.environ['BENCH_URL']}")
    connection.execute("SELECT * FROM Issues LIMIT 1").fetchall()
    return connection.cursor()


def shillelagh() -> Any:
    """A cursor of shillelagh, with an adapter for the same list."""
    import requests
    from shillelagh.adapters.base import Adapter
    from shillelagh.adapters.registry import registry
    from shillelagh.backends.apsw.db import connect
    from shillelagh.fields import Boolean, Float, Integer, ISODate, ISODateTime, Order, String

    from etl_assets.sql.tables import Table
    from etl_assets.streamfiles import load_sources

    backlog = load_sources()["backlog"]
    table = Table(backlog, backlog.stream("issues"))
    kinds = {
        "BIGINT": Integer, "VARCHAR": String, "JSON": String, "DOUBLE": Float, "BOOLEAN": Boolean, "DATE": ISODate,
        "TIMESTAMP WITH TIME ZONE": ISODateTime,
    }  # fmt: skip
    places = [(name, paths[0].split("."), table.types[name]) for name, paths, _ in table.stream.field_columns()]

    class Issues(Adapter):  # type: ignore[misc]
        safe = True
        supports_limit = supports_offset = False

        @staticmethod
        def supports(uri: str, fast: bool = True, **_: Any) -> bool:
            return uri == "issues"

        @staticmethod
        def parse_uri(uri: str) -> tuple[str]:
            return (uri,)

        def __init__(self, uri: str) -> None:
            super().__init__()
            self._session = requests.Session()

        def get_columns(self) -> dict[str, Any]:
            return {name: kinds[kind](filters=[], order=Order.NONE, exact=False) for name, _, kind in places}

        def get_data(self, bounds: Any, order: Any, **_: Any) -> Iterator[dict[str, Any]]:
            offset = 0
            while True:
                query = {"apiKey": KEY, "count": PAGE, "offset": offset, "sort": "created", "order": "asc"}
                answer = self._session.get(f"{os.environ['BENCH_URL']}/api/v2/issues", params=query, timeout=60)
                answer.raise_for_status()
                rows = answer.json()
                for row in rows:
                    yield {"rowid": row["id"], **{name: _value(row, path, kind) for name, path, kind in places}}
                if len(rows) < PAGE:
                    return
                offset += PAGE

    def _value(row: Any, path: list[str], kind: str) -> Any:
        for step in path:
            row = row.get(step) if isinstance(row, dict) else None
        if row is None:
            return None
        if kind == "JSON":
            return json.dumps(row, ensure_ascii=False)
        return row[:10] if kind == "DATE" else row  # its fields read texts themselves

    registry.add("issues", Issues)
    cursor = connect(":memory:", ["issues"]).cursor()
    cursor.execute('SELECT * FROM "issues" LIMIT 1').fetchall()
    return cursor


def measure(cursor: Any) -> dict[str, float]:
    """Rows, seconds, and by how much the most memory in use exceeds that before the statement."""
    before = _resident_mb()
    started, cpu, rows = time.monotonic(), time.process_time(), 0
    cursor.execute('SELECT * FROM "issues"')
    while lot := cursor.fetchmany(LOT):
        rows += len(lot)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "rows": rows,
        "seconds": time.monotonic() - started,
        "cpu": time.process_time() - cpu,
        "growth_mb": peak - before,
    }


def _resident_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["serve", rows]:
            serve(int(rows))
        case ["etl_assets" | "shillelagh" as which]:
            print(json.dumps(measure({"etl_assets": etl_assets, "shillelagh": shillelagh}[which]())))
        case _:
            main()
