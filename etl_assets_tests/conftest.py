"""What every test starts from."""

import sys

import pytest


@pytest.fixture(autouse=True)
def definitions_of_a_new_process() -> None:
    """Definitions are built once per process; a test may have changed what they are built from."""
    if module := sys.modules.get("etl_assets.definitions"):
        module.defs.load_fn.cache_clear()
