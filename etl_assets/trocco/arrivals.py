"""Files that arrive, each the cause of one run: listing them, remembering them, starting the runs.

The ledger is the cursor: a file is written into a batch before anything is started for it, and a batch is a partition
of the job, so that a killed process finds both where it left them. What was listed before is recognised by name and
version, not by order: a late file with an early name is not missed.
"""

import fnmatch
import itertools
import logging
import stat
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

from etl_assets import redact
from etl_assets.errors import EtlError, FinalError, RetryableError
from etl_assets.trocco.decide import Later
from etl_assets.trocco.ledger import File, Ledger
from etl_assets.trocco.run import Request, Runner
from etl_assets.trocco.spec import Arrivals, Job

log = logging.getLogger(__name__)

REQUESTER = "arrivals"
_CHUNK = 1000  # a multiple of every usual batch


def listed(arrivals: Arrivals, now: float) -> Iterator[File]:
    """The files that lie there now, complete ones only. Raises RetryableError when the place cannot be listed."""
    if arrivals.path.startswith("gs://"):
        yield from _in_bucket(arrivals.path)
    else:
        yield from _in_folder(arrivals.path, now - arrivals.quiet.total_seconds())


def advance(runner: Runner, job: Job, *, most: int, seconds: float) -> int:
    """Take note of new files and start runs for them, as far as `at_once`, `most` and the time allow; how many it was.

    A batch whose trigger is ambiguous or refused is logged and left to a person; the others go on.
    """
    assert job.arrivals
    now, until = runner.clock.now(), time.monotonic() + seconds
    files, new = listed(job.arrivals, now), 0
    while chunk := list(itertools.islice(files, _CHUNK)):
        new += runner.ledger.arrived(job.name, chunk, job.arrivals.batch, now)
    if new:
        log.info("trocco/%s: %d new files", job.name, new)
    open_runs = [record for record in runner.ledger.open_runs() if record.job == job.name]
    lost = [int(record.partition) for record in open_runs if record.job_id is None]
    free = max(job.arrivals.at_once - sum(not record.overdue for record in open_runs), 0)
    started = 0
    for batch in [*lost, *runner.ledger.waiting(job.name, min(free, most))]:
        if time.monotonic() > until:
            break
        try:
            outcome = runner.trigger(request(runner.ledger, job, batch))
        except RetryableError as error:
            log.warning("trocco/%s: %s", job.name, redact.scrub(str(error)))
            break
        except EtlError as error:
            log.error("trocco/%s: batch %d: %s", job.name, batch, redact.scrub(str(error)))
            continue
        if isinstance(outcome, Later):
            break
        started += 1
    return started


def request(ledger: Ledger, job: Job, batch: int) -> Request:
    """The request for a batch. It is the same one whenever it is made, so that no batch is run twice."""
    return Request(job, str(batch), REQUESTER, 0.0, handed_over=True, files=ledger.files(job.name, batch))


def _in_folder(pattern: str, before: float) -> Iterator[File]:
    """Local files that match, last changed before a moment: a younger one may still be written."""
    root, rest = _split(pattern)
    if not Path(root).is_dir():
        raise RetryableError(f"{root}: not a folder that can be listed")
    for path in sorted(Path(root).glob(rest)):
        with suppress(FileNotFoundError):  # moved away since it was listed
            status = path.stat()
            if stat.S_ISREG(status.st_mode) and status.st_mtime <= before:
                yield File(path.as_posix(), f"{status.st_mtime_ns}-{status.st_size}")


def _in_bucket(pattern: str) -> Iterator[File]:
    """Objects that match; they appear whole, and a replaced one has another generation."""
    from google.api_core.exceptions import GoogleAPIError
    from google.auth.exceptions import GoogleAuthError
    from google.cloud import storage

    root, rest = _split(pattern)
    parts = urlsplit(root)
    prefix = f"{parts.path.strip('/')}/".lstrip("/")
    try:
        client = storage.Client()
        for blob in client.list_blobs(parts.netloc, prefix=prefix):
            if _matches(blob.name.removeprefix(prefix), rest):
                yield File(f"gs://{parts.netloc}/{blob.name}", str(blob.generation))
    except (GoogleAPIError, GoogleAuthError, OSError) as error:
        raise RetryableError(f"{root}: cannot be listed: {error}") from None


def _matches(name: str, pattern: str) -> bool:
    """Whether the path below the folder matches; without ** it lies in the folder itself."""
    if pattern.startswith("**/"):
        return fnmatch.fnmatchcase(name.rsplit("/", 1)[-1], pattern[3:]) and not name.endswith("/")
    return "/" not in name and bool(name) and fnmatch.fnmatchcase(name, pattern)


def _split(pattern: str) -> tuple[str, str]:
    """The folder, and the pattern within it: `*.json`, or `**/*.json` for any depth."""
    root, _, rest = pattern.rpartition("/")
    if root.endswith("/**"):
        root, rest = root.removesuffix("/**"), f"**/{rest}"
    if not root or not rest or "*" in root:
        raise FinalError(f"{pattern}: a pattern is a folder, perhaps **, and a file name with *: data/in/**/*.json")
    return root, rest
