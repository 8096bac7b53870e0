"""Data sets: texts that users bring, to calibrate or to evaluate on."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response, status
from fastapi.responses import StreamingResponse
from sqlalchemy.exc import IntegrityError
from starlette.concurrency import run_in_threadpool

from api.auth import Reader, Writer
from api.bodies import JSON_LINES, PLAIN
from api.context import Context, InContext
from api.incoming import received
from api.openapi import refusals
from api.pages import Cursor, Limit, Page, page_of
from api.resource_views import DatasetView, TokensView, dataset_view, tokens_view
from jobs.access import audit
from jobs.access.keys import Caller
from jobs.access.quotas import check_room
from jobs.pages import DEFAULT_PAGE
from jobs.tables import Dataset
from jobs.uploads import datasets
from jobs.uploads.dataset_check import JsonLines, PlainText
from jobs.uploads.datasets import StoredText
from jobs.uploads.model_manifest import Name
from jobs.uploads.token_sample import sample_tokens, tokenizer_of

router = APIRouter(prefix="/v1/datasets", tags=["datasets"])

_TEXT: dict[str, Any] = {"schema": {"type": "string"}}
BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "UTF-8: running text, or JSON Lines of documents, conversations or labelled texts.",
        "content": {
            JSON_LINES[0]: _TEXT | {"example": '{"text": "One document."}\n{"text": "Another one."}\n'},
            JSON_LINES[1]: _TEXT,
            PLAIN: _TEXT,
        },
    }
}
SAME: dict[str, Any] = {"model": DatasetView, "description": "The tenant has these very bytes already."}


@router.post("", status_code=status.HTTP_201_CREATED, openapi_extra=BODY, responses={200: SAME, **refusals(408)})
async def upload(
    request: Request,
    caller: Writer,
    context: InContext,
    response: Response,
    name: Annotated[Name, Query(description="The user's own word for it.", examples=["support"])],
) -> DatasetView:
    """Bring a data set; it is checked as it comes. The same bytes again are the same data set: 200, and its old name."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    check = PlainText() if media_type == PLAIN else JsonLines()
    async with received(request, context.settings, check.feed) as path:
        counts = await run_in_threadpool(check.finish)
        sha256, size_bytes = await run_in_threadpool(context.store.put_file, path)
    text = StoredText(sha256, size_bytes, counts)
    dataset, is_new = await run_in_threadpool(_find_or_add, context, caller, name, text)
    view = dataset_view(dataset)
    response.status_code = status.HTTP_201_CREATED if is_new else status.HTTP_200_OK
    response.headers["Location"] = f"{router.prefix}/{view.id}"
    return view


@router.get("")
def list_datasets(caller: Reader, context: InContext, cursor: Cursor = None, limit: Limit = DEFAULT_PAGE) -> Page[DatasetView]:
    """The tenant's data sets, the newest first."""
    with context.sessions() as session:
        return page_of(dataset_view, datasets.page(session, caller.tenant_id, cursor, limit))


@router.get("/{dataset_id}")
def read_dataset(dataset_id: str, caller: Reader, context: InContext) -> DatasetView:
    """One data set."""
    with context.sessions() as session:
        return dataset_view(datasets.get(session, caller.tenant_id, dataset_id))


@router.get("/{dataset_id}/content", response_class=Response, responses={200: {"content": {PLAIN: {}, JSON_LINES[0]: {}}}})
def read_content(dataset_id: str, caller: Reader, context: InContext) -> StreamingResponse:
    """Its bytes, as they came."""
    with context.sessions() as session:
        dataset = datasets.get(session, caller.tenant_id, dataset_id)
    media_type = PLAIN if dataset.kind == "text" else JSON_LINES[0]
    headers = {"Content-Length": str(dataset.size_bytes), "ETag": f'"{dataset.sha256}"', "X-Content-Type-Options": "nosniff"}
    return StreamingResponse(context.store.stream(dataset.sha256), media_type=media_type, headers=headers)


@router.get("/{dataset_id}/tokens")
def count_tokens(
    dataset_id: str,
    caller: Reader,
    context: InContext,
    model: Annotated[str, Query(min_length=1, max_length=1024, description="As in a job.", examples=["upload:ID"])],
) -> TokensView:
    """How many tokens it has for a model whose tokenizer.json this server has: an upload, a local folder, the hub's cache."""
    with context.sessions() as session:
        dataset = datasets.get(session, caller.tenant_id, dataset_id)
    with tokenizer_of(model, caller.tenant_id, context.sessions, context.store, context.settings) as tokenizer:
        return tokens_view(model, sample_tokens(dataset, context.store, tokenizer))


@router.delete("/{dataset_id}", status_code=status.HTTP_204_NO_CONTENT, responses=refusals(409))
def delete_dataset(dataset_id: str, caller: Writer, context: InContext) -> None:
    """Remove it; 409 while a job that has not ended reads it."""
    with context.sessions.begin() as session:
        datasets.remove(session, caller.tenant_id, dataset_id)
        audit.record(session, caller, "dataset.delete", dataset_id)


def _find_or_add(context: Context, caller: Caller, name: str, text: StoredText) -> tuple[Dataset, bool]:
    try:
        with context.sessions.begin() as session:
            found = datasets.find_same(session, caller.tenant_id, text)
            if found is not None:
                return found, False
            check_room(session, caller.tenant_id, context.settings, text.size_bytes)
            made = datasets.add(session, caller.tenant_id, name, text)
            audit.record(session, caller, "dataset.upload", made.id)
            return made, True
    except IntegrityError:  # another request brought the same bytes a moment ago
        with context.sessions() as session:
            found = datasets.find_same(session, caller.tenant_id, text)
        if found is None:
            raise
        return found, False
