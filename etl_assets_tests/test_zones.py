"""Names of time zones as APIs write them."""

import pytest
from tzlocal.windows_tz import win_tz

from etl_assets.errors import FinalError
from etl_assets.zones import iana


@pytest.mark.parametrize(
    "name", ["Asia/Tokyo", "America/New_York", "Etc/UTC", "Etc/GMT+9", "America/Argentina/Ushuaia"]
)
def test_an_iana_name_stays(name: str) -> None:
    assert iana(name) == name


@pytest.mark.parametrize(
    ("windows", "name"),
    [
        ("Tokyo Standard Time", "Asia/Tokyo"),
        ("China Standard Time", "Asia/Shanghai"),
        ("Eastern Standard Time", "America/New_York"),
        ("GMT Standard Time", "Europe/London"),
        ("W. Europe Standard Time", "Europe/Berlin"),
        ("UTC", "Etc/UTC"),
    ],
)
def test_a_windows_name_becomes_the_iana_name(windows: str, name: str) -> None:
    assert iana(windows) == name


def test_every_windows_name_leads_to_a_zone() -> None:
    assert {name: iana(name) for name in win_tz} == win_tz


@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        "Tokyo",
        "JST+9",
        "(UTC+09:00) Tokyo",
        "+09:00",
        "tokyo standard time",
        "Asia",
        "America/Argentina",
        "Asia/Tokyo\n",
        "../Asia/Tokyo",
        "/usr/share/zoneinfo/Asia/Tokyo",
        "zone.tab",
        "日本",
        "a\0b",
        "x" * 400,
    ],
)
def test_an_unknown_name_is_refused_and_not_guessed(name: str) -> None:
    with pytest.raises(FinalError, match="neither an IANA nor a Windows time zone name"):
        iana(name)
