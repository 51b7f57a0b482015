"""What each column type makes of a text: a value, nothing, or a row for quarantine."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest

from etl_assets import coltypes
from etl_assets.spec import Column
from etl_assets.sqltext import literal
from etl_assets_tests.data import utc, wall

UNFIT = "quarantine"
TOKYO, SHANGHAI, NEW_YORK, LOS_ANGELES = "Asia/Tokyo", "Asia/Shanghai", "America/New_York", "America/Los_Angeles"
FAR_TOO_BIG = "1" + "0" * 40


@pytest.fixture(scope="module")
def db() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect(":memory:") as connection:
        connection.execute("SET TimeZone = 'UTC'")
        yield connection


def made_of(
    db: duckdb.DuckDBPyConnection,
    text: str | None,
    type_name: str,
    form: str = "iso",
    *,
    zone: str = TOKYO,
    home: str = TOKYO,
    reading: str = "offset_aware",
) -> Any:
    """The value, None for an absent one, UNFIT for one that does not fit; as `clean` tells them apart."""
    column = Column.model_validate({"type": type_name, "format": form})
    sql = coltypes.typed("given", column, zone=literal(zone), home=home, reading=reading)
    row = db.execute(f"SELECT {sql} FROM (SELECT CAST(? AS VARCHAR) AS given)", [text]).fetchone()
    assert row is not None
    return UNFIT if row[0] is None and text else row[0]


@pytest.mark.parametrize("text", [None, ""])
@pytest.mark.parametrize(
    ("type_name", "form"),
    [
        *((name, "iso") for name in ("integer", "number", "boolean", "decimal(10,2)", "date", "timestamp", "datetime")),
        *((name, form) for name in ("date", "timestamp") for form in ("epoch_s", "epoch_ms", "%Y/%m/%d")),
    ],
)
def test_nothing_and_an_empty_text_are_absent(
    db: duckdb.DuckDBPyConnection, type_name: str, form: str, text: str | None
) -> None:
    assert made_of(db, text, type_name, form) is None


@pytest.mark.parametrize("text", ["", " ", "null", "0", "日本", "a\x00b", "\N{GRINNING FACE}", "x" * 100_000])
def test_a_string_is_kept_as_it_is(db: duckdb.DuckDBPyConnection, text: str) -> None:
    column = Column(type="string")
    sql = coltypes.typed("given", column, zone="'UTC'", home="UTC", reading="offset_aware")
    assert db.execute(f"SELECT {sql} FROM (SELECT ? AS given)", [text]).fetchall() == [(text,)]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1),
        ("-1", -1),
        ("+1", 1),
        ("00012", 12),
        ("12.0", 12),
        ("1e3", 1000),
        ("1.5e1", 15),
        ("9007199254740993", 2**53 + 1),
        ("9007199254740993.0", 2**53 + 1),
        ("9223372036854775807", 2**63 - 1),
        ("-9223372036854775808", -(2**63)),
        ("9223372036854775808", UNFIT),
        ("-9223372036854775809", UNFIT),
        ("18446744073709551615", UNFIT),
        (FAR_TOO_BIG, UNFIT),
        ("1e19", UNFIT),
        ("12.7", UNFIT),
        ("0.5", UNFIT),
        ("-0.5", UNFIT),
        ("1e-1", UNFIT),
        ("9007199254740993.4", UNFIT),
        ("1,000", UNFIT),
        ("1_000", UNFIT),
        ("0x10", UNFIT),
        ("true", UNFIT),
        ("false", UNFIT),
        ("NaN", UNFIT),
        ("inf", UNFIT),
        ("abc", UNFIT),
        ("null", UNFIT),
        (" ", UNFIT),
        ("2026-01-05", UNFIT),
        ("[1]", UNFIT),
        ("{}", UNFIT),
        ("１２", UNFIT),
    ],
)
def test_an_integer_is_whole_and_has_64_bits(db: duckdb.DuckDBPyConnection, text: str, value: Any) -> None:
    assert made_of(db, text, "integer") == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1.0),
        ("1.5", 1.5),
        ("-0.1", -0.1),
        ("1e3", 1000.0),
        ("1E-7", 1e-7),
        ("1.7976931348623157e308", 1.7976931348623157e308),
        ("1e400", UNFIT),
        ("-1e400", UNFIT),
        ("nan", UNFIT),
        ("NaN", UNFIT),
        ("inf", UNFIT),
        ("-inf", UNFIT),
        ("Infinity", UNFIT),
        ("1_000.5", UNFIT),
        ("1,5", UNFIT),
        ("0x1p3", UNFIT),
        ("true", UNFIT),
        ("12 kg", UNFIT),
    ],
)
def test_a_number_is_finite(db: duckdb.DuckDBPyConnection, text: str, value: Any) -> None:
    assert made_of(db, text, "number") == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True),
        ("false", False),
        ("TRUE", True),
        ("False", False),
        ("1", True),
        ("0", False),
        ("2", UNFIT),
        ("on", UNFIT),
        ("null", UNFIT),
        ("maybe", UNFIT),
    ],
)
def test_a_boolean_is_said_plainly(db: duckdb.DuckDBPyConnection, text: str, value: Any) -> None:
    assert made_of(db, text, "boolean") == value


@pytest.mark.parametrize(
    ("type_name", "text", "value"),
    [
        ("decimal(10,2)", "1", "1.00"),
        ("decimal(10,2)", "-1.25", "-1.25"),
        ("decimal(10,2)", "1.230", "1.23"),
        ("decimal(10,2)", "1.00000000", "1.00"),
        ("decimal(10,2)", "1e2", "100.00"),
        ("decimal(10,2)", "1.5e-1", "0.15"),
        ("decimal(10,2)", "0E-10", "0.00"),
        ("decimal(10,2)", "12345678.90", "12345678.90"),
        ("decimal(10,2)", "99999999.99", "99999999.99"),
        ("decimal(10,2)", "1.234", UNFIT),
        ("decimal(10,2)", "0.005", UNFIT),
        ("decimal(10,2)", "0.001", UNFIT),
        ("decimal(10,2)", "-0.009", UNFIT),
        ("decimal(10,2)", "100000000.00", UNFIT),
        ("decimal(10,2)", "99999999.995", UNFIT),
        ("decimal(10,2)", FAR_TOO_BIG, UNFIT),
        ("decimal(10,2)", "1_000", UNFIT),
        ("decimal(10,2)", "nan", UNFIT),
        ("decimal(10,2)", "abc", UNFIT),
        ("decimal(10,2)", "true", UNFIT),
        ("decimal(18,6)", "0.000001", "0.000001"),
        ("decimal(18,6)", "0.0000001", UNFIT),
        ("decimal(18,6)", "123456789012.123456", "123456789012.123456"),
        ("decimal(38,0)", "99999999999999999999999999999999999999", "99999999999999999999999999999999999999"),
        ("decimal(38,0)", "1.5", UNFIT),
        ("decimal(38,0)", "1.4", UNFIT),
        ("decimal(38,0)", "1.0", "1"),
        ("decimal(38,10)", "1234567890123456789012345678.1234567890", "1234567890123456789012345678.1234567890"),
        ("decimal(38,10)", "1.12345678901", UNFIT),
        ("decimal(38,10)", "12345678901234567890123456789.0", UNFIT),
        ("decimal(38,38)", "0.00000000000000000000000000000000000001", "0.00000000000000000000000000000000000001"),
        ("decimal(38,38)", "1", UNFIT),
    ],
)
def test_a_decimal_is_exact_or_does_not_fit(
    db: duckdb.DuckDBPyConnection, type_name: str, text: str, value: str
) -> None:
    assert made_of(db, text, type_name) == (UNFIT if value == UNFIT else Decimal(value))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2026-01-05T09:00:00Z", "2026-01-05 09:00:00"),
        ("2026-01-05 09:00:00Z", "2026-01-05 09:00:00"),
        ("2026-01-05T09:00Z", "2026-01-05 09:00:00"),
        ("2026-01-05T09:00:00+09:00", "2026-01-05 00:00:00"),
        ("2026-01-05T09:00:00+0900", "2026-01-05 00:00:00"),
        ("2026-01-05T09:00:00+09", "2026-01-05 00:00:00"),
        ("2026-01-05T09:00:00-03:30", "2026-01-05 12:30:00"),
        ("2026-01-05T09:00:00+14:00", "2026-01-04 19:00:00"),
        ("2026-01-05T09:00:00", "2026-01-05 00:00:00"),
        ("2026-01-05 09:00:00", "2026-01-05 00:00:00"),
        ("2026-01-05 09:00", "2026-01-05 00:00:00"),
        ("2026-01-05", "2026-01-04 15:00:00"),
        ("2024-02-29T00:00:00Z", "2024-02-29 00:00:00"),
        ("2026-01-05T09:00:00.5Z", "2026-01-05 09:00:00.500000"),
        ("2026-01-05T09:00:00.123456Z", "2026-01-05 09:00:00.123456"),
        ("2026-01-05T23:59:59.999Z", "2026-01-05 23:59:59.999000"),
        # Finer than a microsecond is cut: rounded, the last tick of a day would belong to the next one.
        ("2026-01-05T09:00:00.1234567Z", "2026-01-05 09:00:00.123456"),
        ("2026-01-05T23:59:59.9999999Z", "2026-01-05 23:59:59.999999"),
        ("2026-01-05T23:59:59.9999999", "2026-01-05 14:59:59.999999"),
        ("2026-01-05T24:00:00Z", "2026-01-06 00:00:00"),
        ("2026-01-05T24:00:00", "2026-01-05 15:00:00"),
        ("9999-12-31T23:59:59Z", "9999-12-31 23:59:59"),
        ("0001-01-01T00:00:00Z", "0001-01-01 00:00:00"),
        ("9999-12-31T23:59:59-09:00", UNFIT),
        ("10000-01-01T00:00:00Z", UNFIT),
        ("99999-01-01T00:00:00Z", UNFIT),
        ("0000-01-01T00:00:00Z", UNFIT),
        ("0001-01-01T00:00:00", UNFIT),
        ("2026-13-01", UNFIT),
        ("2026-13-01T00:00:00Z", UNFIT),
        ("2026-02-30T00:00:00Z", UNFIT),
        ("2026-02-29T00:00:00", UNFIT),
        ("2026-01-05T24:00:01Z", UNFIT),
        ("2026-01-05T25:00:00Z", UNFIT),
        ("2026-01-05T09:60:00Z", UNFIT),
        ("2026-01-05T09:00:60Z", UNFIT),
        ("2026-01-05T09:00:00+25:00", UNFIT),
        ("2026-01-05T09:00:00+09:99", UNFIT),
        ("2026-01-05T09:00:00 Asia/Tokyo", UNFIT),
        ("2026-01-05 09:00:00 JST", UNFIT),
        ("2026-01-05T09:00:00,5Z", UNFIT),
        ("2026-01-05T9:00:00Z", UNFIT),
        ("2026-1-5T09:00:00Z", UNFIT),
        ("26-01-05T09:00:00Z", UNFIT),
        ("2026/01/05 09:00:00", UNFIT),
        ("20260105T090000Z", UNFIT),
        ("2026-06-0916:28:12", UNFIT),
        ("1767225600", UNFIT),
        ("now", UNFIT),
        ("today", UNFIT),
        ("epoch", UNFIT),
        ("infinity", UNFIT),
        ("-infinity", UNFIT),
        ("2026-01-05T09:00:00Z trailing", UNFIT),
        ("2026-01-05T09:00:00Z\n", UNFIT),
    ],
)
def test_a_timestamp_is_an_instant_written_out(db: duckdb.DuckDBPyConnection, text: str, value: str) -> None:
    assert made_of(db, text, "timestamp") == (UNFIT if value == UNFIT else utc(value))


@pytest.mark.parametrize(
    ("zone", "text", "value"),
    [
        (TOKYO, "2026-01-05T09:00:00", "2026-01-05 00:00"),
        (SHANGHAI, "2026-01-05 09:00:00", "2026-01-05 01:00"),
        (NEW_YORK, "2026-01-05T09:00:00", "2026-01-05 14:00"),
        (NEW_YORK, "2026-07-05T09:00:00", "2026-07-05 13:00"),
        ("Asia/Kolkata", "2026-01-05T09:00:00", "2026-01-05 03:30"),
        ("UTC", "2026-01-05T09:00:00", "2026-01-05 09:00"),
        (NEW_YORK, "2026-01-05T09:00:00Z", "2026-01-05 09:00"),
        # Clocks go forward: a time that does not exist is read an hour later.
        (NEW_YORK, "2026-03-08T01:59:59", "2026-03-08 06:59:59"),
        (NEW_YORK, "2026-03-08T02:30:00", "2026-03-08 07:30"),
        (NEW_YORK, "2026-03-08T03:00:00", "2026-03-08 07:00"),
        # Clocks go back: the second of the two is meant.
        (NEW_YORK, "2026-11-01T00:59:59", "2026-11-01 04:59:59"),
        (NEW_YORK, "2026-11-01T01:30:00", "2026-11-01 06:30"),
        (NEW_YORK, "2026-11-01T02:00:00", "2026-11-01 07:00"),
        (NEW_YORK, "2026-11-01T01:30:00-04:00", "2026-11-01 05:30"),
    ],
)
def test_a_timestamp_without_an_offset_is_wall_clock_of_its_zone(
    db: duckdb.DuckDBPyConnection, zone: str, text: str, value: str
) -> None:
    assert made_of(db, text, "timestamp", zone=zone) == utc(value)


@pytest.mark.parametrize(
    "text",
    [
        "2026-01-05T09:00:00Z",
        "2026-01-05T09:00:00",
        "2026-01-05 09:00",
        "2026-01-05T09:00Z",
        "2026-01-05T09:00:00+05:00",
        "2026-01-05T09:00:00-0930",
        "2026-01-05T09:00:00.000000Z",
    ],
)
def test_offsets_are_decoration_where_the_wall_clock_is_meant(db: duckdb.DuckDBPyConnection, text: str) -> None:
    read = made_of(db, text, "timestamp", zone=SHANGHAI, home=TOKYO, reading="user_wall_clock")
    assert read == utc("2026-01-05 01:00")


@pytest.mark.parametrize("text", ["2026-13-05T09:00:00Z", "now", "2026-01-05T09:00:00 Asia/Tokyo", "1767225600"])
def test_what_is_no_time_is_none_as_wall_clock_either(db: duckdb.DuckDBPyConnection, text: str) -> None:
    assert made_of(db, text, "timestamp", reading="user_wall_clock") == UNFIT


@pytest.mark.parametrize(
    ("form", "text", "value"),
    [
        ("epoch_s", "1767225600", "2026-01-01 00:00:00"),
        ("epoch_s", "0", "1970-01-01 00:00:00"),
        ("epoch_s", "-1", "1969-12-31 23:59:59"),
        ("epoch_s", "1767225600.0", "2026-01-01 00:00:00"),
        ("epoch_s", "1.7672256e9", "2026-01-01 00:00:00"),
        ("epoch_s", "1767225600.123", "2026-01-01 00:00:00.123000"),
        ("epoch_s", "1767225599.999", "2025-12-31 23:59:59.999000"),
        ("epoch_s", "1767225599.9999999", "2025-12-31 23:59:59.999999"),
        ("epoch_s", "253402300799", "9999-12-31 23:59:59"),
        ("epoch_s", "-62135596800", "0001-01-01 00:00:00"),
        ("epoch_s", "253402300800", UNFIT),
        ("epoch_s", "-62135596801", UNFIT),
        ("epoch_s", "1767225600123", UNFIT),
        ("epoch_ms", "1767225600123", "2026-01-01 00:00:00.123000"),
        ("epoch_ms", "1767225599999", "2025-12-31 23:59:59.999000"),
        ("epoch_ms", "1767225599999.9", "2025-12-31 23:59:59.999900"),
        ("epoch_ms", "1.767225600123E12", "2026-01-01 00:00:00.123000"),
        ("epoch_ms", "0", "1970-01-01 00:00:00"),
        ("epoch_ms", "253402300799999", "9999-12-31 23:59:59.999000"),
        ("epoch_ms", "253402300800000", UNFIT),
        ("epoch_ms", "1767225600123000", UNFIT),
        ("epoch_ms", "9223372036854775807", UNFIT),
        ("epoch_ms", FAR_TOO_BIG, UNFIT),
        ("epoch_ms", "2026-01-01T00:00:00Z", UNFIT),
        ("epoch_ms", "true", UNFIT),
        ("epoch_ms", "NaN", UNFIT),
        ("epoch_s", "soon", UNFIT),
    ],
)
def test_an_epoch_counts_in_the_declared_unit(db: duckdb.DuckDBPyConnection, form: str, text: str, value: str) -> None:
    assert made_of(db, text, "timestamp", form) == (UNFIT if value == UNFIT else utc(value))


@pytest.mark.parametrize(
    ("form", "text", "value"),
    [
        ("%Y/%m/%d %H:%M:%S", "2026/01/05 09:00:00", "2026-01-05 00:00"),
        ("%Y-%m-%d%H:%M:%S", "2026-06-0916:28:12", "2026-06-09 07:28:12"),
        ("%Y%m%d", "20260105", "2026-01-04 15:00"),
        ("%Y/%m/%d %H:%M:%S %z", "2026/01/05 09:00:00 +0530", "2026-01-05 03:30"),
        ("%Y/%m/%d %H:%M:%S %z", "2026/01/05 09:00:00 +05:30", "2026-01-05 03:30"),
        ("%Y/%m/%d %H:%M:%S %Z", "2026/01/05 09:00:00 UTC", "2026-01-05 09:00"),
        ("%Y/%m/%d %H:%M:%S %Z", "2026/01/05 09:00:00 Asia/Shanghai", "2026-01-05 01:00"),
        ("%Y/%m/%d", "2026/13/05", UNFIT),
        ("%Y/%m/%d", "2026-01-05", UNFIT),
        ("%Y/%m/%d", "2026/01/05 09:00", UNFIT),
    ],
)
def test_a_timestamp_can_follow_a_pattern(db: duckdb.DuckDBPyConnection, form: str, text: str, value: str) -> None:
    assert made_of(db, text, "timestamp", form) == (UNFIT if value == UNFIT else utc(value))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2026-01-05T09:00:00", wall("2026-01-05 09:00")),
        ("2026-01-05 09:00", wall("2026-01-05 09:00")),
        ("2026-01-05", wall("2026-01-05")),
        ("2026-01-05T09:00:00.25", wall("2026-01-05 09:00:00.250")),
        ("9999-12-31T23:59:59.999999", wall("9999-12-31 23:59:59.999999")),
        ("2026-03-08T02:30:00", wall("2026-03-08 02:30")),
        ("2026-01-05T09:00:00Z", UNFIT),
        ("2026-01-05T09:00:00+09:00", UNFIT),
        ("2026-13-05T00:00:00", UNFIT),
        ("0000-01-01T00:00:00", UNFIT),
        ("9999-12-31T24:00:00", UNFIT),
        ("now", UNFIT),
        ("infinity", UNFIT),
    ],
)
def test_a_datetime_is_a_wall_clock_without_a_zone(db: duckdb.DuckDBPyConnection, text: str, value: Any) -> None:
    assert made_of(db, text, "datetime") == value


@pytest.mark.parametrize(
    ("text", "home", "value"),
    [
        ("2026-01-05", TOKYO, date(2026, 1, 5)),
        ("2024-02-29", TOKYO, date(2024, 2, 29)),
        ("0001-01-01", TOKYO, date.min),
        ("9999-12-31", TOKYO, date.max),
        # Midnight is the day written, whatever the offset; it must never shift.
        ("2026-01-05T00:00:00Z", TOKYO, date(2026, 1, 5)),
        ("2026-01-05T00:00:00Z", NEW_YORK, date(2026, 1, 5)),
        ("2026-01-05T00:00:00+09:00", NEW_YORK, date(2026, 1, 5)),
        ("2026-01-05T00:00:00.000Z", LOS_ANGELES, date(2026, 1, 5)),
        ("2026-01-05T00:00Z", TOKYO, date(2026, 1, 5)),
        # Midnight at home, sent in UTC.
        ("2026-01-04T15:00:00Z", TOKYO, date(2026, 1, 5)),
        ("2026-01-04T16:00:00Z", SHANGHAI, date(2026, 1, 5)),
        ("2026-01-05T05:00:00Z", NEW_YORK, date(2026, 1, 5)),
        ("2026-07-05T04:00:00Z", NEW_YORK, date(2026, 7, 5)),
        ("2026-01-05T23:30:00Z", TOKYO, date(2026, 1, 6)),
        # A wall clock is at home already.
        ("2026-01-05 00:00:00", TOKYO, date(2026, 1, 5)),
        ("2026-01-05T23:59:59", NEW_YORK, date(2026, 1, 5)),
        ("2026-01-05 23:59", TOKYO, date(2026, 1, 5)),
        ("2026-13-01", TOKYO, UNFIT),
        ("2026-02-29", TOKYO, UNFIT),
        ("2026-13-01T00:00:00Z", TOKYO, UNFIT),
        ("2026-01-05T25:00:00", TOKYO, UNFIT),
        ("2026-01-05T99:99:99Z", TOKYO, UNFIT),
        ("0000-01-01", TOKYO, UNFIT),
        ("10000-01-01", TOKYO, UNFIT),
        ("9999-12-31T15:00:00Z", TOKYO, UNFIT),
        ("2026/01/05", TOKYO, UNFIT),
        ("20260105", TOKYO, UNFIT),
        ("2026-1-5", TOKYO, UNFIT),
        ("today", TOKYO, UNFIT),
        ("epoch", TOKYO, UNFIT),
        ("infinity", TOKYO, UNFIT),
        ("1767225600", TOKYO, UNFIT),
    ],
)
def test_a_date_is_the_day_written_or_the_day_at_home(
    db: duckdb.DuckDBPyConnection, text: str, home: str, value: Any
) -> None:
    assert made_of(db, text, "date", home=home) == value


@pytest.mark.parametrize(
    ("form", "text", "home", "value"),
    [
        ("epoch_ms", "1767196800000", SHANGHAI, date(2026, 1, 1)),  # midnight at home
        ("epoch_ms", "1767196799999", SHANGHAI, date(2025, 12, 31)),
        ("epoch_ms", "1767193200000", TOKYO, date(2026, 1, 1)),
        ("epoch_s", "1767243600", NEW_YORK, date(2026, 1, 1)),
        ("epoch_s", "1767243599", NEW_YORK, date(2025, 12, 31)),
        ("epoch_s", "1767196800000", SHANGHAI, UNFIT),
        ("epoch_s", "253402300799", TOKYO, UNFIT),
        ("%Y/%m/%d", "2026/01/05", NEW_YORK, date(2026, 1, 5)),
        ("%d.%m.%Y", "5.1.2026", TOKYO, date(2026, 1, 5)),
        ("%Y%m%d", "20260105", TOKYO, date(2026, 1, 5)),
        ("%Y%m%d", "20261305", TOKYO, UNFIT),
        ("%Y/%m/%d %H:%M %z", "2026/01/05 08:00 +0900", TOKYO, date(2026, 1, 5)),
        ("%Y/%m/%d %H:%M %z", "2026/01/04 15:00 +0000", TOKYO, date(2026, 1, 5)),
    ],
)
def test_a_date_can_come_as_an_epoch_or_a_pattern(
    db: duckdb.DuckDBPyConnection, form: str, text: str, home: str, value: Any
) -> None:
    assert made_of(db, text, "date", form, home=home) == value


IN_ANOTHER_ZONE = """
import json, sys, tempfile
from datetime import date
from pathlib import Path
from etl_assets_tests.data import Bench

