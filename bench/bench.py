"""The benchmark: one day of time entries of many members, on the sandbox, in one run.

Compares the library and the command line with threads that only download, and with the plain script that
people write first (requests, csv, COPY). Ratios matter; seconds depend on the machine. Writes
`bench/result.json`. What a million rows need is in `etl_assets_tests/orchestration/test_memory.py`.
"""

import argparse
import csv
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests

DAY = "2026-01-05"
ENTRIES_PER_MEMBER = 100
SELECT = '+key:"warehouse/tmetric/time_entries"'
EMPTY_ASSET = "import dagster as dg\n@dg.asset\ndef empty(): pass\ndefs = dg.Definitions(assets=[empty])\n"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rows", type=int, default=100_000)
    options.add_argument("--latency-ms", type=float, nargs="*", default=[0, 50])
    options.add_argument("--parallel", type=int, default=16)
    options.add_argument("--repeat", type=int, default=3)
    asked = options.parse_args()
    result: dict[str, Any] = {"rows": asked.rows, "parallel": asked.parallel, "cores": os.cpu_count(), "runs": []}
    with sandbox(asked.rows) as env:
        env |= {"TMETRIC_PARALLEL": str(asked.parallel)}
        for latency in asked.latency_ms:
            set_latency(env, latency / 1000)
            result["runs"].append(compare(env, asked.rows, latency, asked.repeat))
    shown = json.dumps(result, indent=1)
    Path(__file__).with_name("result.json").write_text(shown + "\n")
    print(shown)


def compare(env: dict[str, str], rows: int, latency: float, repeat: int) -> dict[str, Any]:
    """The best seconds of each way, taken in turn: what else the machine does only ever adds to them."""
    ways: dict[str, Callable[[Path], float]] = {
        "download": lambda _: in_child(env, "download"),
        "plain_script": lambda folder: in_child(env, "plain", folder),
        "library": lambda folder: in_child(env, "library", folder),
        "command_line": lambda folder: command_line(env, folder),
        "empty_asset": lambda folder: empty_asset(folder),
    }
    if latency and rows > 10_000:
        del ways["plain_script"]  # serial: a request after the other says nothing new and takes minutes
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    peaks: dict[str, int] = {}
    for _ in range(repeat):
        for name, way in ways.items():
            with tempfile.TemporaryDirectory() as folder:
                seconds[name].append(way(Path(folder)))
                peaks[name] = max(peaks.get(name, 0), LAST_PEAK[0])
    best = {name: round(min(values), 2) for name, values in seconds.items()}
    return {
        "latency_ms": latency,
        "seconds": best,
        "peak_mb": peaks,
        "rows_per_second": round(rows / best["library"]),
        "library_to_download": round(best["library"] / best["download"], 2),
        "command_line_less_floor_to_download": round(
            (best["command_line"] - best["empty_asset"]) / best["download"], 2
        ),
    }


LAST_PEAK = [0]


