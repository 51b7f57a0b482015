"""SQLAlchemy: Core, ORM, reflection, pandas on top, against the small API."""

import tomllib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pandas
import pytest
from sqlalchemy import Engine, MetaData, Table, create_engine, func, inspect, select
from sqlalchemy.dialects import registry
from sqlalchemy.exc import OperationalError, ProgrammingError
from sqlalchemy.ext.automap import automap_base
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.types import BigInteger, Boolean, Date, DateTime, Double, Numeric, String

from etl_assets_tests.sql.world import Desk, desk_place

ROOT = Path(__file__).parents[2]
registry.register("etlassets", "etl_assets.sql.dialect", "Dialect")  # as the entry point of an installation does


class Base(DeclarativeBase):
    pass


class Ticket(Base):
    __tablename__ = "tickets"
    id: Mapped[int] = mapped_column(primary_key=True)
    queue_id: Mapped[int]
    title: Mapped[str | None]


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    with desk_place(tmp_path, monkeypatch) as ready:
        yield ready


@pytest.fixture
def engine(desk: Desk) -> Iterator[Engine]:
    made = create_engine("etlassets://desk?TimeZone=Asia/Tokyo")
    yield made
    made.dispose()


def test_the_entry_point_leads_to_the_dialect() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["entry-points"]
    module, _, name = declared["sqlalchemy.dialects"]["etlassets"].partition(":")
    assert getattr(import_module(module), name).name == "etlassets"


def test_core_pushes_down_what_it_compiles(engine: Engine, desk: Desk) -> None:
    tickets = Table("tickets", MetaData(), autoload_with=engine)
    with engine.connect() as connection:
        desk.asked.clear()
        statement = select(tickets.c.id, tickets.c.title).where(tickets.c.id.in_([1, 2]), tickets.c.queue_id == 3)
        assert connection.execute(statement).all() == [(2, "it's broken")]
        counted = select(func.count()).select_from(tickets).where(tickets.c.status_id == 1)
        assert connection.execute(counted).scalar() == sum(row["statusId"] == 1 for row in desk.tickets)
        first = select(tickets.c.id).order_by(tickets.c.changed.desc()).limit(3)
        newest = sorted(desk.tickets, key=lambda row: row["changed"], reverse=True)
        assert connection.execute(first).scalars().all() == [row["id"] for row in newest[:3]]
    assert [path for path, _ in desk.asked] == ["/tickets", "/tickets/count", "/tickets"]


def test_reflection_gives_tables_columns_types_and_comments(engine: Engine) -> None:
    seen = inspect(engine)
    assert "desk" in seen.get_schema_names()
    assert seen.get_table_names() == ["members", "notes", "queues", "statuses", "ticket_lines", "tickets"]
    assert "issues" in seen.get_table_names(schema="backlog")
    assert seen.has_table("Tickets")
    assert not seen.has_table("nothing")
    kinds = {column["name"]: type(column["type"]) for column in seen.get_columns("tickets")}
    assert {name: kinds[name] for name in ("id", "title", "opened", "changed", "hours", "fee", "urgent")} == {
        "id": BigInteger, "title": String, "opened": Date, "changed": DateTime, "hours": Double, "fee": Numeric,
        "urgent": Boolean,
    }  # fmt: skip
    comments = {column["name"]: column["comment"] for column in seen.get_columns("tickets")}
    assert comments["changed"] == "pushdown: < > BETWEEN ORDER BY"
    assert seen.get_pk_constraint("tickets")["constrained_columns"] == []


def test_orm_reads_objects(engine: Engine) -> None:
    with Session(engine) as session:
        found = session.scalars(select(Ticket).where(Ticket.queue_id == 2).order_by(Ticket.id)).all()
        assert [ticket.id for ticket in found][:3] == [1, 5, 9]
        ticket = session.get(Ticket, 2)
        assert ticket is not None
        assert ticket.title == "it's broken"


def test_orm_classes_can_be_made_of_reflected_tables(engine: Engine) -> None:
    metadata = MetaData()
    metadata.reflect(engine, only=["queues"])
    base = automap_base(metadata=MetaData())

    class Queue(base):  # type: ignore[misc, valid-type]
        __tablename__ = "queues"
        id: Mapped[int] = mapped_column(primary_key=True)

    base.prepare(autoload_with=engine, reflection_options={"only": ["queues"]})
    with Session(engine) as session:
        assert [queue.name for queue in session.scalars(select(Queue).order_by(Queue.id))][:2] == ["Queue 1", "Queue 2"]


def test_pandas_reads_statements_tables_and_chunks(engine: Engine) -> None:
    frame = pandas.read_sql("SELECT id, fee FROM tickets WHERE queue_id = 1", engine)
    assert list(frame.columns) == ["id", "fee"]
    table = pandas.read_sql_table("queues", engine)
    assert list(table["name"]) == ["Queue 1", "Queue 2", "Queue 3", "Queue 4"]
    chunks = pandas.read_sql("SELECT id FROM tickets ORDER BY id", engine, chunksize=30)
    assert [len(chunk) for chunk in chunks] == [30, 30, 10]


def test_errors_are_those_of_sqlalchemy(engine: Engine, desk: Desk) -> None:
    with engine.connect() as connection:
        with pytest.raises(ProgrammingError, match="Did you mean"):
            connection.exec_driver_sql("SELECT titel FROM tickets")
        desk.failing = lambda path, number: (403, {"error": "no"})
        with pytest.raises(OperationalError, match="HTTP 403"):
            connection.exec_driver_sql("SELECT title FROM tickets").all()


def test_properties_come_from_connect_args(desk: Desk) -> None:
    engine = create_engine("etlassets://desk", connect_args={"max_requests": 0})
    with engine.connect() as connection, pytest.raises(OperationalError, match="max_requests"):
        connection.exec_driver_sql("SELECT title FROM tickets").all()
