"""Looking for a secret in everything that was written: files of every kind, opened and decompressed."""

import base64
import contextlib
import html
import json
import secrets
import sqlite3
import urllib.parse
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import duckdb
import zstandard

_MARKED = 12  # hexadecimal digits that occur nowhere by accident


@dataclass(frozen=True)
class Canary:
    """A secret that every encoding changes somewhere, and whose ends no encoding but base64 changes."""

    head: str = field(default_factory=lambda: secrets.token_hex(_MARKED // 2))
    tail: str = field(default_factory=lambda: secrets.token_hex(_MARKED // 2))
    middle: str = "/+=@ é"

    @property
    def value(self) -> str:
        return f"{self.head}{self.middle}{self.tail}"

    def traces(self) -> dict[str, bytes]:
        """What gives the secret away, even in part: either end of it, and its core in base64."""
        raw = self.value.encode()
        found = {"head": self.head.encode(), "tail": self.tail.encode()}
        for name, encode in (("base64", base64.b64encode), ("urlsafe base64", base64.urlsafe_b64encode)):
            for shift in range(3):
                # Of the letters in the middle none depends on what stands before or after the secret.
                found[f"{name} {shift}"] = encode(b"." * shift + raw + b"." * 3)[4:][:16]
        return found


def spellings(secret: str) -> dict[str, str]:
    """A JSON string that holds the secret, in the ways in which vendors' encoders write it, and encoded further."""
    escaped = json.dumps(secret)
    return {
        "ASCII": escaped,
        "letters": json.dumps(secret, ensure_ascii=False),
        "PHP": escaped.replace("/", "\\/"),
        ".NET": escaped.replace("+", "\\u002B").replace("\\u00e9", "\\u00E9"),
        "Gson": json.dumps(secret, ensure_ascii=False).replace("=", "\\u003d"),
        "percent": json.dumps(urllib.parse.quote(secret, safe="")),
        "percent, slash kept": json.dumps(urllib.parse.quote(secret)),
        "form": json.dumps(urllib.parse.quote_plus(secret)),
        "HTML": json.dumps(html.escape(secret)),
        "base64": json.dumps(base64.b64encode(secret.encode()).decode()),
        "base64 at 1": json.dumps(base64.b64encode(b"x" + secret.encode()).decode()),
        "base64 at 2": json.dumps(base64.b64encode(b"me" + secret.encode() + b"!").decode()),
        "urlsafe base64": json.dumps(base64.urlsafe_b64encode(b"me:" + secret.encode()).decode()),
        "within": json.dumps(f"Bearer {secret}, again {secret}"),
    }


def leaks(canary: Canary, *folders: Path, texts: dict[str, str] | None = None) -> list[str]:
    """Where the secret is: `file: trace`, for everything below the folders and in the texts."""
    traces = canary.traces()
    found = []
    for name, content in [*_contents(*folders), *((name, text.encode()) for name, text in (texts or {}).items())]:
        found += [f"{name}: {trace}" for trace, form in traces.items() if form in content]
    return sorted(set(found))


def _contents(*folders: Path) -> Iterator[tuple[str, bytes]]:
    for path in (path for folder in folders for path in sorted(folder.rglob("*"))):
        yield f"name of {path}", str(path).encode()
        if not path.is_file():
            continue
        yield str(path), path.read_bytes()
        for what, content in _opened(path):
            yield f"{path} ({what})", content


def _opened(path: Path) -> Iterator[tuple[str, bytes]]:
    """What a reader of the format sees."""
    if path.suffix == ".zst":
        yield "decompressed", zstandard.ZstdDecompressor().stream_reader(path.read_bytes()).read()
    elif path.suffix == ".parquet":
        with duckdb.connect(":memory:") as db:
            yield from _rows(db, f"read_parquet('{path}')")
            yield from _rows(db, f"parquet_kv_metadata('{path}')")
    elif path.suffix == ".duckdb":
        with duckdb.connect(str(path), read_only=True) as db:
            for schema, table in db.execute("SELECT schema_name, table_name FROM duckdb_tables()").fetchall():
                yield from _rows(db, f'"{schema}"."{table}"')
    elif path.read_bytes().startswith(b"SQLite format 3"):
        with contextlib.closing(sqlite3.connect(path)) as db:
            for (table,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
                for row in db.execute(f'SELECT * FROM "{table}"'):
                    yield table, b"\n".join(map(_plain, row))


def _rows(db: duckdb.DuckDBPyConnection, relation: str) -> Iterator[tuple[str, bytes]]:
    yield relation, repr(db.execute(f"SELECT CAST(row AS VARCHAR) FROM {relation} AS row").fetchall()).encode()


def _plain(value: object) -> bytes:
    if not isinstance(value, bytes):
        return str(value).encode()
    with contextlib.suppress(zlib.error):
        return zlib.decompress(value)
    return value
