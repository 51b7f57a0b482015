-- Hours per member and week (from Monday on), and how much of them was billable and linked to an issue.
WITH worklog AS (
    -- Decimals add up alike in any order, so that building again changes nothing; floating point does not.
    SELECT
        *,
        CAST(tracked_hours AS DECIMAL(18, 9)) AS tracked,
        CAST(billable_hours AS DECIMAL(18, 9)) AS billable
    FROM mart.worklog
)
SELECT
    CAST(date_trunc('week', day) AS DATE) AS week,
    user_id,
    max(user_name) AS user_name,
    count(DISTINCT day) AS days_tracked,
    CAST(sum(tracked) AS DOUBLE) AS tracked_hours,
    CAST(sum(billable) AS DOUBLE) AS billable_hours,
    CAST(coalesce(sum(tracked) FILTER (issue_id IS NOT NULL), 0) AS DOUBLE) AS issue_hours,
    CASE WHEN sum(tracked) > 0 THEN CAST(sum(billable) AS DOUBLE) / CAST(sum(tracked) AS DOUBLE) END AS billable_share
FROM worklog
GROUP BY ALL