STREAM = '''
window: {column: t}
local: [t]
columns:
  id: integer
  t: timestamp
  s: {type: timestamp, format: "%Y/%m/%d %H:%M"}
  o: {type: timestamp, format: "%Y/%m/%d %H:%M %z"}
  m: {type: timestamp, format: epoch_ms}
  w: datetime
  d: date
  e: {type: date, format: epoch_ms}
  p: {type: date, format: "%Y/%m/%d %H:%M %z"}
derived:
  hour: {type: integer, sql: hour(t)}
  day: {type: date, sql: CAST(t AS DATE)}
'''
rest = {
    "s": "2026/01/05 00:30", "o": "2026/01/05 00:30 +0900", "m": 1767538800000, "w": "2026-01-05T00:30:00",
    "d": "2026-01-04T15:00:00Z", "e": 1767538800000, "p": "2026/01/05 08:00 +0900",
}
times = [
    "2026-01-04T14:59:59.999Z", "2026-01-05T00:00:00", "2026-01-05T00:30:00+09:00", "2026-01-05", "2026-01-05 23:59",
    "2026-01-05T15:00:00Z",
]
with tempfile.TemporaryDirectory() as folder:
    bench = Bench.of(Path(folder), STREAM)
    loaded = bench.loaded([{"id": n, "t": t, **rest} for n, t in enumerate(times)], day=date(2026, 1, 5))
    bench.loaded([{"id": n, "t": t, **rest} for n, t in enumerate(times)], day=date(2026, 1, 5))
    table = bench.table("* EXCLUDE (_loaded_at)")
    content = bench.query("SELECT content_hash FROM ops.loads")
    print(json.dumps([table, content], default=str))
