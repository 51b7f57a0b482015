"""What each step asks of Google's services, as recorded by the proxies, against what the documents list."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from etl_assets.export import Export
from etl_assets.mart import Mart
from etl_assets.sandbox.google.handle import Google
from etl_assets_tests.data import DAY, Bench
from etl_assets_tests.test_docs import table, words
from etl_assets_tests.warehouse.conftest import Of
from etl_assets_tests.warehouse.material import MERGE, redeclared, row

DOCUMENT = (Path(__file__).parents[2] / "docs/bigquery.md").read_text("utf-8")
_WRITES = re.compile(r"\b(INSERT INTO|MERGE|UPDATE|DELETE FROM)\b")


def of_storage(call: dict[str, Any]) -> Iterator[str]:
    """The permissions that a call of Cloud Storage takes."""
    path, query, *_ = [*call["path"].split("?", 1), ""]
    if path.startswith("/upload"):
        yield "storage.objects.create"
        if "ifGenerationMatch=0" not in query:  # to overwrite is to delete
            yield "storage.objects.delete"
    elif call["method"] == "GET":
        yield "storage.objects.list" if path.endswith("/o") else "storage.objects.get"
    else:
        yield {"PATCH": "storage.objects.update", "DELETE": "storage.objects.delete"}[call["method"]]


def of_bigquery(call: dict[str, Any]) -> Iterator[str]:
    """The permissions that a call of BigQuery takes."""
    path, method = call["path"].split("?")[0], call["method"]
    if "/jobs" in path or "/queries/" in path:
        yield "bigquery.jobs.create"
        if method == "POST":
            asked = json.loads(call["body"])["configuration"]
            sql = asked.get("query", {}).get("query", "")
            if sql:
                yield "bigquery.tables.getData"
            if "load" in asked or "CREATE OR REPLACE TABLE" in sql:
                yield "bigquery.tables.create"
            if "load" in asked or "CREATE OR REPLACE TABLE" in sql or _WRITES.search(sql):
                yield "bigquery.tables.updateData"
    elif "/tables" in path:
        yield f"bigquery.tables.{ {'GET': 'get', 'POST': 'create', 'PATCH': 'update'}[method] }"
    else:
        yield f"bigquery.datasets.{ {'GET': 'get', 'POST': 'create'}[method] }"


@pytest.fixture
def used(google: Google) -> Callable[[Callable[[], Any]], set[str]]:
    """Runs something, and gives the permissions that it took."""

    def during(run: Callable[[], Any]) -> set[str]:
        google.bigquery.clear()
        google.storage.clear()
        run()
        storage = {name for call in google.storage.calls() for name in of_storage(call)}
        return storage | {name for call in google.bigquery.calls() for name in of_bigquery(call)}

    return during


def test_each_step_takes_the_permissions_that_are_documented(
    on_bigquery: Of, used: Callable[[Callable[[], Any]], set[str]]
) -> None:
    steps: dict[str, set[str]] = {"raw": set(), "clean": set(), "warehouse": set(), "mart": set()}

    def run(bench: Bench, version: str) -> None:
        steps["raw"] |= used(lambda: bench.land([page(version)], day=DAY))
        steps["clean"] |= used(lambda: bench.clean(day=DAY))
        steps["warehouse"] |= used(lambda: bench.load(day=DAY))

    bench = on_bigquery(MERGE)
    for version in ("one", "two", "one"):
        run(bench, version)
    run(redeclared(bench, MERGE.replace("v: string", "v: string, w: integer")), "three")
    mart = Mart("things", "Things.", "SELECT * FROM demo.things", (("demo", "things"),))
    steps["mart"] = used(lambda: bench.warehouse.build(mart))
    chosen = {"name": "things", "description": "Things.", "sql": "FROM demo.things", "sort": ["id"]}
    steps["export"] = used(lambda: bench.pipeline.export(Export.model_validate(chosen), None))
    documented = {step: set(words(permissions)) for step, permissions in table(DOCUMENT, "Step", "Permissions").rows}
    assert steps == documented


def page(version: str) -> Any:
    from etl_assets_tests.data import Page

    return Page([row(1, v=version), row(None)])
