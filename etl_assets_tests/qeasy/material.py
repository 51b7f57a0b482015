"""What the tests of imports from Qeasy have in common: schemes, and ways to import and load them."""

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from etl_assets.qeasy.convert import convert
from etl_assets.sandbox.handle import Sandbox
from etl_assets.spec import Source, Stream
from etl_assets.streamfiles import read_source
from etl_assets_tests.sources.truth import Lab

Tree = dict[str, Any]

SHOPS: Tree = {  # the shape of the first published scheme: parameters as a list, an empty write behind it
    "source": {
        "api": "/open/shops/query",
        "method": "POST",
        "id": "shop_id",
        "number": "shop_name",
        "idCheck": True,
        "pagination": {"pageSize": 100},
        "request": [{"field": "nicks", "label": "主账号", "type": "array", "describe": "逐个精确匹配"}],
    },
    "target": {"api": "写入空操作", "method": "POST", "idCheck": True},
}
WAREHOUSES: Tree = {  # the shape of the second: an object, conditions under labels, everything found by itself
    "source": {
        "api": "/cgi/crm/custom/v2/data/query",
        "method": "POST",
        "id": "_id",
        "number": "name",
        "autoFillResponse": True,
        "request": {
            "dataObjectApiName": "object_inventory_report__c",
            "search_query_info": {
                "offset": "0",
                "limit": "20",
                "filters": {
                    "条件1": {
                        "field_name": "last_modified_time",
                        "operator": "GTE",
                        "field_values": {"value": "{LAST_SYNC_TIME}000", "parser": {"name": "StringToArray"}},
                    }
                },
            },
        },
        "otherRequest": {"currentOpenUserId": "FSUID_0123456789"},
    },
    "target": {"api": "写入空操作", "effect": "EXECUTE", "method": "POST", "idCheck": True},
}
NODES: Tree = {  # the same query as a list of nodes, as exports have it
    **WAREHOUSES["source"],
    "request": [
        {
            "field": "search_query_info",
            "type": "object",
            "children": [
                {"field": "offset", "type": "string", "value": "{{PAGINATION_START_ROW}}"},
                {"field": "limit", "type": "string", "value": "{{PAGINATION_PAGE_SIZE}}"},
                {
                    "field": "filters",
                    "type": "object",
                    "children": [
                        {
                            "field": "条件1",
                            "type": "object",
                            "children": [
                                {"field": "field_name", "type": "string", "value": "last_modified_time"},
                                {
                                    "field": "field_values",
                                    "type": "string",
                                    "value": "{LAST_SYNC_TIME}000",
                                    "parser": {"name": "StringToArray", "params": ","},
                                },
                                {"field": "operator", "type": "string", "value": "GTE"},
                            ],
                        }
                    ],
                },
            ],
        },
        {"field": "dataObjectApiName", "type": "string", "value": "object_inventory_report__c"},
    ],
    "otherRequest": [{"field": "currentOpenUserId", "type": "string", "value": "FSUID_0123456789"}],
}
ORDERS: Tree = {
    "api": "/open/orders/single/query",
    "effect": "QUERY",
    "method": "POST",
    "id": "o_id",
    "number": "so_id",
    "idCheck": False,
    "pagination": {"pageSize": 30},
    "request": [
        {"field": "page_index", "type": "int", "value": "{{PAGINATION_START_PAGE}}"},
        {"field": "page_size", "type": "int", "value": "{{PAGINATION_PAGE_SIZE}}"},
        {"field": "modified_begin", "value": "_function FROM_UNIXTIME({{LAST_SYNC_TIME}}-600,'%Y-%m-%d %H:%i:%s')"},
        {"field": "modified_end", "type": "string", "value": "{{CURRENT_TIME|datetime}}"},
    ],
    "response": [
        {"field": "status", "type": "string", "label": "状态"},
        {"field": "shop_id", "type": "int"},
        {"field": "pay_amount", "type": "decimal"},
        {"field": "modified", "type": "datetime"},
        {"field": "is_cod", "type": "bool"},
        {
            "field": "items",
            "type": "array",
            "children": [{"field": "sku_id", "type": "string"}, {"field": "qty", "type": "int"}],
        },
    ],
    "beatFlat": ["items"],
}


def imported(metadata: Any, *, name: str | None = None) -> tuple[Source, tuple[str, ...]]:
    """The source that the model reads from the import, and the warnings."""
    made = convert(json.dumps(metadata), name=name, origin="scheme.json")
    file = Path("imported.yaml")
    file.write_text(made.text, "utf-8")
    return read_source(file.resolve()), made.warnings


def stream_of(metadata: Any) -> Stream:
    return imported(metadata)[0].streams[0]


def warnings_of(metadata: Any) -> tuple[str, ...]:
    return imported(metadata)[1]


def warned(warnings: tuple[str, ...], path: str) -> str:
    """The warnings about a key."""
    found = [line for line in warnings if path in line.split(": ")[0].split(", ")]
    assert found, f"{path} is not among {warnings}"
    return "\n".join(found)


@contextmanager
def loading(sandbox: Sandbox, folder: Path, metadata: Any) -> Iterator[Lab]:
    """The imported source in a folder of its own, but without the waits of its rates."""
    made = convert(json.dumps(metadata), name=None, origin="scheme.json")
    tree = yaml.safe_load(made.text)
    tree["limits"]["rates"] = {"default": ["5000/1s"]}
    files = folder / "sources"
    files.mkdir()
    (files / "imported.yaml").write_text(yaml.safe_dump(tree, allow_unicode=True), "utf-8")
    with ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        ours = {"ETL_DATA_DIR": str(folder / "data"), "ETL_SOURCES_DIR": str(files)}
        for variable, value in {**sandbox.env(), **ours}.items():
            patch.setenv(variable, value)
        patch.setenv(f"{tree['source'].upper()}_BASE_URL", sandbox.url)
        lab = Lab(sandbox, tree["source"], folder)
        yield lab
        if "api" in vars(lab):
            lab.api.client.close()


def whole(row: Tree) -> Tree:
    """A table's row with what stands in `_extra`."""
    return {**row, **(row["_extra"] or {})}
