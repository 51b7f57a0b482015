"""The memory of the contract's command does not grow with the rows, only with the size of an answer."""

from pathlib import Path

import pytest

from etl_assets.sandbox.server import running
from etl_assets_tests.orchestration.lab import python, query

DAY = "2026-01-05"
SELECT = '+key:"warehouse/tmetric/time_entries"'
MOST_MB = 500
MOST_GROWTH = 1.3
PEAK = """
import resource, subprocess, sys
done = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
if done.returncode: sys.exit(done.stderr)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024)
"""


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_million_rows_take_hardly_more_memory_than_a_tenth_of_them(tmp_path: Path) -> None:
    peaks = [peak_mb(tmp_path / str(scale), scale, rows) for scale, rows in ((1_000, 95_000), (10_000, 950_000))]
    assert max(peaks) < MOST_MB, peaks
    assert peaks[1] < MOST_GROWTH * peaks[0], peaks


def peak_mb(data: Path, scale: int, at_least: int) -> int:
    """The most memory that any process of the command took for a day of so many rows, 1,000 answers in both cases."""
    select = ["dagster", "asset", "materialize", "-m", "etl_assets.definitions", "--select", SELECT, "--partition", DAY]
    with running(vendors=("tmetric",), days=1, scale=scale) as sandbox:
        env = {**sandbox.env(), "ETL_DATA_DIR": str(data), "TMETRIC_PARALLEL": "16"}
        peak = int(python(PEAK, *select, env=env, seconds=600))
    counts = "SELECT count(*) AS rows, count(DISTINCT id) AS keys FROM tmetric.time_entries"
    (found,) = query(data / "warehouse.duckdb", counts)
    assert found["rows"] == found["keys"] > at_least
    return peak
