"""What a statement asks, before or after it ran, for people."""

from dataclasses import asdict, dataclass
from typing import Any

from etl_assets.sql.statement import ScanLog, Statement

_COLUMNS_SHOWN = 6


@dataclass(frozen=True)
class Plan:
    """The scans of a statement, and `filters`, the conditions that no scan knows of.

    Before it ran, `requests` and rows are 0, and `estimate` tells what is coming.
    """

    zone: str
    scans: tuple[ScanLog, ...]
    filters: tuple[str, ...]
    requests: int
    ran: bool

    @classmethod
    def of(cls, statement: Statement, zone: str) -> "Plan":
        """The plan of a statement."""
        return cls(zone, tuple(statement.scans), statement.filters, statement.requests, not statement.dry)

    def as_dict(self) -> dict[str, Any]:
        """The plan as plain values."""
        return asdict(self)

    def lines(self) -> list[str]:
        """The plan as text."""
        lines = []
        for scan in self.scans:
            lines.append(f"{scan.table}: {_columns(scan)}")
            exactly = " (exactly)" if scan.exact and scan.pushed else ""
            lines.append(f"  asked:    {'; '.join(scan.pushed) or 'everything'}{exactly}")
            lines += [f"  filtered: {scan.local}"] if scan.local else []
            lines.append(f"  requests: {scan.requests if self.ran else scan.estimate}")
            if self.ran:
                waited = f", {scan.waited_seconds:.1f} s waited" if scan.waited_seconds >= 0.05 else ""
                lines.append(f"  rows:     {scan.rows_fetched} received, {scan.rows_used} used{waited}")
        if not self.scans:
            lines.append("no request")
        lines += [f"filtered by the engine alone: {text}" for text in self.filters]
        lines.append(f"times without a zone are read in {self.zone}")
        return lines

    def __str__(self) -> str:
        return "\n".join(self.lines())


def _columns(scan: ScanLog) -> str:
    if len(scan.columns) > _COLUMNS_SHOWN:
        return f"{', '.join(scan.columns[:_COLUMNS_SHOWN])} and {len(scan.columns) - _COLUMNS_SHOWN} more columns"
    return ", ".join(scan.columns) or "no column"
