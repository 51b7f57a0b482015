"""Five days of a source at once, each in a process of its own as runs are: together they keep to the vendor's limits.

The simulators enforce the vendors' limits of a minute or so. Those of the stream file are made shorter, so that they
matter within seconds, and are looked for in the log. A request may arrive a little earlier or later than planned.
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import pytest

from etl_assets.spec import Rate
from etl_assets_tests.sources.truth import Lab, Row, day, lab, output

READ = """
import sys
from datetime import date
from etl_assets.pipeline import Pipeline
from etl_assets.window import Window
pipeline = Pipeline.from_environment()
source = pipeline.sources[sys.argv[1]]
day = Window.of_day(date.fromisoformat(sys.argv[3]), source.timezone)
pipeline.extract(pipeline.api(source), source.stream(sys.argv[2]), day, "run")
"""
DAYS = [day(number) for number in range(1, 6)]
JITTER = 0.75  # seconds
TAKES = 0.04  # seconds that every answer takes


@dataclass(frozen=True)
class Case:
    """A stream whose day takes a few requests; `vendor` is the change that brings the vendor's own limits."""

    stream: str
    path: str
    rates: dict[str, list[str]]
    scale: float
    size: int = 0
    parallel: int = 1
    vendor: tuple[str, Row] = ("settings", {})
    truth: Row = field(default_factory=dict)


CASES = {
    # No limit is published. The file permits four at once, whoever asks.
    "tmetric": Case("time_entries", "/api", {}, 0.1, parallel=4),
    # 150 searches and 600 reads a minute, one request at a time.
    "backlog": Case(
        "issues",
        "/api/v2/issues",
        {"search": ["5/2s"]},
        0.01,
        size=25,
        vendor=("settings", {"limits": {"search": 150, "read": 600}}),
        truth={"stream": "issues"},
    ),
    # 5 a second and 100 a minute.
    "jushuitan": Case(
        "orders",
        "/open/orders/single/query",
        {"default": ["5/1s", "10/3s"]},
        0.04,
        size=2,
        vendor=("settings", {"per_second": 0, "per_minute": 100}),
        truth={"stream": "orders"},
    ),
    # 100 calls in 20 seconds, 10 tokens a minute, never two at once.
    "fxiaoke": Case(
        "inventory_reports",
        "/data/query",
        {"default": ["6/2s"]},
        0.01,
        size=3,
        vendor=("vendor_limits", {}),
        truth={"stream": "inventory_reports"},
    ),
}


def most_within(times: Sequence[float], seconds: float) -> int:
    """The most requests that arrived in any span of so many seconds."""
    return max(sum(start <= other < start + seconds for other in times) for start in times)


@pytest.mark.one_in(4)
@pytest.mark.parametrize("source", CASES)
def test_five_days_at_once_keep_to_the_limits(tmp_path: Path, source: str) -> None:
    case = CASES[source]

    def change(tree: Row) -> None:
        tree["limits"] = {"parallel": case.parallel, **({"rates": case.rates} if case.rates else {})}
        for one in tree["streams"]:
            if one["name"] == case.stream and case.size:
                one["paging"] = {**(one.get("paging") or tree["defaults"]["paging"]), "size": case.size}

    with lab(source, tmp_path, days=5, scale=case.scale, limits=True, change=change) as x:
        if source == "tmetric":
            x.sandbox.change("members", delete=[row["id"] for row in x.sandbox.truth(stream="members")][4:])
        x.sandbox.fault(delay=TAKES, times=-1)
        action, settings = case.vendor
        x.sandbox.change(action, **settings)
        ended = output(*(reading(x, case.stream, on) for on in DAYS))
        assert [code for code, _ in ended] == [0] * 5, [text for code, text in ended if code]
        log = x.sandbox.log(case.path)
        assert {row["status"] for row in log} == {200}
        assert len(log) == asked(x, case)  # so that none was refused and asked again
        assert [text for _, text in ended] == [""] * 5  # no warning of a request that is repeated
        times = sorted(row["at"] for row in log)
        assert most_within(times, TAKES * 0.8) <= case.parallel
        for rate in (Rate.model_validate(text) for rates in case.rates.values() for text in rates):
            assert most_within(times, rate.seconds - JITTER) <= rate.count
        if source == "fxiaoke":
            assert x.sandbox.count("/corpAccessToken/") == 1
        for on in DAYS:
            x.load(case.stream, on)
            assert len(x.table(case.stream, f"_partition = DATE '{on}'")) == len(
                x.sandbox.truth(day=on.isoformat(), **case.truth)
            )


def reading(x: Lab, stream: str, on: date) -> "subprocess.Popen[str]":
    """The raw step of a day in a process of its own, which starts quickly."""
    command = [sys.executable, "-W", "error", "-c", READ, x.name, stream, on.isoformat()]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    return subprocess.Popen(command, env=env, cwd=x.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def asked(x: Lab, case: Case) -> int:
    """The requests that the five days take: their pages, and in TMetric the two lists that each begins with."""
    stream = x.stream(case.stream)
    manifests = [x.pipeline.folder("raw", x.source, stream, x.window(case.stream, on)).manifest() for on in DAYS]
    pages: int = sum(manifest.details["pages"] for manifest in manifests)
    return pages + (2 * len(DAYS) if x.name == "tmetric" else 0)
