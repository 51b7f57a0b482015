"""Zone arithmetic on epoch seconds, fast enough to render a hundred thousand rows per second.

Plain functions over whole seconds; formats of one vendor do not belong here.
"""

from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

DAY = 86_400

_STEP = 900  # every zone changes its offset on a quarter of an hour
_EPOCH = date(1970, 1, 1)
_MINUTES = tuple(f"T{minute // 60:02}:{minute % 60:02}:" for minute in range(1440))
_SECONDS = tuple(f"{second:02}" for second in range(60))


def offset(zone: str, instant: int) -> int:
    """Seconds by which clocks in `zone` are ahead of UTC at `instant`."""
    return _offset(zone, instant // _STEP)


def at(zone: str, day: date, second: int = 0) -> int:
    """The instant at which clocks in `zone` show `second` seconds after midnight of `day`."""
    wall = datetime.combine(day, time()) + timedelta(seconds=second)
    return instant(wall, zone)


def instant(moment: datetime, zone: str) -> int:
    """Epoch seconds of `moment`, read as a wall clock in `zone` if it has no offset of its own."""
    aware = moment if moment.tzinfo else moment.replace(tzinfo=ZoneInfo(zone))
    return int(aware.timestamp())


def iso(seconds: int) -> str:
    """`seconds` after 1970 as `2026-01-05T09:00:00`, with no offset."""
    day, rest = divmod(seconds, DAY)
    minute, second = divmod(rest, 60)
    return f"{_day(day)}{_MINUTES[minute]}{_SECONDS[second]}"


def wall(zone: str, instant: int) -> str:
    """What clocks in `zone` show at `instant`, as `2026-01-05T09:00:00`."""
    return iso(instant + offset(zone, instant))


@lru_cache(maxsize=65_536)
def _offset(zone: str, step: int) -> int:
    shift = datetime.fromtimestamp(step * _STEP, UTC).astimezone(ZoneInfo(zone)).utcoffset()
    if shift is None:
        raise ValueError(f"{zone} has no offset")
    return int(shift.total_seconds())


@lru_cache(maxsize=4096)
def _day(number: int) -> str:
    return (_EPOCH + timedelta(days=number)).isoformat()
