-- Hours tracked in TMetric per day, member and Backlog issue, beside the hours planned for the issue.
-- An entry belongs to the issue whose key is the caption of its task's external link; entries without such a
-- link, or with one that is no issue of ours, keep their row with an empty issue. Running timers are left out.
WITH issues AS (
    SELECT * FROM backlog.issues
    -- A deleted project's keys may be given again: an hour counts once, for the issue that exists.
    QUALIFY row_number() OVER (PARTITION BY issue_key ORDER BY _deleted_at IS NULL DESC, id DESC) = 1
)
SELECT
    entry._partition AS day,
    entry.user_id,
    max(entry.user_name) AS user_name,
    entry.project_id AS tmetric_project_id,
    max(entry.project_name) AS tmetric_project_name,
    entry.task_external_link_caption AS issue_key,
    issue.id AS issue_id,
    issue.project_id AS backlog_project_id,
    project.name AS backlog_project_name,
    issue.summary,
    issue.status_name,
    issue.estimated_hours AS planned_hours,
    issue.actual_hours AS recorded_hours,
    count(*) AS entries,
    sum(entry.duration_seconds) / 3600.0 AS tracked_hours,
    coalesce(sum(entry.duration_seconds) FILTER (entry.is_billable), 0) / 3600.0 AS billable_hours
FROM tmetric.time_entries AS entry
LEFT JOIN issues AS issue ON issue.issue_key = entry.task_external_link_caption
LEFT JOIN backlog.projects AS project ON project.id = issue.project_id
WHERE NOT entry.is_running
GROUP BY ALL
