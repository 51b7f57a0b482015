"""Marts over tables loaded from three simulators: what each says is computed here a second time, from the truth."""

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import dagster as dg
import pytest

from etl_assets.definitions import defs
from etl_assets.errors import FinalError
from etl_assets.mart import Mart, load_marts
from etl_assets.sandbox.handle import Sandbox
from etl_assets.sandbox.server import running
from etl_assets.warehouse.duckdb import DuckDbWarehouse
from etl_assets.warehouse.protocol import Built
from etl_assets_tests.sources.truth import Lab, Row, day, lab

DAYS = (day(1), day(2), day(3))
ARCHIVED = date(2025, 7, 7)  # when the issues of the archived project were updated last
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
NAMES = ("sales_daily", "utilisation", "worklog")
UPSTREAM = {
    "sales_daily": ["jushuitan.orders", "jushuitan.refunds", "jushuitan.shops"],
    "utilisation": ["mart.worklog"],
    "worklog": ["backlog.issues", "backlog.projects", "tmetric.time_entries"],
}


@dataclass(frozen=True)
class Loaded:
    """A folder with a warehouse in which the marts can be built, and what was true when it was filled."""

    folder: Path
    truth: dict[str, list[Row]]
    deleted: str

    @property
    def warehouse(self) -> DuckDbWarehouse:
        return DuckDbWarehouse(self.folder / "data" / "warehouse.duckdb", 60, 300)


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loaded]:
    folder = tmp_path_factory.mktemp("marts")
    with running(vendors=("backlog", "tmetric", "jushuitan")) as vendors, ExitStack() as stack:
        backlog, tmetric, jushuitan = (
            stack.enter_context(lab(name, folder, sandbox=vendors.vendor(name)))
            for name in ("backlog", "tmetric", "jushuitan")
        )
        jushuitan.sandbox.change("settings", per_second=0, per_minute=0)
        deleted = odd_captions(backlog.sandbox, tmetric.sandbox)
        truth = {
            "issues": [row for on in (*DAYS, ARCHIVED) for row in on_day(backlog, "issues", on)],
            "projects": backlog.sandbox.truth(stream="projects"),
        }
        load(backlog, "projects")
        load(backlog, "issues", *DAYS, ARCHIVED)
        (gone,) = (row["id"] for row in truth["issues"] if row["issue_key"] == deleted)
        backlog.sandbox.change("issues", delete=[gone])
        load(backlog, "deleted_issues")
        load(tmetric, "time_entries", *DAYS)
        truth["entries"] = [{**row, "day": on} for on in DAYS for row in tmetric.sandbox.truth(day=on.isoformat())]
        load(jushuitan, "shops")
        truth["shops"] = jushuitan.sandbox.truth(stream="shops")
        for stream in ("orders", "refunds"):
            load(jushuitan, stream, *DAYS)
            truth[stream] = [row for on in DAYS for row in on_day(jushuitan, stream, on)]
        yield Loaded(folder, truth, deleted)


def load(x: Lab, stream: str, *days: date) -> None:
    for on in days or (None,):
        x.extract(stream, on)
        x.load(stream, on)


def on_day(x: Lab, stream: str, on: date) -> list[Row]:
    return x.sandbox.truth(stream=stream, day=on.isoformat())


def odd_captions(backlog: Sandbox, tmetric: Sandbox) -> str:
    """Link tasks with entries to an archived issue, to none of ours, and to what is no key; an issue to delete."""
    entries = [row for on in DAYS for row in tmetric.truth(day=on.isoformat()) if row["end_utc"]]
    keys = {row["issue_key"] for on in DAYS for row in backlog.truth(stream="issues", day=on.isoformat())}
    linked = {row["task_id"]: row["task_external_link_caption"] for row in entries if row["task_external_link_caption"]}
    others = [task for task, key in linked.items() if key not in keys]
    captions = ("OLD-1", "ELSEWHERE-1", "#42 Fix", "")
    changed = [{"id": task, "external_link_caption": text} for task, text in zip(others, captions, strict=False)]
    tmetric.change("tasks", update=changed)
    return next(key for key in linked.values() if key in keys)


@pytest.fixture
def own(loaded: Loaded, tmp_path: Path) -> Loaded:
    """The same warehouse, to be changed."""
    (tmp_path / "data").mkdir()
    shutil.copy(loaded.warehouse.path, tmp_path / "data")
    return Loaded(tmp_path, loaded.truth, loaded.deleted)


