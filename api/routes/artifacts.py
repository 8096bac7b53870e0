"""The files that a job gave: one by one, as one archive, with their digests."""

import hashlib
from typing import Annotated

from fastapi import APIRouter, Path, Query
from fastapi.responses import RedirectResponse, Response

from api.auth import Reader, Writer
from api.context import InContext
from api.downloads import AsWanted, File, file_answers
from api.openapi import refusals
from api.pages import Cursor, Limit, Page, page_of
from api.versions import IfMatch, check_match
from api.views import ArtifactView, artifact_view
from jobs import deletion, repository
from jobs.access import audit
from jobs.pages import DEFAULT_PAGE
from jobs.store.checksums import sha256sums
from jobs.store.tar import TarArchive
from jobs.view import JobView, job_view

router = APIRouter(prefix="/v1/jobs", tags=["artifacts"])

SIGNED_S = 900  # for so long a redirection to the store leads somewhere
REDIRECTED = {307: {"description": "The store has the file; `Location` opens it for a while, without a key."}}
TAR, TEXT = "application/x-tar", "text/plain; charset=utf-8"


@router.get("/{job_id}/artifacts")
def list_artifacts(
    job_id: str, caller: Reader, context: InContext, cursor: Cursor = None, limit: Limit = DEFAULT_PAGE
) -> Page[ArtifactView]:
    """The job's files by name; none before it has succeeded."""
    with context.sessions() as session:
        return page_of(artifact_view, repository.artifact_page(session, caller.tenant_id, job_id, cursor, limit))


@router.delete("/{job_id}/artifacts", responses=refusals(409, 412))
def delete_artifacts(
    job_id: str,
    caller: Writer,
    context: InContext,
    solutions: Annotated[bool, Query(description="Also what is kept for exports.")] = False,
    if_match: IfMatch = None,
) -> JobView:
    """Remove the files of a job that has ended. The job and its report stay; the files answer 410 from then on."""
    with context.sessions.begin() as session:
        check_match(session, caller.tenant_id, job_id, if_match)
        job = deletion.delete_artifacts(session, caller.tenant_id, job_id, with_solutions=solutions)
        audit.record(session, caller, "artifacts.delete", job.id)
        return job_view(job)


@router.head("/{job_id}/artifacts/{name:path}", include_in_schema=False)
@router.get(
    "/{job_id}/artifacts/{name:path}",
    response_class=Response,
    responses=file_answers() | REDIRECTED | refusals(410, 416),
)
def download(
    job_id: str,
    name: Annotated[str, Path(max_length=255)],
    caller: Reader,
    context: InContext,
    wanted: AsWanted,
    redirect: Annotated[bool, Query(description="False: the file comes through this service in any case.")] = True,
) -> Response:
    """One file. `ETag` is its SHA-256; a single byte range is honoured."""
    with context.sessions() as session:
        artifact = repository.artifact(session, caller.tenant_id, job_id, name)
    file_name = artifact.name.rpartition("/")[2]
    if redirect and not wanted.is_head and not wanted.has(artifact.sha256):  # the signature is for GET
        url = context.store.presigned_url(artifact.sha256, SIGNED_S, file_name)
        if url is not None:
            return RedirectResponse(url, 307, {"Cache-Control": "no-store"})
    sha256 = artifact.sha256
    return wanted.answer(
        File(file_name, artifact.size_bytes, sha256, lambda start, end: context.store.stream(sha256, start, end))
    )


@router.head("/{job_id}/artifact.tar", include_in_schema=False)
@router.get("/{job_id}/artifact.tar", response_class=Response, responses=file_answers(TAR) | refusals(409, 410, 416))
def download_all(job_id: str, caller: Reader, context: InContext, wanted: AsWanted) -> Response:
    """All files in one uncompressed archive, in a folder named after the job. A single byte range is honoured."""
    with context.sessions() as session:
        files = repository.complete_artifacts(session, caller.tenant_id, job_id)
    archive = TarArchive(files, job_id, max(file.created_at for file in files))
    name = f"{job_id}.tar"
    read = lambda start, end: archive.stream(context.store, start, end)  # noqa: E731
    return wanted.answer(File(name, archive.size_bytes, archive.digest, read, TAR))


@router.head("/{job_id}/sha256sums", include_in_schema=False)
@router.get("/{job_id}/sha256sums", response_class=Response, responses=file_answers("text/plain") | refusals(409, 410, 416))
def checksums(job_id: str, caller: Reader, context: InContext, wanted: AsWanted) -> Response:
    """The SHA-256 of every file, as `sha256sum -c` reads it in the folder that they were downloaded to."""
    with context.sessions() as session:
        content = sha256sums(repository.complete_artifacts(session, caller.tenant_id, job_id)).encode()
    etag = hashlib.sha256(content).hexdigest()
    return wanted.answer(File("SHA256SUMS", len(content), etag, lambda start, end: iter([content[start:end]]), TEXT))
