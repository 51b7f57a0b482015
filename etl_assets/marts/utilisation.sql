-- Hours per member and week (from Monday on), and how much of them was billable and linked to an issue.
WITH worklog AS (
    -- Whole microseconds add up alike in any order, so that building again changes nothing; hours do not.
    SELECT
        *,
        CAST(round(tracked_hours * 3.6e9) AS BIGINT) AS tracked,
        CAST(round(billable_hours * 3.6e9) AS BIGINT) AS billable
    FROM mart.worklog
)
SELECT
    CAST(date_trunc('week', day) AS DATE) AS week,
    user_id,
    max(user_name) AS user_name,
    count(DISTINCT day) AS days_tracked,
    sum(tracked) / 3.6e9 AS tracked_hours,
    sum(billable) / 3.6e9 AS billable_hours,
    coalesce(sum(tracked) FILTER (issue_id IS NOT NULL), 0) / 3.6e9 AS issue_hours,
    CASE WHEN sum(tracked) > 0 THEN sum(billable) / sum(tracked) END AS billable_share
FROM worklog
GROUP BY ALL