def mart(name: str) -> Mart:
    return next(one for one in load_marts() if one.name == name)


def build(warehouse: DuckDbWarehouse, name: str) -> Built:
    """Build a mart, and those that it reads before it."""
    for schema, table in mart(name).tables:
        if schema == "mart":
            build(warehouse, table)
    return warehouse.build(mart(name))


def rows(warehouse: DuckDbWarehouse, name: str, order: str = "ALL") -> list[Row]:
    with warehouse.reader() as db:
        found = db.execute(f"FROM mart.{name} ORDER BY {order}")
        columns = [column[0] for column in found.description or ()]
        return [dict(zip(columns, values, strict=True)) for values in found.fetchall()]


def seconds(entry: Row) -> int:
    start, end = (datetime.fromisoformat(entry[name]) for name in ("start_utc", "end_utc"))
    return int((end - start).total_seconds())


def worklog(truth: dict[str, list[Row]]) -> list[Row]:
    """The mart `worklog`, entry by entry."""
    issues = {row["issue_key"]: row for row in truth["issues"]}
    projects = {row["id"]: row["name"] for row in truth["projects"]}
    found: dict[tuple[Any, ...], Row] = {}
    for entry in truth["entries"]:
        if entry["end_utc"] is None:
            continue
        key = entry["task_external_link_caption"]
        issue = issues.get(key, {})
        row = found.setdefault(
            (entry["day"], entry["user_id"], entry["project_id"], key),
            {
                "day": entry["day"],
                "user_id": entry["user_id"],
                "user_name": entry["user_name"],
                "tmetric_project_id": entry["project_id"],
                "tmetric_project_name": entry["project_name"],
                "issue_key": key,
                "issue_id": issue.get("id"),
                "backlog_project_id": issue.get("project_id"),
                "backlog_project_name": projects.get(issue.get("project_id")),
                "summary": issue.get("summary"),
                "status_name": issue.get("status_name"),
                "planned_hours": issue.get("estimated_hours"),
                "recorded_hours": issue.get("actual_hours"),
                "entries": 0,
                "tracked_hours": 0,
                "billable_hours": 0,
            },
        )
        row["entries"] += 1
        row["tracked_hours"] += seconds(entry)
        row["billable_hours"] += seconds(entry) * entry["is_billable"]
    hours = ("tracked_hours", "billable_hours")
    return [{name: value / 3600 if name in hours else value for name, value in row.items()} for row in found.values()]


def by_key(found: list[Row], *names: str) -> dict[tuple[Any, ...], Row]:
    """The rows by their key, which must not come twice."""
    keyed = {tuple(row[name] for name in names): row for row in found}
    assert len(keyed) == len(found)
    return keyed


# Worklog and utilisation

WORKLOG_KEY = ("day", "user_id", "tmetric_project_id", "issue_key")


def test_the_worklog_is_the_entries_beside_the_issues_that_they_name(loaded: Loaded) -> None:
    build(loaded.warehouse, "worklog")
    found = by_key(rows(loaded.warehouse, "worklog"), *WORKLOG_KEY)
    assert found == by_key(worklog(loaded.truth), *WORKLOG_KEY)


def test_hours_are_on_an_issue_only_where_the_caption_is_the_key_of_one(loaded: Loaded) -> None:
    build(loaded.warehouse, "worklog")
    issues = {row["issue_key"]: row["issue_id"] for row in rows(loaded.warehouse, "worklog")}
    known = {row["issue_key"]: row["id"] for row in loaded.truth["issues"]}
    assert {None, "", "ELSEWHERE-1", "#42 Fix"} <= issues.keys()
    assert issues == {key: known.get(key) for key in issues}
    assert sum(issue is not None for issue in issues.values()) > 10


def test_issues_of_archived_projects_and_deleted_ones_keep_their_hours(loaded: Loaded) -> None:
    build(loaded.warehouse, "worklog")
    found = {row["issue_key"]: row["backlog_project_name"] for row in rows(loaded.warehouse, "worklog")}
    with loaded.warehouse.reader() as db:
        marked = db.execute("SELECT issue_key FROM backlog.issues WHERE _deleted_at IS NOT NULL").fetchall()
    assert marked == [(loaded.deleted,)]
    assert found["OLD-1"] == "旧サイト"
    assert found[loaded.deleted] is not None


