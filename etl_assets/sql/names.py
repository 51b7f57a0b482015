"""Spelling: from what people write to the names of the tables, and back for what they get.

`Issues`, `ProjectID` and `project_id` are found in any case and with or without underscores. The text is changed
token by token, so that nothing else about the statement is.
"""

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import sqlglot
from sqlglot import Token, TokenType, exp
from sqlglot.errors import SqlglotError

from etl_assets.sql.errors import ProgrammingError
from etl_assets.sql.tables import Catalog, Table, squashed

_NAMES = (TokenType.VAR, TokenType.IDENTIFIER)
_WORDS = re.compile(r"\w+")  # of a name, or of a text with names in it: what EXPLAIN explains, what query() runs
_DIALECTS = ("tsql", "mysql", "postgres", "snowflake", "bigquery", "sqlite", "oracle")


@dataclass(frozen=True)
class Spelled:
    """A statement in the tables' own names.

    `tables` are those that it may name, `tree` its syntax tree if sqlglot can read it, `spelling` the column names
    as the statement has them, by their squashed form.
    """

    sql: str
    tables: list[Table]
    home: str | None = None
    tree: exp.Expr | None = None
    parameters: int = 0
    spelling: Mapping[str, str] = field(default_factory=dict)
    warnings: Sequence[str] = ()

    def reads_only(self, catalog: Catalog) -> bool:
        """Whether all that the statement reads is surely tables of the catalog: `tables` has them all."""
        if not isinstance(self.tree, exp.Query):
            return False
        defined = {cte.alias.lower() for cte in self.tree.find_all(exp.CTE)}
        return all(
            isinstance(table.this, exp.Identifier)
            and (catalog.named(table.name, table.db or None) or (not table.db and table.name.lower() in defined))
            for table in self.tree.find_all(exp.Table)
        )

    def names(self, table: Table) -> bool:
        """Whether the statement surely names the table."""
        if self.tree is None:
            return False
        found = [one for one in self.tree.find_all(exp.Table) if one.name.lower() == table.stream.name]
        return any((one.db or self.home or "").lower() == table.source.source for one in found)


def transpiled(sql: str, dialect: str | None) -> str:
    """The statement in DuckDB's dialect. Raises ProgrammingError when it cannot be read in its own."""
    if dialect in (None, "duckdb"):
        return sql
    if dialect not in _DIALECTS:
        raise ProgrammingError(f"Dialect={dialect} is not known; one of: {', '.join(_DIALECTS)}")
    try:
        return ";\n".join(
            sqlglot.transpile(sql, read=dialect, write="duckdb", unsupported_level=sqlglot.ErrorLevel.RAISE)
        )
    except SqlglotError as error:
        raise ProgrammingError(f"not {dialect}: {error}") from None


def spelled(sql: str, catalog: Catalog, home: str | None) -> Spelled:
    """The statement with tables and columns in their own spelling, and `?` as `$p1`, `$p2`.

    `home` is the source whose tables need no prefix. Raises ProgrammingError for a short name that several have.
    """
    try:
        tokens = sqlglot.tokenize(sql, read="duckdb")
    except SqlglotError:
        return Spelled(sql, list(catalog), home)
    words = {squashed(word) for token in tokens for word in _WORDS.findall(token.text)}
    tables = [table for table in catalog if squashed(table.stream.name) in words]
    written = _tree(sql)
    read = _read(written, catalog, home)
    names = _own_spellings(tables if read is None else read)
    text, parameters = _rewritten(sql, tokens, names, _own_names(written, tokens, names))
    tree = written if text == sql else _tree(text)
    _refuse_ambiguous(tree, catalog, home)
    return Spelled(text, tables, home, tree, parameters, _spelling(written), _bracketed(tokens, names))


def restored(name: str, spelling: Mapping[str, str]) -> str:
    """A column of the result in the statement's spelling."""
    return spelling.get(name.lower()) or spelling.get(squashed(name), name)


def _read(tree: exp.Expr | None, catalog: Catalog, home: str | None) -> list[Table] | None:
    """The tables that the statement reads; None where that cannot be told."""
    nodes = list(tree.find_all(exp.Table)) if tree else None
    if nodes is None or any(not isinstance(node.this, exp.Identifier) for node in nodes):
        return None
    return [table for node in nodes for table in catalog.named(node.name, node.db or home)]


