"""Checks, the same for every stream: what is looked at, and how it is judged.

Those on clean are blocking: a set that breaks its declaration never reaches the table. Drift and volume only
warn. Freshness is a policy on the table asset.
"""

from collections.abc import Iterable, Iterator
from itertools import chain

import dagster as dg

from etl_assets.clean import Cleaned
from etl_assets.spec import Stream
from etl_assets.verify import Findings
from etl_assets.warehouse.protocol import Loaded

_FEWEST, _MOST = 0.5, 2.0  # of what is usual
_TOO_FEW_TO_JUDGE = 10


def clean_specs(key: dg.AssetKey, stream: Stream) -> list[dg.AssetCheckSpec]:
    """The checks of a clean asset."""
    keys = ", ".join(stream.key)
    return [
        dg.AssetCheckSpec("unique_key", asset=key, blocking=True, description=f"One row per {keys}."),
        dg.AssetCheckSpec("not_null", asset=key, blocking=True, description="Mandatory columns have a value."),
        dg.AssetCheckSpec("types", asset=key, blocking=True, description="The file has the declared types."),
        dg.AssetCheckSpec("drift", asset=key, description="The API sends what the stream file declares."),
    ]


def clean_results(key: dg.AssetKey, cleaned: Cleaned, found: Findings) -> Iterator[dg.AssetCheckResult]:
    """The results of `clean_specs`, in their order."""
    for name, passed, shown in (
        ("unique_key", not found.repeated_keys, {"repeated_keys": found.repeated_keys}),
        ("not_null", not found.nulls, dict(found.nulls)),
        ("types", not found.types, dict(found.types)),
    ):
        yield dg.AssetCheckResult(check_name=name, asset_key=key, passed=passed, metadata=shown)
    yield dg.AssetCheckResult(
        check_name="drift",
        asset_key=key,
        passed=not cleaned.undeclared,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={
            "undeclared_fields": dict(cleaned.undeclared),
            "columns_without_a_value": ", ".join(cleaned.never_seen),
        },
    )


def of_all_days(results: Iterable[Iterable[dg.AssetCheckResult]]) -> list[dg.AssetCheckResult]:
    """The results of several days as one of each check: the first that did not pass, else the first."""
    by_name: dict[str | None, dg.AssetCheckResult] = {}
    for result in chain.from_iterable(results):
        if by_name.setdefault(result.check_name, result).passed:
            by_name[result.check_name] = by_name[result.check_name] if result.passed else result
    return list(by_name.values())


def warehouse_specs(key: dg.AssetKey) -> list[dg.AssetCheckSpec]:
    """The checks of a warehouse asset."""
    return [dg.AssetCheckSpec("volume", asset=key, description="About as many rows as usual.")]


def warehouse_results(key: dg.AssetKey, loaded: Loaded) -> Iterator[dg.AssetCheckResult]:
    """The results of `warehouse_specs`."""
    usual = loaded.usual_rows
    judged = usual is not None and usual >= _TOO_FEW_TO_JUDGE
    yield dg.AssetCheckResult(
        check_name="volume",
        asset_key=key,
        passed=not judged or _FEWEST * usual <= loaded.rows <= _MOST * usual,  # type: ignore[operator]
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"rows": loaded.rows, "usual_rows": usual if usual is not None else "not known yet"},
    )
