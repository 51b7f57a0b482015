"""SQL over the APIs of the sources, as a DB-API 2.0 module: `etl_assets.sql.connect(…)`.

The names of PEP 249 are those of `dbapi`, which is loaded with the first of them: commands that need no engine start
without it.
"""

import importlib
from typing import Any

__all__ = [
    "BINARY", "DATETIME", "NUMBER", "ROWID", "STRING", "Binary", "Connection", "Cursor", "DataError", "DatabaseError",
    "Date", "DateFromTicks", "Error", "IntegrityError", "InterfaceError", "InternalError", "NotSupportedError",
    "OperationalError", "ProgrammingError", "Time", "TimeFromTicks", "Timestamp", "TimestampFromTicks", "Warning",
    "apilevel", "connect", "paramstyle", "threadsafety",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module("etl_assets.sql.dbapi"), name)
