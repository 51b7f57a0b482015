"""What every step shares: how its errors are reported, its retries, and the metadata of its result."""

import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date

import dagster as dg
from tabulate import tabulate

from etl_assets import redact
from etl_assets.errors import FinalError, JobEnded, RetryableError
from etl_assets.settings import Settings
from etl_assets.spec import Source, Stream
from etl_assets.window import Window


def retry_policy() -> dg.RetryPolicy:
    """The second layer of retries: a whole step, after the client has given up on a request."""
    return dg.RetryPolicy(
        max_retries=2,
        delay=10 * Settings.read().retry_base_seconds,
        backoff=dg.Backoff.EXPONENTIAL,
        jitter=dg.Jitter.PLUS_MINUS,
    )


@contextmanager
def reported() -> Iterator[None]:
    """Turn errors of the library into failures: final ones are not retried, and no secret gets out.

    Dagster stores the whole chain of an exception, so nothing is chained to what is raised here.
    """
    try:
        yield
    except JobEnded as error:
        raise dg.Failure(
            redact.scrub(str(error)),
            metadata={"outcome": error.outcome, "job": dg.MetadataValue.url(error.link)},
            allow_retries=False,
        ) from None
    except FinalError as error:
        raise dg.Failure(redact.scrub(str(error)), allow_retries=False) from None
    except RetryableError as error:
        raise dg.Failure(redact.scrub(str(error))) from None
    except Exception:
        text = traceback.format_exc()
        if redact.scrub(text) == text:
            raise
        raise dg.Failure(redact.scrub(text)) from None


def backfill_policy(stream: Stream) -> dg.BackfillPolicy | None:
    """How many days a run of a backfill takes; None for Dagster's own way, one day per run."""
    days = Settings.read().backfill_days
    return dg.BackfillPolicy.multi_run(max_partitions_per_run=days) if stream.window and days > 1 else None


def windows(context: dg.AssetExecutionContext, source: Source, stream: Stream) -> list[Window | None]:
    """The days that the run is for, one but in a backfill; None for a snapshot, whatever the run is partitioned by."""
    if stream.window is None:
        return [None]
    return [Window.of_day(date.fromisoformat(key), source.timezone) for key in context.partition_keys]


def rows_metadata(stream: Stream, rows: Sequence[int]) -> dict[str, int]:
    """The row count under the name that Dagster plots: of the partition, or of the whole table.

    Of several days together it is no count of a partition.
    """
    if len(rows) > 1:
        return {"days": len(rows), "rows": sum(rows)}
    return {"dagster/partition_row_count" if stream.window else "dagster/row_count": sum(rows)}


def column_schema(stream: Stream) -> dg.TableSchema:
    """The table's columns for the UI."""
    texts = stream.descriptions()
    return dg.TableSchema(
        columns=[dg.TableColumn(name, type=kind, description=texts.get(name)) for name, kind in stream.table_columns()]
    )


def table_metadata(source: Source, stream: Stream) -> dict[str, object]:
    """What is known of a table before the first run, and shown on its overview."""
    return {
        "dagster/table_name": f"{source.source}.{stream.name}",
        "dagster/column_schema": column_schema(stream),
    }


def markdown(rows: list[tuple[object, ...]]) -> dg.MarkdownMetadataValue:
    """A table with its header in the first row."""
    return dg.MetadataValue.md(tabulate(rows[1:], headers=[str(cell) for cell in rows[0]], tablefmt="github"))
