"""Names of time zones as APIs write them."""

from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from tzlocal.windows_tz import win_tz

from etl_assets.errors import FinalError


def iana(name: str) -> str:
    """The IANA name of a zone given by its IANA or its Windows name (`Tokyo Standard Time`).

    Raises FinalError for anything else: a guessed zone would shift every time by hours.
    """
    known = win_tz.get(name, name)
    try:
        return ZoneInfo(known).key
    except (ZoneInfoNotFoundError, ValueError, OSError):  # OSError: `Asia` is a folder of zones
        raise FinalError(f"{name!r} is neither an IANA nor a Windows time zone name") from None
