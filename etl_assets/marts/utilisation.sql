-- Hours per member and week (from Monday on), and how much of them was billable and linked to an issue.
SELECT
    CAST(date_trunc('week', day) AS DATE) AS week,
    user_id,
    any_value(user_name) AS user_name,
    count(DISTINCT day) AS days_tracked,
    sum(tracked_hours) AS tracked_hours,
    sum(billable_hours) AS billable_hours,
    coalesce(sum(tracked_hours) FILTER (issue_id IS NOT NULL), 0) AS issue_hours,
    CASE WHEN sum(tracked_hours) > 0 THEN sum(billable_hours) / sum(tracked_hours) END AS billable_share
FROM mart.worklog
GROUP BY ALL
