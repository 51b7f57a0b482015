"""SQL over the APIs of the sources, as a DB-API 2.0 module: `etl_assets.sql.connect(…)`."""

from etl_assets.sql.dbapi import *  # noqa: F403 - PEP 249 wants its names in the module
from etl_assets.sql.dbapi import apilevel, connect, paramstyle, threadsafety

__all__ = ["apilevel", "connect", "paramstyle", "threadsafety"]
