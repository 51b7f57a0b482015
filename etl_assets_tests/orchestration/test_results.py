"""What a run tells people: metadata of each asset, checks and how they are judged, the run log."""

from pathlib import Path

import dagster as dg
import duckdb
import pytest

from etl_assets.clean import Cleaned
from etl_assets.definitions import defs
from etl_assets.defs import checks
from etl_assets.landing import Manifest
from etl_assets.verify import Findings
from etl_assets.warehouse.protocol import Loaded
from etl_assets_tests.away import ROOT
from etl_assets_tests.orchestration.lab import Lab, stream_file

DAY = "2026-01-05"
MONDAYS = ("2026-01-05", "2026-01-12", "2026-01-19", "2026-01-26")


# Metadata


def test_each_layer_says_how_many_rows_where_and_how_long(lab: Lab) -> None:
    run = lab.load(DAY)
    rows = len(lab.expected(DAY))
    raw, clean, table = (run.metadata(f"{layer}/tmetric/time_entries") for layer in ("raw", "clean", "warehouse"))
    assert raw["pages"] == len(lab.sandbox.truth(stream="members"))
    assert raw["requests"] == len(lab.sandbox.log("/api/"))
    assert raw["bytes"] == sum(path.stat().st_size for path in Path(raw["dagster/uri"]).glob("part-*"))
    assert raw["dagster/partition_row_count"] == rows + clean["rows_of_other_days"]
    assert clean["rows_raw"] == rows == clean["dagster/partition_row_count"]
    assert (clean["rows_quarantined"], clean["rows_duplicate"]) == (0, 0)
    assert [path.suffix for path in Path(clean["dagster/uri"]).glob("rows-*")] == [".parquet"]
    assert (table["dagster/partition_row_count"], table["rows_in_table"], table["changed"]) == (rows, rows, True)
    assert table["dagster/table_name"] == "tmetric.time_entries"
    assert Path(table["dagster/uri"]) == lab.data / "warehouse.duckdb"
    for metadata in (raw, clean, table):
        assert 0 < metadata["seconds"] < 60
    assert raw["seconds_waiting_for_limits"] >= 0
    assert table["seconds_waiting_for_the_table"] >= 0


def test_a_list_is_counted_as_a_whole_table(lab: Lab) -> None:
    run = lab.run("tmetric/tags")
    for layer in ("raw", "clean", "warehouse"):
        assert run.metadata(f"{layer}/tmetric/tags")["dagster/row_count"] == 6


def test_the_columns_of_clean_and_warehouse_are_shown_as_they_are(lab: Lab) -> None:
    run = lab.load(DAY)
    with duckdb.connect(str(lab.data / "warehouse.duckdb"), read_only=True) as db:
        present = db.execute("SELECT column_name, data_type FROM duckdb_columns() WHERE table_name = 'time_entries'")
        columns = [column for column in present.fetchall() if not column[0].startswith("_")]
    for layer in ("clean", "warehouse"):
        schema = run.metadata(f"{layer}/tmetric/time_entries")["dagster/column_schema"]
        assert [(column.name, column.type) for column in schema.columns] == columns
        described = {column.name: column.description for column in schema.columns}
        assert described["end_time"] == "Empty while the timer runs."
        assert described["is_running"] == "The timer was still running when the entry was read."
        assert described["start_time_local"] is None


def test_a_sample_of_rows_is_shown_as_a_table(lab: Lab) -> None:
    header, rule, *rows = lab.run("tmetric/tags").metadata("clean/tmetric/tags")["sample"].splitlines()
    assert [cell.strip() for cell in header.strip("|").split("|")] == [
        "id", "name", "is_work_type", "is_work_type_billable",
    ]  # fmt: skip
    assert set(rule) <= set("|-:")
    assert len(rows) == 5
    assert {row.split("|")[2].strip() for row in rows} <= {row["name"] for row in lab.sandbox.truth(stream="tags")}


