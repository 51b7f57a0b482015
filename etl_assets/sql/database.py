"""The databases that statements run in: their settings, and what a statement may do there."""

from typing import Any

import duckdb

from etl_assets.settings import Settings
from etl_assets.sql import errors

_READS = {duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN}


def config(settings: Settings) -> dict[str, Any]:
    """Settings of a database in memory."""
    return {
        "threads": 1,  # a second one takes as much memory again, and what takes long here is waiting for answers
        "memory_limit": f"{settings.duckdb_memory_mb}MB",
        "temp_directory": str(settings.data_dir / "spill"),
        "autoinstall_known_extensions": False,
    }


def lock(db: duckdb.DuckDBPyConnection) -> None:
    """Put files, other databases, Python's variables and these settings out of reach."""
    db.execute("SET GLOBAL python_enable_replacements = false")
    db.execute("SET GLOBAL enable_external_access = false")
    db.execute("SET GLOBAL lock_configuration = true")


def refuse_writing(db: duckdb.DuckDBPyConnection, sql: str) -> None:
    """Raises NotSupportedError unless the text is one statement that reads."""
    statements = db.extract_statements(sql)
    if not statements:
        raise errors.ProgrammingError("there is no statement")
    if len(statements) > 1:
        raise errors.NotSupportedError("one statement at a time")
    if statements[0].type not in _READS:
        kind = str(statements[0].type).rpartition(".")[2]
        raise errors.NotSupportedError(
            f"{kind} is refused: sources are read only, with SELECT, DESCRIBE, SHOW, EXPLAIN"
        )
