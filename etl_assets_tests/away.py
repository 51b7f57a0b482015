"""Where tests run and start commands: a folder with the files that Dagster looks for there, and nobody's `.env`."""

import functools
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]


@functools.cache
def away() -> Path:
    """The folder; made once per process."""
    folder = Path(tempfile.mkdtemp(prefix="etl-assets-tests-"))
    for name in ("dagster.yaml", "dg.toml", "workspace.yaml"):
        (folder / name).write_bytes((ROOT / name).read_bytes())
    (folder / "etl_assets").symlink_to(ROOT / "etl_assets")  # dg looks for it
    return folder
