"""The flow of arriving files in a process that is killed and started again at random: `python -m … SECONDS SEED`.

Each life is a fork, because importing costs more than running. Ends when every file that lies there has been run.
"""

import os
import random
import signal
import sys
import time

from etl_assets.pipeline import Pipeline
from etl_assets.trocco import arrivals
from etl_assets.trocco.run import jobs_of, opened

JOB = "events"


def main(seconds: float, seed: int) -> None:
    """Live, be killed, live again; then once to the end. Prints how often it was killed."""
    jobs_of(pipeline := Pipeline.from_environment())
    assert pipeline.sources  # read once, for all lives
    lots = random.Random(seed)
    end, kills = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        pid = os.fork()
        if not pid:
            live(for_ever=True)
        time.sleep(lots.uniform(0.02, 0.9))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        kills += 1
    live(for_ever=False)
    print(kills)


def live(*, for_ever: bool) -> None:
    """What the two sensors do, tick after tick."""
    pipeline = Pipeline.from_environment()
    jobs = jobs_of(pipeline)
    with opened(pipeline) as runner:
        while True:
            arrivals.advance(runner, jobs[JOB], most=20, seconds=5)
            runner.sweep(jobs, most=100, seconds=5)
            if not for_ever and not runner.ledger.open_runs() and not runner.ledger.waiting(JOB, 1):
                return
            time.sleep(0.02)


if __name__ == "__main__":
    main(float(sys.argv[1]), int(sys.argv[2]))
