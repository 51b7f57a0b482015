"""Steps that pause between DuckDB's look at the warehouse file and its lock on it.

    python -m etl_assets_tests.chaos.gap FILE MODULE [ARGUMENT ...]

Says `gap` when `main` of MODULE, run with the arguments, is about to lock FILE for the first time; goes on when it
reads a line. Ends as the steps end.
"""

import importlib
import os
import platform
import sys
from functools import partial
from pathlib import Path

from etl_assets_tests.chaos.killer import CANNOT, Stop, Traced

_FCNTL = {"x86_64": 72, "aarch64": 25}
_SETLK = 6


def main(file: str, module: str, *arguments: str) -> None:
    """Run the steps."""
    if platform.machine() not in _FCNTL:
        sys.exit(CANNOT)
    traced = Traced(partial(importlib.import_module(module).main, *arguments))
    waits = True

    def look(stop: Stop) -> None:
        nonlocal waits
        locks = waits and stop.enters and stop.number == _FCNTL[platform.machine()] and stop.arguments[1] == _SETLK
        if locks and str(Path(f"/proc/{stop.thread}/fd/{stop.arguments[0]}").readlink()) == file:
            waits = False
            print("gap", flush=True)
            sys.stdin.readline()

    sys.exit(os.waitstatus_to_exitcode(traced.run(look)))


if __name__ == "__main__":
    main(*sys.argv[1:])