def test_what_the_library_says_is_in_the_log_of_the_run(lab: Lab, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "dagster.yaml").write_bytes((ROOT / "dagster.yaml").read_bytes())
    lab.sandbox.fault(path="timeentries/tags", status=503)
    with dg.DagsterInstance.from_config(str(home)) as instance:
        run = Lab(lab.sandbox, lab.data, instance).run("tmetric/tags")
        said = [entry.user_message for entry in instance.all_logs(run.id)]
    assert run.success
    assert any("HTTP 503; attempt 2 of 7" in text for text in said)
    assert any(text.startswith("raw: 6 rows in 2 requests") for text in said)
    assert any(text.startswith("clean: 6 rows fit, 0 quarantined") for text in said)
    assert any("tmetric.tags has taken 6 rows, 6 in the table" in text for text in said)


# Checks

TAGS = """
source: few
title: Few
base_url: {url}
timezone: Asia/Tokyo
auth: {{type: bearer, token: TMETRIC_TOKEN}}
settings: {{TMETRIC_TOKEN: {{secret: true, help: As for TMetric.}}}}
streams:
  - name: tags
    path: /api/v3/accounts/5000/timeentries/tags
    key: [id]
    {more}
"""


def few(lab: Lab, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, more: str) -> None:
    """Declare the vendor's tags a second time, differently, as for a new process."""
    defs.load_fn.cache_clear()  # type: ignore[attr-defined]
    text = TAGS.format(url=lab.sandbox.url, more=more.replace("\n", "\n    "))
    monkeypatch.setenv("ETL_SOURCES_DIR", str(stream_file(tmp_path / "sources", text)))


def test_all_checks_have_a_result_and_pass_on_good_rows(lab: Lab) -> None:
    run = lab.load(DAY)
    clean, table = run.checks("clean/tmetric/time_entries"), run.checks("warehouse/tmetric/time_entries")
    assert {name: check.passed for name, check in (clean | table).items()} == dict.fromkeys(
        ("unique_key", "not_null", "types", "drift", "volume"), True
    )
    assert {name for name, check in clean.items() if check.blocking} == {"unique_key", "not_null", "types"}