def test_no_second_of_an_ended_entry_is_lost_or_counted_twice_and_running_timers_are_left_out(loaded: Loaded) -> None:
    build(loaded.warehouse, "worklog")
    entries = [entry for entry in loaded.truth["entries"] if entry["end_utc"]]
    found = rows(loaded.warehouse, "worklog")
    assert len(entries) < len(loaded.truth["entries"])
    assert sum(row["entries"] for row in found) == len(entries)
    assert round(sum(row["tracked_hours"] * 3600 for row in found)) == sum(map(seconds, entries))


def test_a_key_that_was_given_twice_counts_once_for_the_issue_that_exists(own: Loaded) -> None:
    build(own.warehouse, "worklog")
    before = rows(own.warehouse, "worklog")
    with own.warehouse.writer() as (db, _):
        db.execute("""INSERT INTO backlog.issues BY NAME
                      SELECT -id AS id, issue_key, 'old' AS summary, now() AS _deleted_at FROM backlog.issues
                      UNION ALL BY NAME SELECT 0 AS id, 'ELSEWHERE-1' AS issue_key, now() AS _deleted_at""")
    build(own.warehouse, "worklog")
    elsewhere = [{**row, "issue_id": 0} if row["issue_key"] == "ELSEWHERE-1" else row for row in before]
    assert by_key(rows(own.warehouse, "worklog"), *WORKLOG_KEY) == by_key(elsewhere, *WORKLOG_KEY)


def test_utilisation_sums_the_worklog_per_member_and_week(loaded: Loaded) -> None:
    build(loaded.warehouse, "utilisation")
    wanted: dict[tuple[Any, ...], Row] = {}
    days: dict[tuple[Any, ...], set[date]] = {}
    for row in worklog(loaded.truth):
        key = (row["day"] - timedelta(days=row["day"].weekday()), row["user_id"])
        one = wanted.setdefault(
            key,
            {"week": key[0], "user_id": key[1], "user_name": row["user_name"], "tracked_hours": 0.0,
             "billable_hours": 0.0, "issue_hours": 0.0},
        )  # fmt: skip
        days.setdefault(key, set()).add(row["day"])
        one["tracked_hours"] += row["tracked_hours"]
        one["billable_hours"] += row["billable_hours"]
        one["issue_hours"] += row["tracked_hours"] if row["issue_id"] else 0
    found = by_key(rows(loaded.warehouse, "utilisation"), "week", "user_id")
    assert found.keys() == wanted.keys()
    for key, row in wanted.items():
        share = row["billable_hours"] / row["tracked_hours"]
        assert found[key] == pytest.approx({**row, "days_tracked": len(days[key]), "billable_share": share})


def test_the_order_of_the_rows_leaves_no_trace_in_sums_of_hours(own: Loaded) -> None:
    build(own.warehouse, "utilisation")
    before = by_key(rows(own.warehouse, "utilisation"), "week", "user_id")
    for seed in range(5):
        with own.warehouse.writer() as (db, _):
            db.execute(
                f"CREATE OR REPLACE TABLE mart.worklog AS FROM mart.worklog ORDER BY hash(issue_key, day, {seed})"
            )
        own.warehouse.build(mart("utilisation"))
        assert by_key(rows(own.warehouse, "utilisation"), "week", "user_id") == before


def test_a_week_begins_on_monday_and_a_member_without_time_has_no_share(own: Loaded) -> None:
    build(own.warehouse, "worklog")
    with own.warehouse.writer() as (db, _):
        db.execute("CREATE TABLE mart.other AS FROM mart.worklog LIMIT 0")
        db.execute("INSERT INTO mart.other (day, user_id, tracked_hours, billable_hours) VALUES "
                   "('2026-01-04', 1, 0, 0), ('2026-01-05', 2, 1, 1), ('2026-01-11', 2, 3, 0)")  # fmt: skip
        db.execute("CREATE OR REPLACE TABLE mart.worklog AS FROM mart.other")
    own.warehouse.build(mart("utilisation"))
    found = rows(own.warehouse, "utilisation")
    assert [(row["week"].isoformat(), row["user_id"], row["days_tracked"], row["billable_share"]) for row in found] == [
        ("2025-12-29", 1, 1, None),
        ("2026-01-05", 2, 2, 0.25),
    ]


