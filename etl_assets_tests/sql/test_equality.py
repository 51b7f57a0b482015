"""What SQL reads from an API equals what the assets load from it, for every stream of every source."""

from collections.abc import Iterator
from typing import Any

import pytest

from etl_assets.streamfiles import load_sources
from etl_assets_tests.sources.truth import Row, day
from etl_assets_tests.sql.place import Place, place, same

DAYS = [day(2)]


@pytest.fixture(scope="module", params=sorted(load_sources()))
def loaded(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A connection, with every stream loaded for the three days."""
    name = request.param
    with place(name, tmp_path_factory.mktemp(name), change=_start, max_fan_out=2000) as x:
        for stream in x.lab.source.streams:
            if not stream.of:
                x.lab.run(stream.name, *(DAYS if stream.window else [None]))
        yield x


def _start(tree: Row) -> None:
    from datetime import date

    tree["start"] = date(2026, 1, 1)


@pytest.mark.one_in(5)
def test_every_table_equals_the_loaded_one(loaded: Place) -> None:
    source = loaded.lab.source
    different = []
    for stream in source.streams:
        columns = ", ".join(f'"{name}"' for name, _ in stream.table_columns())
        within = "true"
        if stream.window:
            column = stream.window.column
            kind = dict(stream.table_columns())[column]
            moments = [f"'{DAYS[0]} 00:00:00'", f"'{DAYS[-1]} 23:59:59.999999'"]
            within = f"{column} BETWEEN {' AND '.join(moments)}" if kind != "DATE" else "true"
        here = loaded.run(f"SELECT {columns} FROM {stream.name} WHERE {within}")
        with loaded.lab.pipeline.warehouse.reader() as db:
            db.execute(f"SET TimeZone = '{source.timezone}'")
            names = {row[0] for row in db.execute(f'DESCRIBE "{source.source}"."{stream.name}"').fetchall()}
            present = "WHERE _deleted_at IS NULL" if "_deleted_at" in names else ""
            there = db.execute(f'SELECT {columns} FROM "{source.source}"."{stream.name}" {present}').fetchall()
        if not there or not same(here, there, ordered=False):
            odd = [row for one, other in ((here, there), (there, here)) for row in one if row not in other]
            different.append((stream.name, len(here), len(there), odd[:4]))
    assert different == []
