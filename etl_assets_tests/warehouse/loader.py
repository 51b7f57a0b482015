"""Loads in processes of their own, which can be killed: `python -m etl_assets_tests.warehouse.loader FOLDER`.

Reads `RUN_ID [DAY]` from stdin, a line for each load; says the process id of the load, and how it ended. Loads
are forks: importing costs more than loading.
"""

import os
import subprocess
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path

from etl_assets_tests.data import Bench


def main(folder: str) -> None:
    bench = Bench.at(Path(folder))
    for line in sys.stdin:
        run_id, *days = line.split()
        pid = os.fork()
        if not pid:
            code = 1
            try:
                bench.load(day=date.fromisoformat(days[0]) if days else None, run_id=run_id)
                code = 0
            finally:
                if code:
                    traceback.print_exc()
                os._exit(code)
        print(pid, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


class Loader:
    """The process that forks the loads of one bench."""

    def __init__(self, child: "subprocess.Popen[str]") -> None:
        self._child = child

    def start(self, run_id: str, day: date | None) -> int:
        """Begin a load; its process id."""
        assert self._child.stdin
        self._child.stdin.write(f"{run_id} {day or ''}\n")
        self._child.stdin.flush()
        return self._line()

    def end(self) -> int:
        """How the load has ended: 0, or minus the signal that killed it."""
        return self._line()

    def _line(self) -> int:
        assert self._child.stdout
        return int(self._child.stdout.readline())


@contextmanager
def loader(bench: Bench) -> Iterator[Loader]:
    command = [sys.executable, "-m", "etl_assets_tests.warehouse.loader", str(bench.root)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as child:
        try:
            yield Loader(child)
        finally:
            assert child.stdin
            child.stdin.close()
            child.wait(60)


if __name__ == "__main__":
    main(sys.argv[1])
