"""A push in a process of its own: `python -m etl_assets_tests.push.steps`, with the variables of a place."""

import os

from etl_assets.pipeline import Pipeline
from etl_assets.push import run
from etl_assets.push.files import load_targets


def main() -> None:
    pipeline = Pipeline.from_environment()
    target = load_targets(pipeline.settings.sources_dir)["depot"]
    run.push(pipeline, target, target.pushes[0], f"run-{os.getpid()}")


if __name__ == "__main__":
    main()
