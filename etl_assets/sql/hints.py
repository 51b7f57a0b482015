"""What the text of a statement says beyond the predicates that DuckDB hands over: order with limit, join keys.

Hints make a statement cheaper and never change its result. One that cannot be read is none.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlglot import exp

from etl_assets.sql.names import Spelled
from etl_assets.sql.pushdown import Sorted
from etl_assets.sql.tables import Catalog, Table
from etl_assets.sqltext import identifier

MOST_KEYS = 200
_PLAIN = (
    exp.Column, exp.Identifier, exp.Literal, exp.Placeholder, exp.Boolean, exp.Null, exp.Paren,
    exp.And, exp.Or, exp.Not, exp.EQ, exp.NEQ, exp.LT, exp.LTE, exp.GT, exp.GTE, exp.In, exp.Between, exp.Is, exp.Like,
    exp.Neg,
)  # fmt: skip
_KEY_TYPES = ("BIGINT", "VARCHAR")


@dataclass(frozen=True)
class Occurrence:
    """A table where the statement names it. `scan` is the name that its scan is registered under."""

    table: Table
    alias: str
    scan: str
    node: exp.Table
    join: exp.Join | None


@dataclass(frozen=True)
class Keys:
    """`column` of the scan `scan` can be limited to the values that `sql` gives out of `origin`; None are NULL."""

    origin: Table
    scan: str
    column: str
    sql: str
    parameters: tuple[str, ...]
    told: str


@dataclass(frozen=True)
class Joined:
    """A statement with its join keys. `copies` are further scans of tables that it names more than once."""

    sql: str
    keys: tuple[Keys, ...]
    copies: tuple[tuple[str, Table], ...]


def sorted_by(statement: Spelled, catalog: Catalog, parameters: Sequence[Any]) -> Sorted | None:
    """`ORDER BY column LIMIT n` over one table, as far as the text says so; the plan has to say so, too."""
    tree = statement.tree
    if (
        not isinstance(tree, exp.Select)
        or tree.args.get("joins")
        or tree.args.get("with_")
        or tree.args.get("distinct")
    ):
        return None
    tables = list(tree.find_all(exp.Table))
    order, limit = tree.args.get("order"), tree.args.get("limit")
    if len(tables) != 1 or order is None or limit is None or len(order.expressions) != 1:
        return None
    if tree.find(exp.AggFunc, exp.Window, exp.Subquery, exp.Unnest, exp.Group, exp.Qualify):
        return None
    table = _table(tables[0], catalog, statement)
    (key,) = order.expressions
    rows = _number(limit.expression, parameters)
    skipped = _number(tree.args["offset"].expression, parameters) if tree.args.get("offset") else 0
    if table is None or rows is None or skipped is None or not isinstance(key.this, exp.Column):
        return None
    name = key.this.name.lower()
    if name not in table.types or any(alias.alias.lower() == name for alias in tree.find_all(exp.Alias)):
        return None
    return Sorted(name, bool(key.args.get("desc")), rows + skipped)


def read_twice(statement: Spelled, catalog: Catalog, scans: int) -> frozenset[str]:
    """Names of the tables that a statement with so many scans reads more than once, be it for the rows of others."""
    nodes = list(statement.tree.find_all(exp.Table)) if statement.tree else []
    found = [table for node in nodes for table in catalog.named(node.name, node.db or statement.home)]
    again = any(one.args.get("recursive") for one in statement.tree.find_all(exp.With)) if statement.tree else True
    if again or scans > len(found):  # the engine looks again where the text, as far as it could be read, looks once
        return frozenset(name for table in statement.tables for name in lineage(table))
    read = Counter(name for table in found for name in lineage(table))
    return frozenset(name for name, times in read.items() if times > 1)


def lineage(table: Table) -> Iterator[str]:
    """Names of the table, and of those whose rows it may be asked for or counted by."""
    yield table.name
    yield from (f"{table.source.source}.{listed.partition('.')[0]}" for listed in table.stream.query.closed.values())
    if above := table.stream.of or table.stream.each:
        yield from lineage(Table(table.source, table.source.stream(above.stream)))


def joined(statement: Spelled, catalog: Catalog) -> Joined:
    """The statement with the keys that its joins can hand from one table to another."""
    tree = statement.tree
    plain = Joined(statement.sql, (), ())
    if not isinstance(tree, exp.Select) or tree.args.get("with_") or not tree.args.get("joins"):
        return plain
    if tree.args.get("limit") and not tree.args.get("order"):
        return plain  # it may end long before all keys are known
    found = _occurrences(tree, catalog, statement)
    if found is None:
        return plain
    filters, pairs = _conditions(tree, found)
    keys: dict[str, Keys] = {}
    origins: set[str] = set()
    told = True
    while told:
        told = False
        for target, column, origin, source_column in pairs:
            known = filters.get(origin.alias) or origin.scan in keys
            if target.scan in keys or target.scan in origins or not known or not _askable(target.table, column):
                continue
            if any(column in _columns(one) for one in filters.get(target.alias, ())):
                continue
            keys[target.scan] = _keys(target, column, origin, source_column, filters.get(origin.alias, []))
            origins.add(origin.scan)  # its rows are read for the keys, as they would be without
            told = True
    if not keys:
        return plain
    return Joined(_renamed(statement.sql, found), tuple(keys.values()), tuple(_copies(found)))


def _occurrences(tree: exp.Select, catalog: Catalog, statement: Spelled) -> list[Occurrence] | None:
    """The tables of FROM and JOIN; None where there is anything else than plain tables joined INNER or LEFT."""
    places: list[tuple[Any, exp.Join | None]] = [(tree.args["from_"].this, None)]
    for join in tree.args["joins"]:
        if (
            join.side not in ("", "LEFT")
            or join.kind not in ("", "INNER", "OUTER")
            or join.method
            or join.args.get("using")
        ):
            return None
        places.append((join.this, join))
    found: list[Occurrence] = []
    for node, join in places:
        table = _table(node, catalog, statement) if isinstance(node, exp.Table) else None
        if table is None:
            return None
        number = sum(one.table is table for one in found)
        scan = table.scan_name if number == 0 else f"{table.scan_name}__{number + 1}"
        found.append(Occurrence(table, node.alias_or_name.lower(), scan, node, join))
    aliases = [one.alias for one in found]
    return found if len(set(aliases)) == len(aliases) and len(list(tree.find_all(exp.Table))) == len(found) else None


Pair = tuple[Occurrence, str, Occurrence, str]


def _conditions(tree: exp.Select, found: list[Occurrence]) -> tuple[dict[str, list[exp.Expr]], list[Pair]]:
    """Conditions on one table each, and (target, column, origin, column) of what must be equal.

    The rows of the left side of a LEFT JOIN stay whatever its ON says: there only the right table is a target.
    """
    filters: dict[str, list[exp.Expr]] = {}
    pairs: list[Pair] = []
    places: list[tuple[exp.Expr, Occurrence | None]] = [(one, None) for one in _parts(tree.args.get("where"))]
    for one in found:
        outer = one if one.join is not None and one.join.side == "LEFT" else None
        places += [(condition, outer) for condition in _parts(one.join and one.join.args.get("on"))]
    for condition, outer in places:
        sides = [_resolved(column, found) for column in condition.find_all(exp.Column)]
        if any(side is None for side in sides):
            continue
        named = {side[0].alias for side in sides if side}
        if len(named) == 1 and outer is None and all(isinstance(node, _PLAIN) for node in condition.walk()):
            filters.setdefault(named.pop(), []).append(condition)
        elif isinstance(condition, exp.EQ) and len(named) == 2:
            left, right = condition.this, condition.expression
            if isinstance(left, exp.Column) and isinstance(right, exp.Column):
                pairs += _directions(_resolved(left, found), _resolved(right, found), outer)
    return filters, pairs


def _directions(left: Any, right: Any, outer: Occurrence | None) -> Iterator[Pair]:
    for (target, column), (origin, other) in ((left, right), (right, left)):
        same = target.table.types[column] == origin.table.types[other]
        if same and target.table.types[column] in _KEY_TYPES and outer in (None, target):
            yield target, column, origin, other


def _resolved(column: exp.Column, found: list[Occurrence]) -> tuple[Occurrence, str] | None:
    name = column.name.lower()
    owners = [one for one in found if name in one.table.types]
    if column.table:
        owners = [one for one in owners if one.alias == column.table.lower()]
    return (owners[0], name) if len(owners) == 1 and not column.args.get("db") else None


def _askable(table: Table, column: str) -> bool:
    """Whether the API can be asked for values of the column, and it is worth it."""
    stream = table.stream
    above = stream.of or stream.each
    return column in stream.query.eq or column in stream.query.row or bool(above and column in above.stamp)


def _keys(target: Occurrence, column: str, origin: Occurrence, source_column: str, filters: Sequence[exp.Expr]) -> Keys:
    conditions = [f"({one.sql('duckdb')})" for one in filters]
    place = f"{identifier(origin.alias)}.{identifier(source_column)}"
    where = " AND ".join([*conditions, f"{place} IS NOT NULL"])
    sql = (
        f"SELECT DISTINCT {place} FROM (SELECT {origin.table.typed_columns} FROM {identifier(origin.scan)}) "
        f"AS {identifier(origin.alias)} WHERE {where} LIMIT {MOST_KEYS + 1}"
    )
    used = [str(node.this) for one in filters for node in one.find_all(exp.Placeholder)]
    told = f"{column} in {origin.table.stream.name}.{source_column} (up to {MOST_KEYS} keys)"
    return Keys(origin.table, target.scan, column, sql, tuple(dict.fromkeys(used)), told)


def _copies(found: list[Occurrence]) -> Iterator[tuple[str, Table]]:
    return ((one.scan, one.table) for one in found if one.scan != one.table.scan_name)


def _renamed(sql: str, found: list[Occurrence]) -> str:
    """The statement in which later occurrences of a table read from scans of their own."""
    for one in reversed(found):
        if one.scan == one.table.scan_name:
            continue
        first = one.node.args.get("catalog") or one.node.args.get("db") or one.node.this
        start, end = first.meta["start"], one.node.this.meta["end"] + 1
        alias = "" if one.node.alias else f" AS {identifier(one.alias)}"
        sql = f"{sql[:start]}{identifier(view_name(one.scan))}{alias}{sql[end:]}"
    return sql


def view_name(scan: str) -> str:
    """The view over a copied scan."""
    return f"{scan}__view"


def _table(node: exp.Table, catalog: Catalog, statement: Spelled) -> Table | None:
    if node.args.get("catalog") or not isinstance(node.this, exp.Identifier) or node.args.get("sample"):
        return None
    if node.args.get("alias") and node.args["alias"].columns:
        return None  # its columns have other names here
    found = [one for one in catalog.named(node.name, node.db or statement.home) if one in statement.tables]
    return found[0] if len(found) == 1 else None


def _columns(condition: exp.Expr) -> set[str]:
    return {column.name.lower() for column in condition.find_all(exp.Column)}


def _parts(condition: Any) -> Iterator[exp.Expr]:
    """The conditions that are joined by AND."""
    if isinstance(condition, exp.Where | exp.Paren):
        yield from _parts(condition.this)
    elif isinstance(condition, exp.And):
        yield from _parts(condition.this)
        yield from _parts(condition.expression)
    elif condition is not None:
        yield condition


def _number(node: Any, parameters: Sequence[Any]) -> int | None:
    if isinstance(node, exp.Literal) and node.is_int:
        return int(node.name)
    if isinstance(node, exp.Placeholder) and str(node.this).startswith("p"):
        value = parameters[int(str(node.this)[1:]) - 1]
        return value if isinstance(value, int) else None
    return None
