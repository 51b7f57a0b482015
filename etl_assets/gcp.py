"""Google Cloud: clients with our deadlines and retries, and what their errors mean to us.

What belongs to tables is in `warehouse/bigquery.py`, what belongs to files in `store/gcs.py`. Credentials are the
environment's own (Application Default Credentials), and none at all with an emulator.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import requests
from google.api_core import exceptions
from google.api_core.client_options import ClientOptions
from google.api_core.retry import Retry
from google.auth.credentials import AnonymousCredentials
from google.auth.exceptions import GoogleAuthError
from google.cloud import bigquery, storage
from google.cloud.bigquery.retry import DEFAULT_RETRY as BIGQUERY_RETRY
from google.cloud.storage.exceptions import DataCorruption, InvalidResponse
from google.cloud.storage.retry import DEFAULT_RETRY as STORAGE_RETRY

from etl_assets import redact
from etl_assets.errors import AccessError, EtlError, FinalError, GoogleUnavailable, QuotaError, SettingError
from etl_assets.settings import GoogleSettings

_LONGEST_BACKOFF_SECONDS = 60.0
_QUOTA_REASONS = {"quotaExceeded", "bytesBilledLimitExceeded"}
_PASSING_REASONS = {"rateLimitExceeded", "jobRateLimitExceeded", "backendError", "internalError", "tableUnavailable"}
_PASSING_TEXTS = ("aborted due to concurrent update", "could not serialize access", "Too many DML statements")


@dataclass(frozen=True)
class Clients:
    """The clients of one set of settings, each opened when first needed."""

    settings: GoogleSettings

    @cached_property
    def bigquery(self) -> bigquery.Client:
        """BigQuery. Raises SettingError without a project."""
        settings, emulator = self.settings, self.settings.bigquery_emulator
        if not settings.project:
            raise SettingError("BIGQUERY_PROJECT is not set: the project that holds the datasets and pays for the jobs")
        with translated("BigQuery"):
            return bigquery.Client(
                project=settings.project,
                location=settings.location,
                credentials=AnonymousCredentials() if emulator else None,  # type: ignore[no-untyped-call]
                client_options=ClientOptions(api_endpoint=emulator) if emulator else None,
            )

    @cached_property
    def storage(self) -> storage.Client:
        """Cloud Storage."""
        settings, emulator = self.settings, self.settings.storage_emulator
        with translated("Cloud Storage"):
            return storage.Client(
                project=settings.project,
                credentials=AnonymousCredentials() if emulator else None,  # type: ignore[no-untyped-call]
                client_options=ClientOptions(api_endpoint=emulator) if emulator else None,
            )

    @property
    def storage_retry(self) -> Retry:
        """Retries of a request to Cloud Storage."""
        return self._paced(STORAGE_RETRY)

    @property
    def bigquery_retry(self) -> Retry:
        """Retries of a request to BigQuery."""
        return self._paced(BIGQUERY_RETRY)

    def _paced(self, retry: Retry) -> Retry:
        base = self.settings.retry_base_seconds
        paced = retry.with_delay(initial=base, maximum=_LONGEST_BACKOFF_SECONDS, multiplier=2.0)
        return paced.with_timeout(self.settings.total_timeout_seconds)


@contextlib.contextmanager
def translated(what: str) -> Iterator[None]:
    """Turn errors of Google's libraries into ours, but for those that callers expect and handle."""
    try:
        yield
    except (exceptions.NotFound, exceptions.Conflict, exceptions.PreconditionFailed):
        raise
    except (
        exceptions.GoogleAPIError,
        GoogleAuthError,
        InvalidResponse,
        DataCorruption,
        requests.RequestException,
    ) as e:
        raise meaning(what, e) from None


def meaning(what: str, error: Exception) -> EtlError:
    """Our error for one of Google's: final, passing, a quota, or a missing right."""
    if isinstance(error, exceptions.RetryError) and isinstance(error.cause, Exception):
        error = error.cause
    text = redact.scrub(f"{what}: {getattr(error, 'message', None) or error}")
    reasons = {str(entry.get("reason")) for entry in getattr(error, "errors", ()) if isinstance(entry, dict)}
    status = int(getattr(error, "code", None) or 0)
    if isinstance(error, GoogleAuthError) and not error.retryable:
        status = 401
    return classified(text, reasons, status, passing=not isinstance(error, exceptions.GoogleAPICallError))


def classified(text: str, reasons: set[str], status: int, *, passing: bool = False) -> EtlError:
    """The error for a text with Google's reasons and HTTP status; `passing` if nothing else is known against it."""
    if reasons & _QUOTA_REASONS:
        return QuotaError(f"{text}; run again when the quota is free again, or raise it")
    if reasons & _PASSING_REASONS or status in (408, 429) or status >= 500 or any(t in text for t in _PASSING_TEXTS):
        return GoogleUnavailable(f"{text}; run again later")
    if status in (401, 403) or "accessDenied" in reasons:
        return AccessError(f"{text}; docs/bigquery.md lists the permissions of each step")
    return GoogleUnavailable(text) if passing else FinalError(text)
