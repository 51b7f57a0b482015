"""The worked signatures of Jushuitan's fact sheet (section 4.3), made with invented credentials."""

import pytest

from etl_assets.jushuitan import sign

SECRET = "0f1e2d3c4b5a69788796a5b4c3d2e1f0"
COMMON = {"app_key": "a1b2c3d4e5f60718293a4b5c6d7e8f90", "timestamp": "1767225600", "charset": "utf-8"}
BUSINESS = {**COMMON, "access_token": "00112233445566778899aabbccddeeff", "version": "2"}
WEEK = '{"modified_begin":"2026-01-01 00:00:00","modified_end":"2026-01-07 23:59:59",'

VECTORS = {
    "a page": (
        {**BUSINESS, "biz": '{"page_index":1,"page_size":100}'},
        "2d636d5b3ae1bdfb66bc96dedeb5ddca",
    ),
    "one shop": (
        {**BUSINESS, "biz": '{"shop_ids":[10001],"page_index":1,"page_size":100}'},
        "19bfd37ac4c7d50406dda9c1a66e5351",
    ),
    "Chinese text": (
        {**BUSINESS, "biz": WEEK + '"page_index":1,"page_size":50,"status":"Confirmed","remark":"中文"}'},
        "121e7623d15826d67a59f1088af6ea2b",
    ),
    "a refresh": (
        {
            **COMMON,
            "grant_type": "refresh_token",
            "refresh_token": "ffeeddccbbaa99887766554433221100",
            "scope": "all",
        },
        "16fe3d16ef2f8da892194e8a3ac8b654",
    ),
    "a first token": (
        {**COMMON, "grant_type": "authorization_code", "code": "Ab12Cd"},
        "dfacbe9f3cf1486f4ec817bc4ebdc3f3",
    ),
}


@pytest.mark.parametrize(("fields", "signature"), VECTORS.values(), ids=VECTORS)
def test_the_worked_signatures_come_out(fields: dict[str, str], signature: str) -> None:
    assert sign(SECRET, fields) == signature


@pytest.mark.parametrize(("fields", "signature"), VECTORS.values(), ids=VECTORS)
def test_neither_the_order_of_fields_nor_empty_ones_count(fields: dict[str, str], signature: str) -> None:
    assert sign(SECRET, {"state": "", **dict(reversed(fields.items()))}) == signature


def test_the_exact_text_of_biz_counts() -> None:
    assert sign(SECRET, {**BUSINESS, "biz": '{"page_index": 1, "page_size": 100}'}) != VECTORS["a page"][1]
