"""Which version of a resource a client speaks of: `ETag`, `If-Match` and `If-None-Match`."""

import hashlib
from typing import Annotated

from fastapi import Header
from pydantic import BaseModel
from sqlalchemy.orm import Session

from jobs import transitions
from jobs.errors import PreconditionFailed
from jobs.view import job_view

IfMatch = Annotated[
    str | None, Header(max_length=4096, description="`ETag` of the version to change; 412 where there is another.")
]
IfNoneMatch = Annotated[
    str | None, Header(max_length=4096, description="`ETag`s of what the reader has; 304 where one of them is still current.")
]


def etag_of(view: BaseModel) -> str:
    """Of an answer: a digest of all it says, so that no change can be forgotten."""
    return f'"{hashlib.sha256(view.model_dump_json().encode()).hexdigest()[:32]}"'


def names(header: str | None, etag: str) -> bool:
    """Whether `etag` is among those of the header; `*` names every version."""
    named = {tag.strip().removeprefix("W/") for tag in (header or "").split(",")}
    return etag in named or "*" in named


def check_match(session: Session, tenant_id: str, job_id: str, if_match: str | None) -> None:
    """Refuse to change a version of the job that is not the one the client has seen.

    The row is locked first, so that it is still this version when the change follows in the same transaction.

    Raises: JobNotFound, PreconditionFailed.
    """
    if if_match is not None:
        job = transitions.lock(session, tenant_id, job_id)
        if not names(if_match, etag_of(job_view(job))):
            raise PreconditionFailed(job_id)