# Sales


def exact(value: float | None) -> Decimal:
    return Decimal(str(value or 0)).quantize(Decimal("0.0001"))


def shanghai(text: str) -> date:
    return datetime.fromisoformat(text).astimezone(ZoneInfo("Asia/Shanghai")).date()


def sales(truth: dict[str, list[Row]]) -> list[Row]:
    """The mart `sales_daily`, order by order and refund by refund."""
    shops = {row["shop_id"]: row["shop_name"] for row in truth["shops"]}
    found: dict[tuple[date, int], Row] = {}

    def line(on: date, shop: int) -> Row:
        counted = {"orders": 0, "sent_orders": 0, "paid_amount": exact(0), "refunds": 0, "refunded_amount": exact(0)}
        return found.setdefault((on, shop), {"day": on, "shop_id": shop, "shop_name": shops[shop], **counted})

    for order in truth["orders"]:
        if order["status"] not in ("Cancelled", "Merged", "Split"):
            row = line(shanghai(order["order_date"]), order["shop_id"])
            row["orders"] += 1
            row["sent_orders"] += order["status"] == "Sent"
            row["paid_amount"] += exact(order["paid_amount"])
    for refund in truth["refunds"]:
        if refund["status"] == "Confirmed":
            row = line(shanghai(refund["confirm_date"] or refund["as_date"]), refund["shop_id"])
            row["refunds"] += 1
            row["refunded_amount"] += exact(refund["refund"])
    return [{**row, "net_amount": row["paid_amount"] - row["refunded_amount"]} for row in found.values()]


def test_sales_are_orders_less_refunds_per_day_and_shop_to_the_last_digit(loaded: Loaded) -> None:
    build(loaded.warehouse, "sales_daily")
    found = by_key(rows(loaded.warehouse, "sales_daily"), "day", "shop_id")
    wanted = by_key(sales(loaded.truth), "day", "shop_id")
    assert sum(row["refunds"] for row in wanted.values()) > 3
    assert found == wanted
    assert {type(row[name]) for row in found.values() for name in row if name.endswith("amount")} == {Decimal}


def test_a_day_and_shop_with_refunds_alone_has_a_row(own: Loaded) -> None:
    with own.warehouse.writer() as (db, _):
        db.execute("DELETE FROM jushuitan.orders")
    build(own.warehouse, "sales_daily")
    wanted = sales({**own.truth, "orders": []})
    assert by_key(rows(own.warehouse, "sales_daily"), "day", "shop_id") == by_key(wanted, "day", "shop_id")
    assert wanted


def test_an_order_late_in_the_evening_of_utc_is_of_the_next_day_in_shanghai(own: Loaded) -> None:
    with own.warehouse.writer() as (db, _):
        db.execute("DELETE FROM jushuitan.refunds")
        db.execute("DELETE FROM jushuitan.orders WHERE o_id <> (SELECT min(o_id) FROM jushuitan.orders)")
        db.execute("UPDATE jushuitan.orders SET order_date = '2026-01-31 16:00:00+00', status = 'WaitPay', "
                   "paid_amount = NULL, shop_id = 1")  # fmt: skip
    build(own.warehouse, "sales_daily")
    (row,) = rows(own.warehouse, "sales_daily")
    assert (row["day"], row["shop_name"], row["orders"], row["net_amount"]) == (date(2026, 2, 1), None, 1, Decimal(0))


# Building


def test_a_mart_is_built_after_those_that_it_reads() -> None:
    names = [one.name for one in load_marts()]
    assert sorted(names) == sorted(NAMES)
    assert names.index("worklog") < names.index("utilisation")


@pytest.mark.parametrize("name", NAMES)
def test_a_mart_knows_the_tables_that_it_reads_and_what_it_is(name: str) -> None:
    assert [f"{schema}.{table}" for schema, table in mart(name).tables] == UPSTREAM[name]
    assert mart(name).description.endswith(".")
    assert "--" not in mart(name).description


