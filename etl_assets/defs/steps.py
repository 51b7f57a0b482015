"""What every step shares: how its errors are reported, its retries, and the metadata of its result."""

import traceback
from collections.abc import Iterator
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


def window(context: dg.AssetExecutionContext, source: Source, stream: Stream) -> Window | None:
    """The day that the run is for; None for a snapshot, whatever the run is partitioned by."""
    if stream.window is None:
        return None
    return Window.of_day(date.fromisoformat(context.partition_key), source.timezone)


def rows_metadata(stream: Stream, rows: int) -> dict[str, int]:
    """The row count under the name that Dagster plots: of the partition, or of the whole table."""
    return {"dagster/partition_row_count" if stream.window else "dagster/row_count": rows}


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
