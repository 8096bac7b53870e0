"""The models that this server knows by name: its demo models, and those that users bring file by file."""

from typing import Annotated, Any

from fastapi import APIRouter, Header, Request, Response, status
from sqlalchemy.exc import IntegrityError
from starlette.concurrency import run_in_threadpool

from api.auth import Reader, Writer
from api.bodies import BYTES
from api.context import Context, InContext
from api.incoming import received
from api.openapi import refusals
from api.pages import Cursor, Limit, Page
from api.resource_views import (
    ModelFileView,
    ModelUploadView,
    ModelView,
    demo_view,
    model_file_view,
    model_view,
    upload_view,
)
from jobs.access import audit
from jobs.access.keys import Caller
from jobs.access.quotas import check_room
from jobs.pages import DEFAULT_PAGE
from jobs.sourcing.demo import demo_models
from jobs.uploads import model_uploads
from jobs.uploads.model_manifest import Manifest, check_manifest

router = APIRouter(prefix="/v1/models", tags=["models"])

OFFSET = "Upload-Offset"
Offset = Annotated[int, Header(alias=OFFSET, ge=0, le=2**53 - 1, description="Where the part begins, in bytes.", examples=[0])]
BODY: dict[str, Any] = {
    "requestBody": {"required": True, "content": {BYTES: {"schema": {"type": "string", "format": "binary"}}}}
}
SAME: dict[str, Any] = {"model": ModelUploadView, "description": "The upload of these files has begun already."}


@router.get("")
def list_models(caller: Reader, context: InContext, cursor: Cursor = None, limit: Limit = DEFAULT_PAGE) -> Page[ModelView]:
    """Demo models, and the tenant's uploads, the newest first; any model of the hub is named in a request by its id."""
    with context.sessions() as session:
        page = model_uploads.page(session, caller.tenant_id, cursor, limit)
    demos = tuple(map(demo_view, demo_models())) if cursor is None else ()
    return Page(items=(*demos, *map(model_view, page.rows)), next_cursor=page.next_cursor)


@router.post("", status_code=status.HTTP_201_CREATED, responses={200: SAME})
def begin_upload(manifest: Manifest, caller: Writer, context: InContext, response: Response) -> ModelUploadView:
    """Promise the files of a model; then bring them with PUT. The same files again go on with the same upload: 200.

    A file that the tenant has brought before is there already.
    """
    check_manifest(manifest, context.settings)
    try:
        view, is_new = _begin(context, caller, manifest)
    except IntegrityError:  # another request began the same upload a moment ago
        view, is_new = _begin(context, caller, manifest)
    response.status_code = status.HTTP_201_CREATED if is_new else status.HTTP_200_OK
    response.headers["Location"] = f"{router.prefix}/{view.id}"
    return view


@router.get("/{model_id}")
def read_model(model_id: str, caller: Reader, context: InContext) -> ModelUploadView:
    """One uploaded model: its state, and how far each file has come."""
    with context.sessions() as session:
        model = model_uploads.get(session, caller.tenant_id, model_id)
        return upload_view(model, model_uploads.progress(session, model_id), context.settings.upload_part_bytes)


@router.get("/{model_id}/files/{path}")
def read_file(model_id: str, path: str, caller: Reader, context: InContext, response: Response) -> ModelFileView:
    """How far a file has come; its next part begins at `received_bytes`, which is in the header `Upload-Offset`, too."""
    with context.sessions() as session:
        view = model_file_view(model_uploads.progress_of(session, caller.tenant_id, model_id, path))
    response.headers[OFFSET] = str(view.received_bytes)
    return view


@router.put("/{model_id}/files/{path}", openapi_extra=BODY, responses=refusals(408, 409))
async def put_part(
    request: Request, model_id: str, path: str, caller: Writer, context: InContext, response: Response, offset: Offset
) -> ModelFileView:
    """Bring the next part of a file. It counts whole or not at all: who was cut off asks for the offset, and goes on there."""
    length = request.headers.get("content-length", "")
    expected = int(length) if length.isdecimal() else None
    await run_in_threadpool(_check_part, context, caller.tenant_id, model_id, path, offset, expected)
    async with received(request, context.settings) as body:
        sha256, size_bytes = await run_in_threadpool(context.store.put_file, body)
    view = await run_in_threadpool(_add_part, context, caller, model_id, path, offset, sha256, size_bytes)
    response.headers[OFFSET] = str(view.received_bytes)
    return view


@router.delete("/{model_id}", status_code=status.HTTP_204_NO_CONTENT, responses=refusals(409))
def delete_model(model_id: str, caller: Writer, context: InContext) -> None:
    """Remove an uploaded model, whole or not; 409 while a job that has not ended reads it."""
    with context.sessions.begin() as session:
        model_uploads.remove(session, caller.tenant_id, model_id)
        audit.record(session, caller, "model.delete", model_id)


def _begin(context: Context, caller: Caller, manifest: Manifest) -> tuple[ModelUploadView, bool]:
    with context.sessions.begin() as session:
        check_room(session, caller.tenant_id, context.settings, 0)  # whoever locks the tenant's row does so first
        model, is_new = model_uploads.begin(session, caller.tenant_id, manifest)
        progress = model_uploads.progress(session, model.id)
        if is_new:
            missing = model.size_bytes - sum(entry.received_bytes for entry in progress)
            check_room(session, caller.tenant_id, context.settings, missing)
            audit.record(session, caller, "model.begin", model.id)
        return upload_view(model, progress, context.settings.upload_part_bytes), is_new


def _check_part(context: Context, tenant_id: str, model_id: str, path: str, offset: int, length: int | None) -> None:
    with context.sessions() as session:
        model_uploads.check_part(session, tenant_id, model_id, path, offset, length)


def _add_part(
    context: Context, caller: Caller, model_id: str, path: str, offset: int, sha256: str, size_bytes: int
) -> ModelFileView:
    with context.sessions.begin() as session:
        check_room(session, caller.tenant_id, context.settings, size_bytes)
        added = model_uploads.add_part(session, caller.tenant_id, model_id, path, offset, sha256, size_bytes)
        audit.record(session, caller, "model.part", model_id)
        return model_file_view(added)
