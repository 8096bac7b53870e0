"""The hub as seen from here: one client, its errors in our words, and room on the disk. Light to import."""

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
from huggingface_hub import HfApi
from huggingface_hub.errors import (
    FileMetadataError,
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RevisionNotFoundError,
)

from jobs.errors import JobsError, SourceError
from jobs.settings import Settings
from jobs.sourcing.fetch_errors import RetryableFetchError

INFO_TIMEOUT_S = 30.0
_TIME_MAY_CURE = (408, 425, 429)
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


def hub_client(settings: Settings) -> HfApi:
    """The client for the hub that the settings name; without a token there it sends none, whoever is logged in here."""
    endpoint = settings.hub_endpoint.rstrip("/") if settings.hub_endpoint else None
    token = settings.hub_token.get_secret_value() if settings.hub_token else False
    return HfApi(endpoint=endpoint, token=token, library_name="scalpel")


@contextmanager
def hub_errors(source: str) -> Iterator[None]:
    """Turn what the hub's library raises into a refusal for good or a failure that time may cure."""
    try:
        yield
    except (HfHubHTTPError, httpx2.HTTPError, OSError) as error:
        translated = _translated(source, error)
        if translated is None:
            raise
        raise translated from error


def require_space(source: str, needed_bytes: int, folder: Path) -> None:
    """Refuse before a download what would fill the disk.

    Raises: SourceError: with both figures.
    """
    free_bytes = shutil.disk_usage(folder).free
    if needed_bytes > free_bytes:
        raise SourceError(
            source, f"it needs {needed_bytes / 1e9:.1f} GB and the disk of the cache has {free_bytes / 1e9:.1f} GB left"
        )


def _translated(source: str, error: Exception) -> JobsError | None:
    """None: the fault is this machine's own (a folder that cannot be written, say) and stays what it is."""
    if isinstance(error, LocalEntryNotFoundError) and isinstance(error.__cause__, Exception):
        error = error.__cause__  # the library falls back on its cache first and says so; the reason lies behind
    if isinstance(error, HfHubHTTPError):
        return _answered(source, error)
    if isinstance(error, OSError) and error.errno in _NO_SPACE:
        return RetryableFetchError(source, "the disk of the cache is full")
    # the library's own checks (a short file, missing metadata, offline mode) are OSErrors without an errno
    if isinstance(error, httpx2.HTTPError | ConnectionError | FileMetadataError) or getattr(error, "errno", None) is None:
        return RetryableFetchError(source, f"the hub could not be reached or broke off ({type(error).__name__})")
    return None


def _answered(source: str, error: HfHubHTTPError) -> JobsError:
    status = error.response.status_code
    if isinstance(error, GatedRepoError):
        return SourceError(
            source,
            "access to it must be asked for: accept its licence on its hub page, and store a token of that account "
            "(`PUT /v1/secrets/hub-token`, or the operator's SCALPEL_HUB_TOKEN)",
        )
    if isinstance(error, RevisionNotFoundError):
        return SourceError(source, "the repository has no such revision")
    if status in (401, 403):
        return SourceError(
            source,
            "the hub shows no such repository, or not to you; for a private one store a token (`PUT /v1/secrets/hub-token`, "
            "or the operator's SCALPEL_HUB_TOKEN)",
        )
    if status == 404:
        return SourceError(source, "the hub has no such repository or file")
    if 400 <= status < 500 and status not in _TIME_MAY_CURE:
        return SourceError(source, f"the hub refused the request (status {status})")
    return RetryableFetchError(source, f"the hub failed (status {status})")
