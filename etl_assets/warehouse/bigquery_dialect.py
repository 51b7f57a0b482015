"""The SQL of BigQuery: how it writes names and values, and marts of DuckDB's dialect in its own."""

from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

_ESCAPES = str.maketrans({"\\": "\\\\", "'": "\\'", "\n": "\\n", "\r": "\\r", "\0": "\\0"})


@dataclass(frozen=True)
class BigQueryDialect:
    """GoogleSQL over the datasets `<prefix><schema>` of a project."""

    project: str
    prefix: str

    def name(self, name: str) -> str:
        """A quoted name."""
        return f"`{name}`"

    def table(self, schema: str, table: str) -> str:
        """A quoted table."""
        return f"`{self.project}`.`{self.prefix}{schema}`.`{table}`"

    def literal(self, value: str | int | date | datetime | None) -> str:
        """A value as a literal of its type."""
        match value:
            case None:
                return "NULL"
            case int():
                return str(value)
            case datetime():
                return f"TIMESTAMP '{value.isoformat(' ')}'"
            case date():
                return f"DATE '{value.isoformat()}'"
        return f"'{value.translate(_ESCAPES)}'"

    def never(self, name: str) -> str:
        """No instant."""
        return f"CAST(NULL AS TIMESTAMP) AS {self.name(name)}"

    def text(self, value: str, kind: str) -> str:
        """The value as text. FORMAT writes the word NULL for a NULL."""
        match kind.split("("):
            case ["MD5"]:
                return f"TO_HEX({value})"
            case ["VARCHAR" | "JSON"]:
                return value
            case ["DOUBLE"]:
                return f"IF({value} IS NULL, NULL, FORMAT('%.17g', {value}))"
            case ["DECIMAL", digits]:
                scale = digits.rstrip(")").split(",")[1]
                return f"IF({value} IS NULL, NULL, FORMAT('%.{scale}f', {value}))"
            case ["TIMESTAMP WITH TIME ZONE"]:
                return f"CAST(UNIX_MICROS({value}) AS STRING)"
            case ["TIMESTAMP"]:
                return f"CAST(UNIX_MICROS(TIMESTAMP({value})) AS STRING)"
        return f"CAST({value} AS STRING)"


def transpiled(sql: str, dialect: BigQueryDialect, partitions: set[str]) -> str:
    """A statement of DuckDB's dialect in BigQuery's, its tables in this project.

    `partitions` are the names of the partition columns of the tables that it reads, `_partition` elsewhere.
    """
    import sqlglot
    from sqlglot import exp

    other = next(iter(partitions), "_partition")

    def translated(node: Any) -> Any:
        """What sqlglot takes over as it is, though BigQuery has another word or another meaning for it."""
        match node:
            case exp.Table() if node.db:
                node.set("db", exp.to_identifier(f"{dialect.prefix}{node.db}", quoted=True))
                node.set("catalog", exp.to_identifier(dialect.project, quoted=True))
            case exp.Column(name="_partition"):
                node.set("this", exp.to_identifier(other, quoted=True))
            case exp.IgnoreNulls(this=exp.AnyValue()):
                return node.this
            case exp.Filter():
                return _where(node.this, node.expression.this)
            case exp.Anonymous() if node.name.lower() == "timezone":
                zone, instant = node.expressions
                return exp.func("DATETIME", instant, zone)
            case exp.TimestampTrunc() | exp.DateTrunc() if node.text("unit").upper() == "WEEK":
                return exp.Anonymous(this="DATE_TRUNC", expressions=[node.this, exp.var("WEEK(MONDAY)")])
        return node

    tree: Any = exp.Subquery(this=sqlglot.parse_one(sql, read="duckdb"))  # so that the root can be replaced, too
    for node in list(tree.this.walk(bfs=False)):
        if (new := translated(node)) is not node:
            node.replace(new)
    text: str = tree.this.sql(dialect="bigquery", pretty=True)
    return text


def _where(aggregate: Any, condition: Any) -> Any:
    """The aggregate of the rows for which the condition holds; BigQuery has no FILTER."""
    from sqlglot import exp

    if isinstance(aggregate, exp.Count) and isinstance(aggregate.this, exp.Star):
        return exp.CountIf(this=condition)
    aggregate.set("this", exp.If(this=condition, true=aggregate.this, false=exp.null()))
    return aggregate
