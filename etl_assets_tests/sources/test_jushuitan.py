"""First."""
import pytest
from etl_assets_tests.sources.truth import lab, day
DAILY={"skus":"skus","combine_skus":"combine_skus","suppliers":"suppliers","orders":"orders","outbound":"outbounds","refunds":"refunds","aftersale_received":"received","purchases":"purchases"}
@pytest.mark.parametrize("stream", DAILY)
def test_eq(tmp_path, stream):
    with lab("jushuitan", tmp_path, days=2) as x:
        x.sandbox.change("settings", per_second=0, per_minute=0)
        x.run(stream, day(2), day(1), day(2))
        rows = [r for d in (1,2) for r in x.sandbox.truth(stream=DAILY[stream], day=str(day(d)))]
        x.assert_true(stream, rows)
@pytest.mark.parametrize("stream", ["shops","warehouses","logistics_companies","inventory", "purchase_ins"])
def test_sn(tmp_path, stream):
    with lab("jushuitan", tmp_path, days=2) as x:
        x.sandbox.change("settings", per_second=0, per_minute=0)
        x.run(stream)
        x.assert_true(stream, x.sandbox.truth(stream=stream if stream!="purchase_ins" else "purchaseins"))
@pytest.mark.parametrize("stream", ["orders","outbound","refunds"])
def test_child(tmp_path, stream):
    with lab("jushuitan", tmp_path, days=2) as x:
        x.sandbox.change("settings", per_second=0, per_minute=0)
        x.run(stream, day(2), day(1))
        c={"orders":"order_items","outbound":"outbound_items","refunds":"refund_items"}[stream]
        rows = [r for d in (1,2) for r in x.sandbox.truth(stream=c, day=str(day(d)))]
        x.assert_true(c, rows)
