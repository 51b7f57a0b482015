"""The flow of arriving files with Dagster's own daemon, which is killed and started again at random."""

import os
import random
import shutil
import signal
import subprocess
import threading
import time
from collections import Counter

import pytest

from etl_assets_tests.away import ROOT
from etl_assets_tests.orchestration.lab import BIN, bare_environment
from etl_assets_tests.trocco.place import Place, until
from etl_assets_tests.trocco.test_arrivals import FILES, arrive, declare, processed

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

SENSORS = ("trocco_arrivals", "trocco_open_jobs")
KILLS = 4


def daemon(place: Place, env: dict[str, str]) -> "subprocess.Popen[bytes]":
    with (place.folder / "daemon.log").open("ab") as log:
        return subprocess.Popen(
            [str(BIN / "dagster-daemon"), "run", "-m", "etl_assets.definitions"],
            cwd=place.folder,
            env=env,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def test_a_thousand_files_are_run_once_each_over_kills_of_the_daemon(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    declare(place, monkeypatch, batch=8)
    place.sandbox.change("settings", plan={"queue": 0.0, "setup": 0.0, "run": 0.05})
    home = place.folder / "home"
    home.mkdir()
    shutil.copy(ROOT / "dagster.yaml", home)
    chosen = {name: value for name, value in os.environ.items() if name.startswith(("ETL_", "TROCCO_"))}
    env = {**bare_environment(), **chosen, "DAGSTER_HOME": str(home), "PYTHONPATH": str(ROOT)}
    for sensor in SENSORS:
        line = [str(BIN / "dagster"), "sensor", "start", "-m", "etl_assets.definitions", sensor]
        subprocess.run(line, cwd=place.folder, env=env, check=True, capture_output=True, timeout=200)
    names = [f"{number:04}.json" for number in range(FILES)]
    arriving = threading.Thread(target=lambda: [arrive(place, names[n : n + 5]) for n in range(0, FILES, 5)])
    arriving.start()
    lots = random.Random(11)
    for _ in range(KILLS):
        running, before = daemon(place, env), processed(place).total()
        until(lambda before=before: before < processed(place).total() or before == FILES, seconds=300)
        time.sleep(lots.uniform(0, 3))
        os.killpg(running.pid, signal.SIGKILL)
        running.wait()
    arriving.join()
    running = daemon(place, env)
    try:
        until(lambda: processed(place).total() >= FILES and not place.ledger.open_runs(), seconds=400)
    finally:
        os.killpg(running.pid, signal.SIGKILL)
        running.wait()
    assert processed(place) == Counter(names)