def measured(command: list[str], env: dict[str, str]) -> tuple[float, str]:
    """Wall seconds of a command and what it printed; its peak memory goes to LAST_PEAK (MB)."""
    started = time.monotonic()
    child = subprocess.Popen(command, env={**os.environ, **env}, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert child.stdout
    output = child.stdout.read().decode()
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        sys.exit(f"{command} failed with {child.returncode}")
    LAST_PEAK[0] = usage.ru_maxrss // 1024
    return time.monotonic() - started, output


def in_child(env: dict[str, str], name: str, folder: Path | None = None) -> float:
    """Seconds that the named function took in a process of its own, without the start of Python."""
    _, output = measured(
        [sys.executable, __file__, name],
        {**env, "ETL_DATA_DIR": str(folder), "BENCH_CHILD": "1"},
    )
    return float(output)


def command_line(env: dict[str, str], folder: Path) -> float:
    command = ["dagster", "asset", "materialize", "-m", "etl_assets.definitions", "--select", SELECT]
    return measured([*command, "--partition", DAY], {**env, "ETL_DATA_DIR": str(folder), "DAGSTER_HOME": ""})[0]


def empty_asset(folder: Path) -> float:
    module = folder / "empty_asset.py"
    module.write_text(EMPTY_ASSET)
    return measured(["dagster", "asset", "materialize", "-f", str(module), "--select", "empty"], {"DAGSTER_HOME": ""})[
        0
    ]


@contextmanager
def sandbox(rows: int) -> Iterator[dict[str, str]]:
    scale = rows / ENTRIES_PER_MEMBER
    command = [shutil.which("etl-assets") or "etl-assets", "sandbox", "--days", "1", "--scale", str(scale)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout
        env = {}
        for line in server.stdout:
            if line.strip() == "ready":
                break
            name, _, value = line.strip().partition("=")
            env[name] = value
        yield env
    finally:
        server.terminate()
        server.wait()


def set_latency(env: dict[str, str], seconds: float) -> None:
    base = env["TMETRIC_BASE_URL"]
    requests.delete(f"{base}/_sandbox/faults", timeout=10).raise_for_status()
    if seconds:
        fault = {"path": "/timeentries", "times": -1, "delay": seconds}
        requests.post(f"{base}/_sandbox/faults", json=fault, timeout=10).raise_for_status()


def _members() -> list[int]:
    answer = _get(requests.Session(), "/api/accounts/{}/members")
    return [row["userProfile"]["userProfileId"] for row in answer.json()]


def _get(session: requests.Session, path: str, **params: Any) -> requests.Response:
    url = os.environ["TMETRIC_BASE_URL"] + path.format(os.environ["TMETRIC_ACCOUNT_ID"])
    headers = {"Authorization": f"Bearer {os.environ['TMETRIC_TOKEN']}"}
    answer = session.get(url, params=params, headers=headers, timeout=60)
    answer.raise_for_status()
    return answer


def _entries(session: requests.Session, member: int) -> bytes:
    path = "/api/v3/accounts/{}/timeentries"
    return _get(session, path, userId=member, startDate="2026-01-04", endDate="2026-01-06").content


def download() -> None:
    """Only the requests, by as many threads as the library uses."""
    parallel = int(os.environ["TMETRIC_PARALLEL"])
    members = _members()
    sessions = [requests.Session() for _ in range(parallel)]

    def share(number: int) -> int:
        return sum(len(_entries(sessions[number], member)) for member in members[number::parallel])

    with ThreadPoolExecutor(parallel) as pool:
        assert sum(pool.map(share, range(parallel)))


def plain() -> None:
    """One request after the other, a CSV file, COPY into DuckDB."""
    import duckdb

    folder = Path(os.environ["ETL_DATA_DIR"])
    session = requests.Session()
    with (folder / "entries.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "user_id", "start", "end", "task", "project", "note"])
        for member in _members():
            for row in json.loads(_entries(session, member)):
                names = [(row.get(part) or {}).get("name") for part in ("task", "project")]
                writer.writerow([row["id"], member, row["startTime"], row["endTime"], *names, row.get("note")])
    with duckdb.connect(str(folder / "plain.duckdb")) as db:
        db.execute(f"CREATE TABLE entries AS FROM read_csv('{folder / 'entries.csv'}', all_varchar = true)")


def library() -> None:
    """The three steps without Dagster."""
    from datetime import date

    from etl_assets.pipeline import Pipeline
    from etl_assets.window import Window

    pipeline = Pipeline.from_environment()
    source = pipeline.sources["tmetric"]
    stream = source.stream("time_entries")
    day = Window.of_day(date.fromisoformat(DAY), source.timezone)
    stages: dict[str, str] = {}
    for name, step in {
        "extract": lambda: pipeline.extract(pipeline.api(source), stream, day, "bench"),
        "clean": lambda: pipeline.clean(source, stream, day, "bench"),
        "load": lambda: pipeline.load(source, stream, day, "bench"),
    }.items():
        started = time.monotonic()
        done = step()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        stages[name] = f"{time.monotonic() - started:.2f} s, peak {peak} MB"
    print(f"{done.rows} rows: {stages}", file=sys.stderr)


if __name__ == "__main__":
    if "BENCH_CHILD" in os.environ:
        import duckdb  # noqa: F401 - like the others: what is measured is work, not the start of Python

        import etl_assets.pipeline  # noqa: F401

        started = time.monotonic()
        {"download": download, "plain": plain, "library": library}[sys.argv[1]]()
        print(time.monotonic() - started)
    else:
        main()
