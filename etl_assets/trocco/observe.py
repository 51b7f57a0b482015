"""Runs that TROCCO starts by itself: which of them are new, by the history of a definition.

Pure but for the history that is handed in. Only transfers have a history in the API.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from etl_assets.trocco.api import State
from etl_assets.trocco.decide import ENDS


@dataclass(frozen=True)
class Mark:
    """How far a definition was observed: from `since` (epoch seconds, by creation) on, all but `seen` is new."""

    since: float
    seen: tuple[int, ...] = ()


def news(history: Iterable[State], mark: Mark) -> tuple[list[State], Mark]:
    """The runs that ended since the mark, oldest first, and the next mark.

    A run that has not ended holds the mark back, so that its end is seen however long it takes.
    """
    runs = sorted(history, key=lambda run: run.id)
    ended = [run for run in runs if run.status in ENDS]
    created = {run.id: _created(run, mark.since) for run in runs}
    going_on = [created[run.id] for run in runs if run.status not in ENDS]
    since = max(min(going_on, default=max(created.values(), default=mark.since)), mark.since)
    seen = tuple(run.id for run in ended if created[run.id] >= int(since))
    return [run for run in ended if run.id not in mark.seen], Mark(since, seen)


def _created(run: State, default: float) -> float:
    text = run.facts.get("created_at")
    return datetime.fromisoformat(text).timestamp() if isinstance(text, str) else default
