"""`etl-assets sql` and `etl-assets explain`, in the process and on the command line."""

import csv
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet
import pytest
from click.testing import CliRunner, Result

from etl_assets.cli import main
from etl_assets.sql import cli
from etl_assets_tests.sql.world import KEY, Desk, desk_place


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    with desk_place(tmp_path, monkeypatch) as ready:
        yield ready


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, [*arguments, "--source", "desk"])


def test_a_table_is_printed(desk: Desk) -> None:
    done = run("sql", "SELECT Id, Name, Archived FROM Queues WHERE id < 3 ORDER BY id")
    assert done.output.splitlines() == [
        "Id    Name     Archived",
        "----  -------  ----------",
        "1     Queue 1  False",
        "2     Queue 2  False",
        "(2 rows)",
    ]


def test_csv_json_and_parquet_hold_the_same_rows(desk: Desk, tmp_path: Path) -> None:
    statement = "SELECT id, title, fee, opened, changed FROM tickets WHERE id < 8 ORDER BY id"
    table = list(csv.DictReader(run("sql", statement, "--format", "csv").output.splitlines()))
    lines = [json.loads(line) for line in run("sql", statement, "--format", "json").output.splitlines()]
    out = tmp_path / "out.parquet"
    assert run("sql", statement, "--format", "parquet", "--out", str(out)).output == ""
    kept = pyarrow.parquet.read_table(out)
    assert [row["title"] for row in lines] == kept.column("title").to_pylist()
    assert [int(row["id"]) for row in table] == [row["id"] for row in lines] == kept.column("id").to_pylist()
    assert [row["fee"] for row in table] == [str(fee) for fee in kept.column("fee").to_pylist()]
    assert table[0]["changed"] == lines[0]["changed"]
    assert str(kept.schema.field("fee").type) == "decimal128(10, 2)"