"""


def test_the_zone_of_the_machine_does_not_matter() -> None:
    root = Path(__file__).parents[1]
    seen = {}
    for zone in ("UTC", TOKYO, NEW_YORK):
        ran = subprocess.run(
            [sys.executable, "-c", IN_ANOTHER_ZONE],
            cwd=root,
            env={**os.environ, "TZ": zone},
            capture_output=True,
            text=True,
            check=False,
        )
        assert ran.returncode == 0, ran.stderr
        seen[zone] = json.loads(ran.stdout)
    table, content = seen["UTC"]
    assert [row["id"] for row in table] == [1, 2, 3, 4]
    assert table[0] == {
        "id": 1,
        "t": "2026-01-04 15:00:00+00:00",
        "s": "2026-01-04 15:30:00+00:00",
        "o": "2026-01-04 15:30:00+00:00",
        "m": "2026-01-04 15:00:00+00:00",
        "w": "2026-01-05 00:30:00",
        "d": "2026-01-05",
        "e": "2026-01-05",
        "p": "2026-01-05",
        "hour": 15,
        "day": "2026-01-04",
        "t_local": "2026-01-05 00:00:00",
        "_partition": "2026-01-05",
        "_run_id": "run",
        "_extra": None,
    }
    assert len({row["content_hash"] for row in content}) == 1
    assert seen[TOKYO] == seen["UTC"]
    assert seen[NEW_YORK] == seen["UTC"]