def test_fields_that_nobody_declared_give_a_warning_and_are_kept(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    few(lab, monkeypatch, tmp_path, "columns: {id: integer, name: string, colour: string}")
    run = lab.run("few/tags")
    assert run.success
    drift = run.checks("clean/few/tags")["drift"]
    assert (drift.passed, drift.severity, drift.blocking) == (False, dg.AssetCheckSeverity.WARN, False)
    assert drift.metadata["undeclared_fields"].value == {"isWorkType": "BOOLEAN", "isWorkTypeBillable": "BOOLEAN"}
    assert drift.metadata["columns_without_a_value"].value == "colour"
    assert lab.query("SELECT _extra FROM few.tags WHERE id = 41") == [
        {"_extra": '{"isWorkType":true,"isWorkTypeBillable":true}'}
    ]


def without_names(frame: object) -> object:
    """A transform that breaks the promise that every row has a name."""
    return frame.assign(name=frame["name"].where(frame["id"] != 42))  # type: ignore[attr-defined]


def test_rows_that_break_a_promise_never_reach_the_table(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    columns = "columns: {id: integer, name: {type: string, required: true}, isWorkType: boolean}"
    few(lab, monkeypatch, tmp_path, columns)
    assert lab.run("few/tags").success
    before = lab.query("FROM few.tags")
    loads = lab.query("FROM ops.loads")
    lab.sandbox.change("tags", update=[{"id": 41, "name": "Dev"}])
    few(lab, monkeypatch, tmp_path, f"{columns}\ntransform: {__name__}:without_names")
    run = lab.run("few/tags")
    assert (run.success, run.step_retries) == (False, 0)
    assert run.made == {"raw/few/tags", "clean/few/tags"}
    broken = run.checks("clean/few/tags")["not_null"]
    assert (broken.passed, broken.blocking, broken.severity) == (False, True, dg.AssetCheckSeverity.ERROR)
    assert {name: entry.value for name, entry in broken.metadata.items()} == {"name": 1}
    assert (lab.query("FROM few.tags"), lab.query("FROM ops.loads")) == (before, loads)


def found(
    *, repeated_keys: int = 0, nulls: dict[str, int] | None = None, types: dict[str, str] | None = None
) -> Findings:
    return Findings(rows=2, repeated_keys=repeated_keys, nulls=nulls or {}, types=types or {}, sample=[("id",), (1,)])


def cleaned(undeclared: dict[str, str]) -> Cleaned:
    manifest = Manifest("clean", "s", "t", None, None, 2, (), "run", "1", "2026-01-05T00:00:00+00:00")
    return Cleaned(manifest, "/t", 0.1, 2, 0, 0, 0, undeclared, ())


@pytest.mark.parametrize(
    ("findings", "undeclared", "failing", "shown"),
    [
        (found(repeated_keys=1), {}, "unique_key", {"repeated_keys": 1}),
        (found(nulls={"id": 2}), {}, "not_null", {"id": 2}),
        (found(types={"id": "VARCHAR"}), {}, "types", {"id": "VARCHAR"}),
        (
            found(),
            {"new": "VARCHAR"},
            "drift",
            {"undeclared_fields": {"new": "VARCHAR"}, "columns_without_a_value": ""},
        ),
    ],
    ids=["a repeated key", "a missing value", "another type", "a new field"],
)
def test_a_finding_fails_its_own_check_and_no_other(
    findings: Findings, undeclared: dict[str, str], failing: str, shown: dict[str, object]
) -> None:
    results = list(checks.clean_results(dg.AssetKey(["clean", "s", "t"]), cleaned(undeclared), findings))
    assert [result.check_name for result in results if not result.passed] == [failing]
    (result,) = [result for result in results if not result.passed]
    assert {name: entry.value for name, entry in result.metadata.items()} == shown
    assert len(results) == 4


@pytest.mark.parametrize(
    ("usual", "rows", "passed"),
    [
        (None, 0, True),
        (None, 10**9, True),
        (9.0, 0, True),  # too few rows to be surprised
        (10.0, 5, True),
        (10.0, 4, False),
        (10.0, 20, True),
        (10.0, 21, False),
        (100.0, 0, False),
    ],
)
def test_half_or_twice_the_usual_rows_are_still_usual(usual: float | None, rows: int, *, passed: bool) -> None:
    loaded = Loaded("s.t", "/w", rows, rows, changed=True, usual_rows=usual, seconds=0.1, waited_seconds=0)
    (result,) = checks.warehouse_results(dg.AssetKey(["warehouse", "s", "t"]), loaded)
    assert (result.passed, result.severity) == (passed, dg.AssetCheckSeverity.WARN)


@pytest.mark.parametrize("sandbox_days", [30])
def test_far_fewer_rows_than_on_earlier_mondays_give_a_warning(lab: Lab) -> None:
    *earlier, today = MONDAYS
    judged = [lab.load(day).checks("warehouse/tmetric/time_entries")["volume"] for day in earlier]
    assert [check.metadata["usual_rows"].value for check in judged] == ["not known yet"] * 3
    usual = lab.load(today).checks("warehouse/tmetric/time_entries")["volume"]
    assert usual.passed
    assert 90 < usual.metadata["usual_rows"].value < 120
    lab.sandbox.change("entries", delete=[row["id"] for row in lab.expected(today)[10:]])
    few = lab.load(today).checks("warehouse/tmetric/time_entries")["volume"]
    assert (few.passed, few.severity, few.blocking) == (False, dg.AssetCheckSeverity.WARN, False)
    assert few.metadata["rows"].value == 10
    assert lab.content(today) == lab.expected(today)