@pytest.mark.one_in(3)
@pytest.mark.parametrize("name", NAMES)
def test_building_again_changes_nothing(own: Loaded, name: str) -> None:
    first = build(own.warehouse, name)
    before = rows(own.warehouse, name)
    again = build(own.warehouse, name)
    assert rows(own.warehouse, name) == [pytest.approx(row) for row in before]
    assert (again.rows, again.uri, again.sample[0]) == (len(before), str(own.warehouse.path), first.sample[0])


@pytest.mark.one_in(3)
@pytest.mark.parametrize("name", NAMES)
def test_the_description_of_a_mart_stands_at_its_table(own: Loaded, name: str) -> None:
    build(own.warehouse, name)
    with own.warehouse.reader() as db:
        found = db.execute("SELECT comment FROM duckdb_tables() WHERE schema_name = 'mart' AND table_name = ?", [name])
        assert found.fetchall() == [(mart(name).description,)]


@pytest.mark.parametrize("name", NAMES)
def test_a_mart_whose_tables_are_missing_names_them_and_leaves_nothing(tmp_path: Path, name: str) -> None:
    warehouse = DuckDbWarehouse(tmp_path / "warehouse.duckdb", 60, 300)
    with pytest.raises(FinalError, match=f"mart {name} reads tables that are not loaded yet: ") as caught:
        warehouse.build(mart(name))
    assert str(caught.value).partition(": ")[2].split(", ") == UPSTREAM[name]
    with warehouse.reader() as db:
        assert db.execute("SELECT table_name FROM duckdb_tables() WHERE schema_name = 'mart'").fetchall() == []


def test_a_mart_that_cannot_be_built_any_more_keeps_its_rows(own: Loaded) -> None:
    build(own.warehouse, "sales_daily")
    before = rows(own.warehouse, "sales_daily")
    with own.warehouse.writer() as (db, _):
        db.execute("DROP TABLE jushuitan.shops")
    with pytest.raises(FinalError, match=r"not loaded yet: jushuitan\.shops$"):
        own.warehouse.build(mart("sales_daily"))
    assert rows(own.warehouse, "sales_daily") == before


# Orchestration


def environment(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    for name in [name for name in os.environ if name.startswith(("ETL_", "DUCKDB_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("ETL_DATA_DIR", str(folder / "data"))
    monkeypatch.setenv("ETL_RETRY_BASE_SECONDS", "0.001")


def run(job: str) -> dg.ExecuteInProcessResult:
    with dg.DagsterInstance.ephemeral() as instance:
        return defs().resolve_job_def(job).execute_in_process(run_config=QUIET, instance=instance, raise_on_error=False)


def test_marts_are_assets_behind_the_tables_that_they_read() -> None:
    graph = defs().resolve_asset_graph()
    marts = {key.path[1]: graph.get(key) for key in graph.get_all_asset_keys() if key.path[0] == "mart"}
    parents = {name: sorted("/".join(parent.path) for parent in node.parent_keys) for name, node in marts.items()}
    assert parents == {
        name: [
            "/".join(table.split(".") if table[:5] == "mart." else ["warehouse", *table.split(".")]) for table in tables
        ]
        for name, tables in UPSTREAM.items()
    }
    assert {node.group_name for node in marts.values()} == {"mart"}
    assert all(parent in graph.get_all_asset_keys() for node in marts.values() for parent in node.parent_keys)


def test_the_job_builds_every_mart_in_order(own: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    environment(own.folder, monkeypatch)
    done = run("marts")
    made = [str(event.asset_key.path[1]) for event in done.get_asset_materialization_events() if event.asset_key]
    assert done.success
    assert sorted(made) == sorted(NAMES)
    assert made.index("worklog") < made.index("utilisation")
    for event in done.get_asset_materialization_events():
        metadata = event.materialization.metadata
        name = str(metadata["dagster/table_name"].value).removeprefix("mart.")
        assert metadata["dagster/row_count"].value == len(rows(own.warehouse, name)) > 0


def test_a_job_without_tables_says_what_is_missing_and_is_not_retried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment(tmp_path, monkeypatch)
    done = run("marts")
    failed = {str(event.step_key): event for event in done.all_events if event.is_step_failure}
    assert not done.success
    assert failed.keys() == {"mart__sales_daily", "mart__worklog"}
    assert "backlog.issues, backlog.projects, tmetric.time_entries" in str(failed["mart__worklog"].step_failure_data)
    assert not any(event.is_step_up_for_retry for event in done.all_events)
