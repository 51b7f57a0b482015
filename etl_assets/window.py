"""Half-open time windows and the text forms in which APIs want them."""

import itertools
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_INSTANT = timedelta(microseconds=1)  # what is cut off below the unit of a form leaves its last unit


@dataclass(frozen=True)
class Window:
    """`[start, end)`: two aware instants, and the zone whose calendar the API reads them in."""

    start: datetime
    end: datetime
    zone: ZoneInfo

    @classmethod
    def of_day(cls, day: date, zone: str) -> "Window":
        """The calendar day `day` in `zone`, 23 to 25 hours long where clocks change."""
        tz = ZoneInfo(zone)
        start = datetime(day.year, day.month, day.day, tzinfo=tz)
        following = day + timedelta(days=1)
        return cls(start, datetime(following.year, following.month, following.day, tzinfo=tz), tz)

    @property
    def day(self) -> date:
        """The calendar day on which the window starts: the partition."""
        return self.start.astimezone(self.zone).date()

    def widened(self, by: timedelta) -> "Window":
        """The window with `by` more on each side, in wall-clock time of its zone."""
        return Window(self._local(self.start, -by), self._local(self.end, by), self.zone)

    def slices(self, longest: timedelta | None) -> list["Window"]:
        """The window cut into consecutive windows no longer than `longest`; itself without a limit."""
        if longest is None:
            return [self]
        # In UTC: datetimes of one zone compare by wall clock, which goes back in autumn.
        edges, end = [self.start.astimezone(UTC)], self.end.astimezone(UTC)
        while edges[-1] < end:
            edges.append(min(edges[-1] + longest, end))
        local = [edge.astimezone(self.zone) for edge in edges]
        return [Window(a, b, self.zone) for a, b in itertools.pairwise(local)]

    def _local(self, instant: datetime, by: timedelta) -> datetime:
        return instant.astimezone(self.zone) + by


def since(window: Window, form: str) -> str | int:
    """The first instant of the window in the API's form."""
    return _written(window.start.astimezone(window.zone), form)


def until(window: Window, form: str, *, inclusive: bool) -> str | int:
    """The end of the window in the API's form: its last unit for an inclusive end, else its first after."""
    end = window.end.astimezone(UTC)
    if inclusive:
        end -= _INSTANT
    return _written(end.astimezone(window.zone), form)


def _written(instant: datetime, form: str) -> str | int:
    match form:
        case "date":
            return instant.date().isoformat()
        case "iso":
            return instant.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        case "epoch_s":
            return (instant - _EPOCH) // timedelta(seconds=1)
        case "epoch_ms":
            return (instant - _EPOCH) // timedelta(milliseconds=1)
        case "epoch_ms_text":
            return str((instant - _EPOCH) // timedelta(milliseconds=1))
    return instant.strftime(form)
