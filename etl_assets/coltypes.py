"""What each column type of a stream file accepts, as DuckDB expressions.

Each expression takes the value as text and gives the typed value, or NULL where it does not fit. An empty
text is NULL for every type but `string`, and counts as absent: several APIs send "" for null. Nothing is rounded
or cut to make it fit.
"""

from etl_assets.spec import Column
from etl_assets.sqltext import literal

NEVER_UNFIT = ("string", "json")
# What the warehouses hold alike; an epoch in the wrong unit falls outside.
_RANGES = {
    "TIMESTAMPTZ": ("0001-01-01 00:00:00+00", "9999-12-31 23:59:59.999999+00"),
    "TIMESTAMP": ("0001-01-01 00:00:00", "9999-12-31 23:59:59.999999"),
    "DATE": ("0001-01-01", "9999-12-31"),
}
_DATE = literal(r"\d{4}-\d\d-\d\d")
_WALL_CLOCK = literal(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d+)?)?)?")
_INSTANT = literal(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)? ?(Z|[+-](0\d|1[0-4])(:?[0-5]\d)?)")
_EPOCH_UNITS = {"epoch_s": 1_000_000, "epoch_ms": 1_000}
_LATEST_EPOCH_MICROS = 253_402_300_799_999_999
_EARLIEST_EPOCH_MICROS = -62_135_596_800_000_000


def typed(value: str, column: Column, *, zone: str, home: str, reading: str) -> str:
    """The typed value of the SQL expression `value`.

    `zone` is an SQL expression: the zone of times without an offset. `home` is the source's zone, in which
    dates are meant. `reading` is offset_aware, or user_wall_clock where offsets are decoration.
    """
    number = f"NOT contains({value}, '_')"  # DuckDB reads 1_000 as one
    match column.type:
        case "string":
            return value
        case "json":
            return f"CAST({value} AS JSON)"
        case "integer":
            whole = f"TRY_CAST({value} AS BIGINT)"
            return f"CASE WHEN {number} AND {whole} = TRY_CAST({value} AS DOUBLE) THEN {whole} END"
        case "number":
            double = f"TRY_CAST({value} AS DOUBLE)"
            return f"CASE WHEN {number} AND isfinite({double}) THEN {double} END"
        case "boolean":
            return f"TRY_CAST({value} AS BOOLEAN)"
        case "timestamp":
            return _within(_instant(value, column.format, zone, reading), "TIMESTAMPTZ")
        case "datetime":
            wall = f"CASE WHEN regexp_full_match({value}, {_WALL_CLOCK}) THEN TRY_CAST({value} AS TIMESTAMP) END"
            return _within(wall, "TIMESTAMP")
        case "date":
            return _within(_date(value, column.format, home), "DATE")
    return f"CASE WHEN {number} THEN {_decimal(value, column.duckdb_type)} END"


def _decimal(value: str, duckdb_type: str) -> str:
    """Exact or nothing: a value with more decimals than the column keeps does not fit."""
    precision, scale = (int(part) for part in duckdb_type.removeprefix("DECIMAL(").rstrip(")").split(","))
    exact = f"TRY_CAST({value} AS {duckdb_type})"
    if precision > 32:  # no finer type has room for the value
        cut = literal(rf"\.\d{{{scale}}}\d{{0,5}}[1-9]|[eE]-")
        return f"CASE WHEN NOT regexp_matches({value}, {cut}) THEN {exact} END"
    finer = f"DECIMAL(38,{scale + 6})"
    return f"CASE WHEN {exact} = TRY_CAST({value} AS {finer}) THEN {exact} END"


def _instant(value: str, form: str, zone: str, reading: str) -> str:
    # Where clocks go forward, a time that does not exist is read an hour later; where they go back, the
    # second of the two is meant. Without the offset the API has not said more.
    if form in _EPOCH_UNITS:
        # Floored, as a time written out is cut to microseconds: rounding could carry it into the next day.
        count, unit = f"TRY_CAST({value} AS DECIMAL(27,9))", _EPOCH_UNITS[form]
        bounds = f"{_EARLIEST_EPOCH_MICROS // unit} AND {_LATEST_EPOCH_MICROS // unit}"
        return f"CASE WHEN {count} BETWEEN {bounds} THEN make_timestamptz(CAST(floor({count} * {unit}) AS BIGINT)) END"
    if form != "iso":
        parsed = f"try_strptime({value}, {literal(form)})"
        return parsed if _zoned(form) else f"timezone({zone}, {parsed})"
    # DuckDB drops an offset when it casts to TIMESTAMP: what remains is the wall clock as it was written.
    wall = f"timezone({zone}, TRY_CAST({value} AS TIMESTAMP))"
    if reading == "user_wall_clock":
        written = f"regexp_full_match({value}, {_INSTANT}) OR regexp_full_match({value}, {_WALL_CLOCK})"
        return f"CASE WHEN {written} THEN {wall} END"
    return (
        f"CASE WHEN regexp_full_match({value}, {_INSTANT}) THEN TRY_CAST({value} AS TIMESTAMPTZ) "
        f"WHEN regexp_full_match({value}, {_WALL_CLOCK}) THEN {wall} END"
    )


def _zoned(form: str) -> bool:
    return "%z" in form.lower()


def _within(value: str, kind: str) -> str:
    earliest, latest = map(literal, _RANGES[kind])
    return f"CASE WHEN {value} BETWEEN {kind} {earliest} AND {kind} {latest} THEN {value} END"


def _date(value: str, form: str, home: str) -> str:
    """A calendar day. Midnight of whatever offset is taken as the day written; other instants are days at home.

    APIs write days as midnight UTC or as midnight at home in UTC, sometimes both (Backlog sheet, 5.1).
    """
    zone = literal(home)
    if form in _EPOCH_UNITS:
        return f"CAST(timezone({zone}, {_instant(value, form, zone, '')}) AS DATE)"
    if _zoned(form):
        return f"CAST(timezone({zone}, try_strptime({value}, {literal(form)})) AS DATE)"
    if form != "iso":
        return f"CAST(try_strptime({value}, {literal(form)}) AS DATE)"
    instant = f"regexp_full_match({value}, {_INSTANT})"
    return (
        f"CASE WHEN regexp_full_match({value}, {_DATE}) THEN TRY_CAST({value} AS DATE) "
        f"WHEN {instant} AND substr({value}, 12, 5) <> '00:00' "
        f"THEN CAST(timezone({zone}, TRY_CAST({value} AS TIMESTAMPTZ)) AS DATE) "
        f"WHEN {instant} OR regexp_full_match({value}, {_WALL_CLOCK}) "
        f"THEN CAST(TRY_CAST({value} AS TIMESTAMP) AS DATE) END"
    )