def test_a_file_is_written_in_place_of_the_output(desk: Desk, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    done = run("sql", "SELECT id FROM queues ORDER BY id", "--format", "csv", "--out", str(out))
    assert (done.output, out.read_text("utf-8").split()) == ("", ["id", "1", "2", "3", "4"])


@pytest.mark.parametrize("form", ["table", "csv", "json", "parquet"])
def test_a_statement_that_fails_leaves_the_file_as_it_was(desk: Desk, tmp_path: Path, form: str) -> None:
    out = tmp_path / "some.file"
    out.write_text("of yesterday")
    before = set(tmp_path.iterdir())
    desk.failing = lambda path, number: (403, {"error": "no"}) if number == 3 else None
    done = run("sql", "SELECT id FROM tickets", "--format", form, "--out", str(out))
    assert (done.exit_code, out.read_text("utf-8")) == (1, "of yesterday")
    assert set(tmp_path.iterdir()) - before <= {tmp_path / "data"}


def test_values_of_every_type_are_written(desk: Desk) -> None:
    statement = """SELECT INTERVAL 90 MINUTE AS i, TIME '09:00' AS t, 'ab'::BLOB AS b, 'nan'::DOUBLE AS f, [1, 2] AS l,
                   DATE '2026-01-05' AS d, {'k': DATE '2026-01-05'} AS s, 1.50::DECIMAL(9, 2) AS n, NULL AS e,
                   MAP {DATE '2026-01-05': 'inf'::DOUBLE} AS m, [1, 2]::INT[2] AS a"""
    (line,) = run("sql", statement, "--format", "json").output.splitlines()
    assert json.loads(line) == {
        "i": "1:30:00", "t": "09:00:00", "b": "6162", "f": "nan", "l": [1, 2],
        "d": "2026-01-05", "s": {"k": "2026-01-05"}, "n": "1.50", "e": None,
        "m": {"2026-01-05": "inf"}, "a": [1, 2],
    }  # fmt: skip
    (row,) = csv.DictReader(run("sql", statement, "--format", "csv").output.splitlines())
    assert list(row.values()) == [
        "1:30:00", "09:00:00", "6162", "nan", "[1, 2]", "2026-01-05", '{"k": "2026-01-05"}', "1.50", "",
        '{"2026-01-05": "inf"}', "[1, 2]",
    ]  # fmt: skip


def test_json_keeps_columns_of_equal_name_apart(desk: Desk) -> None:
    done = run("sql", "SELECT q.Id, s.Id FROM Queues q, Statuses s WHERE q.id = 1 AND s.id = 2", "--format", "json")
    assert json.loads(done.output) == {"Id": 1, "Id_1": 2}
    done = run("sql", "SELECT 1 AS a, 2 AS a, 3 AS a_1, 4 AS a", "--format", "json")
    assert json.loads(done.output) == {"a": 1, "a_2": 2, "a_1": 3, "a_3": 4}


def test_parquet_needs_a_file(desk: Desk) -> None:
    done = run("sql", "SELECT 1", "--format", "parquet")
    assert done.exit_code == 2
    assert "--out" in done.output


def test_long_scans_tell_how_far_they_are(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "_PROGRESS_SECONDS", 0)
    done = run("sql", "SELECT count(title) FROM tickets")
    assert "desk.tickets: 2 requests, 40 rows, 0 s" in done.stderr.splitlines()
    assert "requests" not in done.stdout


def test_explain_shows_the_plan_without_a_request(desk: Desk) -> None:
    done = run("explain", "SELECT title FROM tickets WHERE queue_id IN (1, 2)")
    assert done.output.splitlines() == [
        "desk.tickets: title",
        "  asked:    queue=1,2 (exactly)",
        "  requests: 1 per 20 rows",
        "times without a zone are read in Asia/Tokyo",
    ]
    assert desk.asked == []


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["SELECT titel FROM tickets"], "Did you mean title"),
        (["DROP VIEW tickets"], "DROP is refused"),
        (["SELECT title FROM tickets", "--max-requests", "1"], "max_requests"),
        (["SELECT title FROM tickets", "--connect", "Nothing=1"], "unknown property"),
        (["SELECT 1", "--out", "nowhere/x.csv"], "nowhere/x.csv: cannot be written: No such file or directory"),
    ],
)
def test_what_is_wrong_is_one_message_and_exit_1(desk: Desk, arguments: list[str], text: str) -> None:
    done = run("sql", *arguments)
    assert done.exit_code == 1
    assert done.output.startswith("Error: ")
    assert text in done.output


def test_a_stream_file_that_is_wrong_is_one_message(desk: Desk) -> None:
    Path("sources/desk.yaml").write_text("source: desk")
    done = run("sql", "SELECT 1")
    assert done.exit_code == 1
    assert done.output.startswith("Error: ")
    assert "desk.yaml" in done.output


def test_a_value_that_does_not_fit_is_a_warning(desk: Desk) -> None:
    desk.tickets[1]["opened"] = "yesterday"
    with pytest.warns(UserWarning, match="yesterday"):
        done = run("sql", "SELECT opened FROM tickets WHERE id = 2")
    assert done.exit_code == 0
    assert "warning: desk.tickets: opened: not a date: yesterday" in done.stderr


def test_the_command_runs_by_itself_and_leaks_no_secret(desk: Desk) -> None:
    command = [sys.executable, "-m", "etl_assets.cli", "sql", "SELECT title FROM tickets", "--source", "desk"]
    code = "from etl_assets.cli import main; main()"
    desk.failing = lambda path, number: (403, {"error": f"not with {KEY}"})
    done = subprocess.run([sys.executable, "-c", code, *command[3:]], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "HTTP 403" in done.stderr
    assert KEY not in done.stderr + done.stdout


def test_commands_start_without_the_engine() -> None:
    code = "import sys, etl_assets.cli; print([m for m in ('pyarrow', 'sqlglot', 'sqlalchemy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
