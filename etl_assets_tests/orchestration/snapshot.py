"""All that the definitions hold, a line each; `python -m etl_assets_tests.orchestration.snapshot` writes the file."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import dagster as dg

from etl_assets.definitions import defs

FILE = Path(__file__).with_name("definitions.txt")


def lines() -> list[str]:
    """The lines, in the order of the file."""
    loaded = defs()
    return [*_assets(loaded), *_jobs(loaded), *_schedules(loaded), *_sensors(loaded), *_resources(loaded)]


def _assets(loaded: dg.Definitions) -> Iterator[str]:
    for key in sorted(loaded.resolve_all_asset_keys(), key=_path):
        asset = loaded.resolve_assets_def(key)
        spec = asset.specs_by_key[key]
        fresh, retries = spec.freshness_policy, asset.op.retry_policy
        facts = [
            f"asset {_path(spec.key)}",
            f"group {spec.group_name}",
            f"op {asset.op.name}",
            f"kinds {_list(spec.kinds)}",
            f"pool {asset.op.pool or '-'}",
            f"from {_list(_path(dep.asset_key) for dep in spec.deps)}",
            f"partitions {_partitions(spec.partitions_def)}",
            f"checks {_list(map(_check, asset.check_specs))}",
            f"fresh by {fresh.deadline_cron} {fresh.timezone} after {fresh.lower_bound_delta}" if fresh else "fresh -",
            f"retries {retries.max_retries if retries else 0}",
        ]
        yield " | ".join(facts)


def _jobs(loaded: dg.Definitions) -> Iterator[str]:
    for job in sorted(loaded.resolve_all_job_defs(), key=lambda job: job.name):
        if not job.name.startswith("__"):
            keys = job.asset_layer.executable_asset_keys
            yield f"job {job.name}: {_list(_path(key) for key in keys)}; partitions {_partitions(job.partitions_def)}"


def _schedules(loaded: dg.Definitions) -> Iterator[str]:
    for schedule in sorted(loaded.schedules or (), key=lambda schedule: schedule.name):
        yield (
            f"schedule {schedule.name}: {schedule.cron_schedule} {schedule.execution_timezone}, "
            f"job {schedule.job_name}, {schedule.default_status.value}"
        )


def _sensors(loaded: dg.Definitions) -> Iterator[str]:
    for sensor in sorted(loaded.sensors or (), key=lambda sensor: sensor.name):
        yield f"sensor {sensor.name}: every {sensor.minimum_interval_seconds} s, {sensor.default_status.value}"


def _resources(loaded: dg.Definitions) -> Iterator[str]:
    yield f"resources {_list(loaded.resources or ())}"


def _partitions(partitions: dg.PartitionsDefinition | None) -> str:
    if not isinstance(partitions, dg.DailyPartitionsDefinition):
        return "-" if partitions is None else type(partitions).__name__
    return f"daily from {partitions.start.date()} {partitions.timezone}"


def _list(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "-"


def _check(check: dg.AssetCheckSpec) -> str:
    return f"{check.name} (blocking)" if check.blocking else check.name


def _path(key: dg.AssetKey) -> str:
    return "/".join(key.path)


if __name__ == "__main__":
    FILE.write_text("\n".join(lines()) + "\n", "utf-8")
