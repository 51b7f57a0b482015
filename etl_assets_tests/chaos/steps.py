"""The steps of a stream in a process of their own: `python -m etl_assets_tests.chaos.steps STREAM [DAY ...]`.

Says on stdout what begins. Ends with 3 after an error raised on purpose, its type in the last line of stderr.
`CHAOS_FILE_BYTES` is the largest size of a file.
"""

import os
import resource
import sys
from datetime import date

from etl_assets.errors import EtlError
from etl_assets.pipeline import Pipeline
from etl_assets.window import Window

TYPED = 3


def main(stream_name: str, *days: str) -> None:
    pipeline = Pipeline.from_environment()
    source = pipeline.sources["tmetric"]
    stream = source.stream(stream_name)
    windows = [Window.of_day(date.fromisoformat(day), source.timezone) for day in days] or [None]
    run_id = f"chaos-{os.getpid()}"
    if size := os.environ.get("CHAOS_FILE_BYTES"):
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(size), int(size)))
    for window in windows:
        print("extract", flush=True)
        pipeline.extract(pipeline.api(source), stream, window, run_id)
        print("clean", flush=True)
        pipeline.clean(source, stream, window, run_id)
        print("load", flush=True)
        pipeline.load(source, stream, window, run_id)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except EtlError as error:
        print(error, type(error).__name__, sep="\n", file=sys.stderr)
        sys.exit(TYPED)
