"""The files that a job gave."""

from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Header, Path
from fastapi.responses import Response, StreamingResponse

from api.context import InContext
from api.ranges import parse_range
from api.views import ArtifactView, artifact_view
from jobs import repository
from jobs.tables import Artifact

router = APIRouter(prefix="/v1/jobs", tags=["artifacts"])

FILE_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"description": "The file", "content": {"application/octet-stream": {}}},
    206: {"description": "The range that was asked for"},
    304: {"description": "The reader's copy is this file"},
}


@router.get("/{job_id}/artifacts")
def list_artifacts(job_id: str, context: InContext) -> tuple[ArtifactView, ...]:
    """The job's files; none before it has succeeded."""
    with context.sessions() as session:
        return tuple(map(artifact_view, repository.artifacts(session, job_id)))


@router.get("/{job_id}/artifacts/{name:path}", response_class=Response, responses=FILE_ANSWERS)
def download(
    job_id: str,
    name: Annotated[str, Path(max_length=255)],
    context: InContext,
    wanted: Annotated[str | None, Header(alias="Range")] = None,
    if_range: Annotated[str | None, Header()] = None,
    if_none_match: Annotated[str | None, Header()] = None,
) -> Response:
    """One file. `ETag` is its SHA-256; a single byte range is honoured."""
    with context.sessions() as session:
        artifact = repository.artifact(session, job_id, name)
    headers = _headers(artifact)
    if if_none_match is not None and headers["ETag"] in map(str.strip, if_none_match.split(",")):
        return Response(status_code=304, headers={"ETag": headers["ETag"]})
    is_current = if_range is None or if_range == headers["ETag"]
    span = parse_range(wanted, artifact.size_bytes) if is_current else None
    start, end = span or (0, artifact.size_bytes)
    headers["Content-Length"] = str(end - start)
    if span:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{artifact.size_bytes}"
    return StreamingResponse(
        context.store.stream(artifact.sha256, start, end),
        status_code=206 if span else 200,
        headers=headers,
        media_type="application/octet-stream",
    )


def _headers(artifact: Artifact) -> dict[str, str]:
    """A file is data: no browser may take it for a page of this site."""
    file_name = artifact.name.rpartition("/")[2]
    return {
        "ETag": f'"{artifact.sha256}"',
        "Accept-Ranges": "bytes",
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(file_name, safe='')}",
        "X-Content-Type-Options": "nosniff",
    }
