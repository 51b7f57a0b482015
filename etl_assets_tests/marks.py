"""What the tests share of pytest's marks."""

from collections.abc import Iterable
from typing import Any

import pytest


def one_in(number: int, cases: Iterable[Any]) -> list[Any]:
    """Parameters of a long matrix: `make test` takes the first of every `number`, `make long` the others."""

    def long(case: Any) -> Any:
        return pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=pytest.mark.slow)

    return [case if place % number == 0 else long(case) for place, case in enumerate(cases)]
