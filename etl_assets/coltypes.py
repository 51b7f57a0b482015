"""What each column type of a stream file accepts, as DuckDB expressions.

Each expression takes the value as text and gives the typed value, or NULL where it does not fit. An empty
text counts as absent for every type but `string`: several APIs send "" for null. Nothing is rounded or cut to
make it fit.
"""

from etl_assets.spec import Column
from etl_assets.sqltext import literal

# The instants that the warehouses hold alike; an epoch in the wrong unit falls outside.
_EARLIEST, _LATEST = "TIMESTAMPTZ '0001-01-01 00:00:00+00'", "TIMESTAMPTZ '9999-12-31 23:59:59.999999+00'"
_DATE = literal(r"\d{4}-\d\d-\d\d")
_WALL_CLOCK = literal(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d+)?)?)?")
_INSTANT = literal(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)? ?(Z|[+-]\d\d(:?\d\d)?)")
_EPOCH_UNITS = {"epoch_s": 1_000_000, "epoch_ms": 1_000}
_LATEST_EPOCH_MICROS = 253_402_300_799_999_999
_EARLIEST_EPOCH_MICROS = -62_135_596_800_000_000


def typed(value: str, column: Column, *, zone: str, home: str, reading: str) -> str:
    """The typed value of the SQL expression `value`.

    `zone` is an SQL expression: the zone of times without an offset. `home` is the source's zone, in which
    dates are meant. `reading` is offset_aware, or user_wall_clock where offsets are decoration.
    """
    present = f"nullif({value}, '')"
    match column.type:
        case "string":
            return value
        case "json":
            return f"CAST({value} AS JSON)"
        case "integer":
            whole = f"TRY_CAST({present} AS BIGINT)"
            return f"CASE WHEN {whole} = TRY_CAST({present} AS DOUBLE) THEN {whole} END"
        case "number":
            number = f"TRY_CAST({present} AS DOUBLE)"
            return f"CASE WHEN isfinite({number}) THEN {number} END"
        case "boolean":
            return f"TRY_CAST({present} AS BOOLEAN)"
        case "timestamp":
            return _within(_instant(present, column.format, zone, reading))
        case "datetime":
            return f"CASE WHEN regexp_full_match({present}, {_WALL_CLOCK}) THEN TRY_CAST({present} AS TIMESTAMP) END"
        case "date":
            return _date(present, column.format, home)
    return _decimal(present, column.duckdb_type)


def _decimal(present: str, duckdb_type: str) -> str:
    """Exact or nothing: a value with more decimals than the column keeps does not fit."""
    precision, scale = (int(part) for part in duckdb_type.removeprefix("DECIMAL(").rstrip(")").split(","))
    finer = f"DECIMAL(38,{min(38 - (precision - scale), scale + 6)})"
    exact = f"TRY_CAST({present} AS {duckdb_type})"
    return f"CASE WHEN {exact} = TRY_CAST({present} AS {finer}) THEN {exact} END"


def _instant(present: str, form: str, zone: str, reading: str) -> str:
    # Where clocks go forward, a time that does not exist is read an hour later; where they go back, the
    # second of the two is meant. Without the offset the API has not said more.
    if form in _EPOCH_UNITS:
        micros = f"TRY_CAST({present} AS BIGINT)"
        unit = _EPOCH_UNITS[form]
        bounds = f"{_EARLIEST_EPOCH_MICROS // unit} AND {_LATEST_EPOCH_MICROS // unit}"
        return f"CASE WHEN {micros} BETWEEN {bounds} THEN make_timestamptz({micros} * {unit}) END"
    if form != "iso":
        parsed = f"try_strptime({present}, {literal(form)})"
        return parsed if "%z" in form else f"timezone({zone}, {parsed})"
    # DuckDB drops an offset when it casts to TIMESTAMP: what remains is the wall clock as it was written.
    wall = f"timezone({zone}, TRY_CAST({present} AS TIMESTAMP))"
    if reading == "user_wall_clock":
        written = f"regexp_full_match({present}, {_INSTANT}) OR regexp_full_match({present}, {_WALL_CLOCK})"
        return f"CASE WHEN {written} THEN {wall} END"
    return (
        f"CASE WHEN regexp_full_match({present}, {_INSTANT}) THEN TRY_CAST({present} AS TIMESTAMPTZ) "
        f"WHEN regexp_full_match({present}, {_WALL_CLOCK}) THEN {wall} END"
    )


def _within(instant: str) -> str:
    return f"CASE WHEN {instant} BETWEEN {_EARLIEST} AND {_LATEST} THEN {instant} END"


def _date(present: str, form: str, home: str) -> str:
    """A calendar day. Midnight of whatever offset is taken as the day written; other instants are days at home.

    APIs write days as midnight UTC or as midnight at home in UTC, sometimes both (Backlog sheet, 5.1).
    """
    zone = literal(home)
    if form in _EPOCH_UNITS:
        return f"CAST(timezone({zone}, {_within(_instant(present, form, zone, ''))}) AS DATE)"
    if form != "iso":
        return f"CAST(try_strptime({present}, {literal(form)}) AS DATE)"
    instant = f"regexp_full_match({present}, {_INSTANT})"
    return (
        f"CASE WHEN regexp_full_match({present}, {_DATE}) THEN TRY_CAST({present} AS DATE) "
        f"WHEN {instant} AND substr({present}, 12, 5) <> '00:00' "
        f"THEN CAST(timezone({zone}, TRY_CAST({present} AS TIMESTAMPTZ)) AS DATE) "
        f"WHEN {instant} OR regexp_full_match({present}, {_WALL_CLOCK}) "
        f"THEN TRY_CAST(left({present}, 10) AS DATE) END"
    )
