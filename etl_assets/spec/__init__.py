"""The model of a stream file: what a source is, and what each of its streams asks, keeps and promises.

One YAML file describes one source; a reference to nothing or a contradiction is refused, with the key.
docs/streams.md explains every key.
What to put here: the vocabulary and its consistency rules. What to keep out: how any of it is carried out.
"""

from etl_assets.spec.paging import Cursor, Keyset, Offset, OnePage, PageNumber, Paging
from etl_assets.spec.query import Parameter, Range
from etl_assets.spec.service import (
    Auth,
    BearerAuth,
    Errors,
    HeaderAuth,
    JushuitanAuth,
    NoAuth,
    QueryAuth,
    Rate,
    Service,
    TokenAuth,
)
from etl_assets.spec.source import Source, code_version
from etl_assets.spec.stream import Children, Column, Deletes, Derived, Quarantine, Stream, WindowSpec
from etl_assets.spec.words import BUILT_IN, PLACEHOLDER, ColumnName, Duration, Model, Name, UrlPath, Zone, snake

__all__ = [
    "BUILT_IN",
    "PLACEHOLDER",
    "Auth",
    "BearerAuth",
    "Children",
    "Column",
    "ColumnName",
    "Cursor",
    "Deletes",
    "Derived",
    "Duration",
    "Errors",
    "HeaderAuth",
    "JushuitanAuth",
    "Keyset",
    "Model",
    "Name",
    "NoAuth",
    "Offset",
    "OnePage",
    "PageNumber",
    "Paging",
    "Parameter",
    "Quarantine",
    "QueryAuth",
    "Range",
    "Rate",
    "Service",
    "Source",
    "Stream",
    "TokenAuth",
    "UrlPath",
    "WindowSpec",
    "Zone",
    "code_version",
    "snake",
]
