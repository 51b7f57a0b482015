-- Sales per day of order and shop in Jushuitan, less what was refunded on that day.
-- Days are days in Shanghai. Cancelled, merged and split orders do not count; unpaid ones count as orders without amount.
WITH sales AS (
    SELECT
        CAST(timezone('Asia/Shanghai', order_date) AS DATE) AS day,
        shop_id,
        count(*) AS orders,
        count(*) FILTER (status = 'Sent') AS sent_orders,
        sum(coalesce(paid_amount, 0)) AS paid_amount
    FROM jushuitan.orders
    WHERE order_date IS NOT NULL AND status NOT IN ('Cancelled', 'Merged', 'Split')
    GROUP BY ALL
),
refunds AS (
    SELECT
        CAST(timezone('Asia/Shanghai', coalesce(confirm_date, as_date)) AS DATE) AS day,
        shop_id,
        count(*) AS refunds,
        sum(coalesce(refund, 0)) AS refunded_amount
    FROM jushuitan.refunds
    WHERE status = 'Confirmed'
    GROUP BY ALL
)
SELECT
    day,
    shop_id,
    shop.shop_name,
    coalesce(sales.orders, 0) AS orders,
    coalesce(sales.sent_orders, 0) AS sent_orders,
    coalesce(sales.paid_amount, 0) AS paid_amount,
    coalesce(refunds.refunds, 0) AS refunds,
    coalesce(refunds.refunded_amount, 0) AS refunded_amount,
    coalesce(sales.paid_amount, 0) - coalesce(refunds.refunded_amount, 0) AS net_amount
FROM sales
FULL JOIN refunds USING (day, shop_id)
LEFT JOIN jushuitan.shops AS shop USING (shop_id)
