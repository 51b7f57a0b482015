"""From what went wrong, in the engine or at a source, to the errors of DB-API."""

import re
from collections.abc import Callable, Sequence
from typing import Any

import duckdb

from etl_assets import redact
from etl_assets.errors import EtlError
from etl_assets.sql import errors
from etl_assets.sql.statement import Statement
from etl_assets.sql.tables import Catalog, Table, columns_alike

_NO_TABLE = re.compile(r"Table with name \"?([\w.]+)\"? does not exist")
_NO_COLUMN = re.compile(
    r"[Cc]olumn \"?(?:named \")?([\w.]+)\"? (?:not found|does not|exists)|does not have a column named \"(\w+)\""
)
_ERRORS: dict[type[Exception], type[errors.Error]] = {
    duckdb.ParserException: errors.ProgrammingError,
    duckdb.CatalogException: errors.ProgrammingError,
    duckdb.BinderException: errors.ProgrammingError,
    duckdb.SyntaxException: errors.ProgrammingError,
    duckdb.ConversionException: errors.DataError,
    duckdb.OutOfRangeException: errors.DataError,
    duckdb.TypeMismatchException: errors.DataError,
    duckdb.DataError: errors.DataError,
    duckdb.IntegrityError: errors.IntegrityError,
    duckdb.InterruptException: errors.OperationalError,
    duckdb.PermissionException: errors.NotSupportedError,
    duckdb.NotSupportedError: errors.NotSupportedError,
    duckdb.NotImplementedException: errors.NotSupportedError,
    duckdb.InvalidInputException: errors.ProgrammingError,
    duckdb.ProgrammingError: errors.ProgrammingError,
    duckdb.InternalError: errors.InternalError,
    duckdb.OperationalError: errors.OperationalError,
}


def translated(work: Callable[[], Any], statement: Statement, catalog: Catalog, tables: Sequence[Table]) -> Any:
    """What `work` gives. Errors become those of DB-API, without secrets, and say what may have been meant."""
    try:
        return work()
    except errors.Error as error:
        problem: errors.Error = error
    except EtlError as error:
        problem = errors.OperationalError(redact.scrub(str(error)))
    except duckdb.Error as error:
        problem = _problem(error, statement.error, catalog, tables)
    if isinstance(statement.error, KeyboardInterrupt):
        raise KeyboardInterrupt
    raise problem  # out here, where the engine's error is not its context: that carries texts that nobody scrubbed


def _problem(
    error: duckdb.Error, cause: BaseException | None, catalog: Catalog, tables: Sequence[Table]
) -> errors.Error:
    """DuckDB's error, or what stopped the scan that it tells of."""
    if isinstance(cause, errors.Error):
        return cause
    if isinstance(cause, EtlError):
        return errors.OperationalError(redact.scrub(str(cause)))
    if cause is not None:
        return errors.InternalError(redact.scrub(f"{type(cause).__name__}: {cause}"))
    kind = next((found for known, found in _ERRORS.items() if isinstance(error, known)), errors.DatabaseError)
    return kind(redact.scrub(_with_suggestion(str(error), catalog, tables)))


def _with_suggestion(text: str, catalog: Catalog, tables: Sequence[Table]) -> str:
    """DuckDB's text; its own suggestions look at letters only, and do not know other sources."""
    if found := _NO_TABLE.search(text):
        alike = catalog.alike(found[1])
    elif found := _NO_COLUMN.search(text):
        alike = columns_alike(found[1] or found[2], tables)
    else:
        return text
    first = text.splitlines()[0]
    return f"{first}\nDid you mean {' or '.join(alike)}?" if alike else text
