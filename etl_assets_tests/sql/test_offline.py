"""`Offline=true`: the same statements on the loaded warehouse, with the same names, columns and rows."""

from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest
from sqlalchemy import create_engine, inspect
from sqlalchemy.dialects import registry

from etl_assets import sql
from etl_assets.sql.dbapi import Connection
from etl_assets.sql.offline import warehouse
from etl_assets.sql.tables import Catalog
from etl_assets_tests.sources.truth import day, lab
from etl_assets_tests.sql.place import Place, place, same

registry.register("etlassets", "etl_assets.sql.dialect", "Dialect")  # as the entry point of an installation does
STATEMENTS = [
    "SELECT Id, ProjectID FROM Issues WHERE Id IN (200001, 200934) ORDER BY Id",
    "SELECT StatusName, count(*) AS Issues FROM Issues WHERE updated >= '2026-01-05' GROUP BY 1 ORDER BY 1",
    "SELECT p.name, count(i.id) FROM Projects p LEFT JOIN Issues i "
    "ON i.ProjectID = p.id AND i.updated >= '2026-01-05' GROUP BY 1",
    "SELECT * FROM backlog.priorities",
    "SELECT i.id, f.name, f.value_text FROM Issues i JOIN IssueCustomFields f ON f.IssueId = i.id "
    "WHERE i.updated >= '2026-01-05'",
]


@pytest.fixture(scope="module")
def x(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with place("backlog", tmp_path_factory.mktemp("offline"), timezone="Asia/Tokyo") as ready:
        for stream in ("projects", "priorities"):
            ready.lab.run(stream)
        ready.lab.run("issues", *(day(number) for number in (1, 2, 3)))
        yield ready


@pytest.fixture
def offline(x: Place) -> Iterator[Connection]:
    with sql.connect(source="backlog", offline=True, timezone="Asia/Tokyo") as ready:
        yield ready


@pytest.mark.one_in(2)
@pytest.mark.parametrize("statement", STATEMENTS)
def test_a_statement_gives_the_same_offline(x: Place, offline: Connection, statement: str) -> None:
    cursor = offline.execute(statement)
    rows = cursor.fetchall()
    wanted = x.connection.execute(statement)
    names = [[column[0] for column in one.description or ()] for one in (cursor, wanted)]
    if "2026-01-05" not in statement and "Issues" in statement:
        assert {row[0] for row in rows} <= {200001, 200934}  # one of them was not updated in the days loaded
    else:
        assert rows
        assert same(rows, wanted.fetchall(), ordered="ORDER" in statement)
    assert names[0] == names[1]


def test_reflection_works_offline_too(x: Place) -> None:
    engine = create_engine("etlassets://backlog?Offline=true")
    assert "issues" in inspect(engine).get_table_names()
    columns = [column["name"] for column in inspect(engine).get_columns("projects")]
    assert columns == [name for name, _ in x.lab.stream("projects").table_columns()]
    engine.dispose()


def test_nothing_is_asked_of_the_api(x: Place, offline: Connection) -> None:
    x.sandbox.clear_log()
    offline.execute("SELECT count(*) FROM issues").fetchall()
    assert x.sandbox.count() == 0


def test_the_file_is_free_once_the_rows_are_read(x: Place, offline: Connection) -> None:
    assert offline.execute("SELECT count(*) FROM issues").fetchall()
    x.lab.run("priorities")  # a load, which nobody can make while the file is open
    cursor = offline.execute("SELECT id FROM issues")
    cursor.fetchone()
    cursor.close()
    x.lab.run("priorities")


def test_a_deleted_row_is_not_there(x: Place, offline: Connection) -> None:
    before = offline.execute("SELECT count(*) FROM issues").fetchall()
    ((some,),) = offline.execute("SELECT min(id) FROM issues").fetchall()
    with x.lab.pipeline.warehouse.writer() as (db, _):
        db.execute("UPDATE backlog.issues SET _deleted_at = now() WHERE id = ?", [some])
    assert offline.execute("SELECT count(*) FROM issues WHERE id = ?", [some]).fetchall() == [(0,)]
    with x.lab.pipeline.warehouse.writer() as (db, _):
        db.execute("UPDATE backlog.issues SET _deleted_at = NULL WHERE id = ?", [some])
    assert offline.execute("SELECT count(*) FROM issues").fetchall() == before


def test_a_table_that_is_not_loaded_says_so(offline: Connection) -> None:
    with pytest.raises(sql.ProgrammingError, match=r"backlog\.users is not loaded"):
        offline.execute("SELECT name FROM users")


def test_sources_of_which_nothing_is_loaded_keep_nobody_from_reading_the_others(x: Place) -> None:
    with sql.connect(offline=True) as connection:
        assert connection.execute("SELECT count(*) > 0 FROM backlog.projects").fetchall() == [(True,)]
        with pytest.raises(sql.ProgrammingError, match=r"tmetric\.members is not loaded"):
            connection.execute("SELECT * FROM tmetric.members")


def test_writing_is_refused_offline_too(offline: Connection) -> None:
    with pytest.raises(sql.NotSupportedError):
        offline.execute("DELETE FROM backlog.issues")
    with pytest.raises(sql.Error):
        offline.execute("SELECT * FROM read_text('/etc/passwd')").fetchall()


def test_no_warehouse_at_all_says_so(x: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DUCKDB_PATH", str(x.lab.folder / "nothing.duckdb"))
    with (
        sql.connect(source="backlog", offline=True) as connection,
        pytest.raises(sql.OperationalError, match="no warehouse yet"),
    ):
        connection.execute("SELECT id FROM issues")


def test_bigquery_is_read_offline_as_duckdb_is(tmp_path: Path, env: dict[str, str]) -> None:
    with lab("backlog", tmp_path, env=env) as x, sql.connect(source="backlog", offline=True) as offline:
        with pytest.raises(sql.OperationalError, match=r"there is no table ops\.loads"):
            offline.execute("SELECT id FROM issues")
        for stream in ("projects", "priorities"):
            x.run(stream)
        x.run("issues", day(1), day(2), day(3))
        with sql.connect(source="backlog", timezone="Asia/Tokyo") as online:
            for statement in STATEMENTS[1:]:
                found, wanted = (one.execute(statement).fetchall() for one in (offline, online))
                assert found
                assert same(found, wanted, ordered="ORDER" in statement)
        with pytest.raises(sql.ProgrammingError, match=r"backlog\.users is not loaded"):
            offline.execute("SELECT name FROM users")
        names = "SELECT table_name FROM information_schema.tables WHERE table_schema = 'backlog' ORDER BY 1"
        assert offline.execute(names).fetchall() == [
            (name,) for name in ("issue_custom_fields", "issues", "priorities", "projects")
        ]
        assert list((tmp_path / "data/spill").iterdir()) == []
        pipeline, catalog = x.pipeline, Catalog(x.pipeline.sources.values())
        with (
            warehouse(pipeline.settings, catalog, "UTC", catalog.named("projects", "backlog")) as db,
            pytest.raises(duckdb.Error, match=r"backlog\.issues was not copied"),
        ):
            db.execute("SELECT count(*) FROM backlog.issues")