def _own_spellings(tables: Iterable[Table]) -> dict[str, str]:
    """The names of the tables and their columns by what may be written for them, in lower case.

    A name stands for itself before it is a spelling of another, and what several names could mean is left alone.
    """
    own = {name for table in tables for name in (table.stream.name, *table.types)}
    meant: dict[str, set[str]] = {}
    for name in own:
        meant.setdefault(squashed(name), set()).add(name)
    return {short: names.pop() for short, names in meant.items() if len(names) == 1} | {name: name for name in own}


def _tree(sql: str) -> exp.Expr | None:
    try:
        trees = sqlglot.parse(sql, read="duckdb")
    except (SqlglotError, RecursionError):
        return None
    return trees[0] if len(trees) == 1 and trees[0] and not isinstance(trees[0], exp.Command) else None


def _own_names(tree: exp.Expr | None, tokens: Sequence[Token], names: Mapping[str, str]) -> set[str]:
    """Names that the statement itself gives to something else than the column they resemble."""
    if tree is None:
        return {
            token.text.lower()
            for before, token in itertools.pairwise(tokens)
            if before.token_type == TokenType.ALIAS and token.text.lower() != names.get(squashed(token.text))
        }
    own = set()
    for alias in tree.find_all(exp.Alias):
        inner = alias.this
        if not (isinstance(inner, exp.Column) and squashed(inner.name) == squashed(alias.alias)):
            own.add(alias.alias.lower())
    for given in tree.find_all(exp.TableAlias):
        own.update(part.name.lower() for part in [given.this, *given.columns] if part)
    return own


def _rewritten(sql: str, tokens: Sequence[Token], names: Mapping[str, str], own: set[str]) -> tuple[str, int]:
    parts, at, parameters = [], 0, 0
    for token, after in zip(tokens, [*tokens[1:], None], strict=False):
        new = None
        if token.token_type == TokenType.PLACEHOLDER and token.text == "?":
            parameters += 1
            new = f"$p{parameters}"
        elif token.token_type in _NAMES and not (after and after.token_type == TokenType.L_PAREN):
            name = names.get(token.text.lower()) or names.get(squashed(token.text))
            if name and name != token.text.lower() and token.text.lower() not in own:
                new = f'"{name}"' if token.token_type == TokenType.IDENTIFIER else name
        if new is not None:
            parts += [sql[at : token.start], new]
            at = token.end + 1
    return "".join([*parts, sql[at:]]), parameters


def _refuse_ambiguous(tree: exp.Expr | None, catalog: Catalog, home: str | None) -> None:
    if tree is None or home is not None:
        return
    defined = {cte.alias.lower() for cte in tree.find_all(exp.CTE)}
    for table in tree.find_all(exp.Table):
        found = catalog.named(table.name) if not table.db and table.name.lower() not in defined else []
        if len(found) > 1:
            raise ProgrammingError(
                f"{table.name} is a table of several sources: write {' or '.join(t.name for t in found)}"
            )


def _spelling(tree: exp.Expr | None) -> dict[str, str]:
    select = tree.find(exp.Select) if tree is not None else None
    if select is None:
        return {}
    named = [one.output_name for one in select.expressions if one.output_name]
    return {squashed(name): name for name in named} | {name.lower(): name for name in named}


def _bracketed(tokens: Sequence[Token], names: Mapping[str, str]) -> list[str]:
    """`[Id]` is a list in DuckDB, and a quoted name elsewhere."""
    said = []
    for number in range(len(tokens) - 2):
        left, name, right = tokens[number : number + 3]
        if left.token_type == TokenType.L_BRACKET and right.token_type == TokenType.R_BRACKET:
            before = tokens[number - 1].token_type if number else None
            if (
                name.token_type == TokenType.VAR
                and squashed(name.text) in names
                and before not in (*_NAMES, TokenType.R_PAREN)
            ):
                said.append(
                    f"[{name.text}] is a list of one value here, not a quoted name: "
                    f'write {name.text} or "{name.text}", or connect with Dialect=tsql'
                )
    return said
