"""TROCCO as a DB-API 2.0 module: its tables need no prefix."""

from functools import partial

from etl_assets.sql import dbapi
from etl_assets.sql.dbapi import *  # noqa: F403 - PEP 249 wants its names in the module

connect = partial(dbapi.connect, source="trocco")
