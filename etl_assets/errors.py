"""The errors of the library. Each says what happened, where, and what to do next.

Retryable or final is the one distinction that callers act on: a retryable error may pass when the same
step is run again later, a final one comes back until somebody changes something.
"""

from collections.abc import Iterator
from contextlib import contextmanager


class EtlError(Exception):
    """Base of every error raised on purpose. Its text never holds a secret."""


class FinalError(EtlError):
    """Running the same step again gives the same error."""


class RetryableError(EtlError):
    """Running the same step again later may succeed."""


class StreamFileError(FinalError):
    """A stream file is wrong; the text names file, stream and key."""


class SettingError(FinalError):
    """An environment variable is missing or wrong; the text names it and says what to do."""


class ApiError(FinalError):
    """The API refused the request, or answered something that cannot be used.

    `status` is the HTTP status, `code` the API's own error code where the source declares one.
    """

    def __init__(self, message: str, *, status: int, code: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class ApiUnavailable(RetryableError):
    """The API did not give a usable answer within the retries and deadlines of one request."""


class InDoubt(ApiUnavailable):
    """No answer came to a request that the API may have carried out, and that must not be repeated."""


class PagingError(FinalError):
    """An answer that would make paging endless or incomplete."""


class LandingError(RetryableError):
    """A file of the landing is missing, cut or altered, or could not be written."""


class QuarantineError(FinalError):
    """More rows than the stream allows do not fit its declaration."""


class TableError(FinalError):
    """The table in the warehouse cannot take the declared columns."""


class LockedError(RetryableError):
    """Somebody else held the warehouse file, or another lock, for longer than the deadline."""


class JobEnded(FinalError):
    """A job of another system came to an end that is no success.

    `outcome` says which, `link` leads to the job. Materialising again starts a new job.
    """

    def __init__(self, message: str, *, outcome: str, link: str) -> None:
        super().__init__(message)
        self.outcome = outcome
        self.link = link


class JobFailed(JobEnded):
    """The job ended in an error."""


class JobCanceled(JobEnded):
    """Somebody stopped the job, or it ran into the other system's own time limit."""


class JobSkipped(JobEnded):
    """The job did not run because another one of the same definition was active."""


class JobLost(JobEnded):
    """The other system does not know the job any more."""


class JobOverdue(JobEnded):
    """The job did not end within its deadline and goes on by itself; materialising again waits for it."""


class AmbiguousTrigger(FinalError):
    """Whether a job was started cannot be found out by the API; a person has to look, and say it."""


@contextmanager
def named(where: str) -> Iterator[None]:
    """Say in front of an error's text where it happened: a stream and day, a page."""
    try:
        yield
    except EtlError as error:
        error.args = (f"{where}: {error}", *error.args[1:])
        raise


class GoogleUnavailable(RetryableError):
    """BigQuery or Cloud Storage could not be reached, was overloaded, or asks to go slower."""


class QuotaError(FinalError):
    """A quota or a limit that was set is used up; the text names it."""


class AccessError(FinalError):
    """The credential lacks a permission, or there is none."""
