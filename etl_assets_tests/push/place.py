"""A place to push from: a warehouse with one table, the simulated target, and looks at what came of it."""

import contextlib
import copy
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import yaml

from etl_assets.pipeline import Pipeline
from etl_assets.push import run
from etl_assets.push.files import load_targets
from etl_assets.push.spec import Push, Target
from etl_assets.sandbox.handle import Sandbox
from etl_assets.settings import Settings

Row = dict[str, Any]

SERVICE = yaml.safe_load("""
target: depot
title: Depot
base_url: https://depot.example
timezone: Asia/Shanghai
settings:
  DEPOT_CLIENT_ID: {secret: true, help: Ask for it.}
  DEPOT_CLIENT_SECRET: {secret: true, help: Ask for it.}
auth:
  type: token
  path: /v1/token
  json: {clientId: "{DEPOT_CLIENT_ID}", clientSecret: "{DEPOT_CLIENT_SECRET}"}
  token: data.token
  expires_in: data.expiresIn
  headers: {Authorization: "Bearer {token}"}
errors: {code: code, ok: [0], message: message, retry: [999]}
limits: {parallel: 2}
""")
THINGS = yaml.safe_load("""
name: things
from: {table: demo.things}
key: [id]
fields: {id: {column: id, type: string}, name: name, size.qty: qty}
write:
  path: /v1/things/batch
  json: {items: "{documents}"}
  size: 4
  results: {rows: data.results, id: id, code: code, ok: [0], final: [4002], message: message, target_id: recordId}
delete:
  path: /v1/things/remove
  json: {ids: "{ids}"}
  size: 4
  results: {rows: data.results, id: id, code: code, ok: [0], message: message}
""")
LOOK_UP = yaml.safe_load("""
path: /v1/things/check
json: {ids: "{ids}"}
size: 3
rows: data.records
id: id
target_id: recordId
record: record
after: 0s
""")
UPDATE = yaml.safe_load("""
method: PUT
path: "/v1/things/{target_id}"
json: "{document}"
results: {target_id: data.recordId}
""")
KEY = {"header": "Idempotency-Key"}
DECIDED_BY: Mapping[str, Row] = {
    "key": {"idempotency": KEY},
    "field": {"idempotency": {"field": "requestId"}},
    "look-up": {"look_up": LOOK_UP},
    "nothing": {},
}
"""Keys of a push by what decides over a lost answer."""


def things(count: int, **more: Any) -> list[Row]:
    """Rows for the table, `t01` and on."""
    return [{"id": f"t{n:02}", "name": f"品 {n}", "qty": n, **more} for n in range(1, count + 1)]


@dataclass(frozen=True)
class Place:
    """The target and a folder. The push is `depot/things` of the file in `sources/push`."""

    root: Path
    sandbox: Sandbox

    def declare(self, *, service: Mapping[str, Any] | None = None, **push: Any) -> None:
        """Write the push file: the usual push with other or further keys, None taking one out."""
        declared = {name: value for name, value in {**copy.deepcopy(THINGS), **push}.items() if value is not None}
        folder = self.root / "sources" / "push"
        folder.mkdir(parents=True, exist_ok=True)
        tree = {**SERVICE, **(service or {}), "pushes": [declared]}
        (folder / "depot.yaml").write_text(yaml.safe_dump(tree, allow_unicode=True, sort_keys=False), "utf-8")

    def fill(self, rows: Sequence[Row], table: str = "demo.things") -> None:
        """Have the warehouse hold these rows and no others."""
        columns = {"id": "VARCHAR", "name": "VARCHAR", "qty": "BIGINT"}
        self.execute(
            "CREATE SCHEMA IF NOT EXISTS demo",
            f"CREATE OR REPLACE TABLE {table} ({', '.join(f'{n} {k}' for n, k in columns.items())})",
        )
        with duckdb.connect(str(self.warehouse)) as db:
            for row in rows:
                db.execute(f"INSERT INTO {table} VALUES (?, ?, ?)", [row["id"], row["name"], row["qty"]])

    def execute(self, *statements: str) -> None:
        """Change the warehouse."""
        self.warehouse.parent.mkdir(parents=True, exist_ok=True)
        with duckdb.connect(str(self.warehouse)) as db:
            for statement in statements:
                db.execute(statement)

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def warehouse(self) -> Path:
        return self.data / "warehouse.duckdb"

    @property
    def env(self) -> dict[str, str]:
        return {
            **self.sandbox.env(),
            "ETL_DATA_DIR": str(self.data),
            "ETL_SOURCES_DIR": str(self.root / "sources"),
            "ETL_RETRY_BASE_SECONDS": "0.001",
        }

    @property
    def target(self) -> Target:
        return load_targets(self.root / "sources")["depot"]

    @property
    def push(self) -> Push:
        return self.target.pushes[0]

    def run(self, run_id: str = "run") -> run.Pushed:
        """One run of the push, with the variables of this process."""
        return run.push(Pipeline(Settings.read()), self.target, self.push, run_id)

    def ledger(self) -> dict[str, Row]:
        """The ledger's rows by record id, read from outside."""
        file = self.data / "push" / "ledger.sqlite"
        if not file.exists():
            return {}
        with contextlib.closing(sqlite3.connect(file)) as db:
            db.row_factory = sqlite3.Row
            made = db.execute("SELECT 1 FROM sqlite_master WHERE name = 'records'").fetchall()
            rows = [dict(row) for row in db.execute("SELECT * FROM records WHERE push = 'things'")] if made else []
        return {row["record_id"]: row for row in rows}

    def states(self) -> dict[str, str]:
        return {record_id: row["state"] for record_id, row in self.ledger().items()}

    def there(self, kind: str = "things") -> list[Row]:
        """All records that the target ever had."""
        return self.sandbox.truth(kind=kind)

    def contents(self) -> dict[str, Row]:
        """What the target has now, by our id; of two records of one id an error."""
        live = [row for row in self.there() if not row["deleted"]]
        found = {row["ref"]: row["content"] for row in live}
        assert len(found) == len(live), "two records of one id"
        return found

    def writes(self) -> dict[str, int]:
        """How often each id was written, over all its records."""
        counted: dict[str, int] = {}
        for row in self.there():
            counted[row["ref"]] = counted.get(row["ref"], 0) + row["writes"]
        return counted


def document(row: Row) -> Row:
    """What the target should hold for a row."""
    return {"id": row["id"], "name": row["name"], "size": {"qty": row["qty"]}}
