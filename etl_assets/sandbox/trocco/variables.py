"""Custom variables: which value wins, and what date variables become.

A value of the loop wins over one given at run time, and that over the definition's default. Queue-time dates
(`timestamp`) follow context_time, run-time ones (`timestamp_runtime`) the moment at which the run begins.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

Row = dict[str, Any]


def values(settings: Sequence[Row], given: Mapping[str, str], *, context: float, begins: float) -> dict[str, str]:
    """The value of each variable that a definition declares; moments are epoch seconds."""
    return {
        setting["name"]: given.get(setting["name"]) or _default(setting, context=context, begins=begins)
        for setting in settings
    }


def looped(task: Row) -> list[dict[str, str]]:
    """The values of each round of a task's loop over texts; one round without any if it has no such loop."""
    loop = _config(task).get("custom_variable_loop") or {}
    if loop.get("type") != "string":
        return [{}]
    columns = {item["name"]: item["values"] for item in loop["string_config"]["variables"]}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def target(task: Row) -> int | None:
    """The definition that a task runs."""
    number: int | None = _config(task).get("definition_id")
    return number


def _config(task: Row) -> Row:
    config: Row = task.get(f"{task['type']}_config") or {}
    return config


def _default(setting: Row, *, context: float, begins: float) -> str:
    if setting["type"] == "string":
        return str(setting["value"])
    zone = ZoneInfo(setting["time_zone"])
    moment = datetime.fromtimestamp(context if setting["type"] == "timestamp" else begins, zone)
    sign = -1 if setting["direction"] == "ago" else 1
    return _moved(moment, sign * setting["quantity"], setting["unit"]).strftime(setting["format"])


def _moved(moment: datetime, by: int, unit: str) -> datetime:
    if unit == "month":
        year, month = divmod(moment.year * 12 + moment.month - 1 + by, 12)
        return moment.replace(year=year, month=month + 1, day=min(moment.day, 28))
    return moment + (timedelta(hours=by) if unit == "hour" else timedelta(days=by))
