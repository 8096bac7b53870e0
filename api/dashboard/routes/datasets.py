"""The tenant's data sets."""

from fastapi import Request, Response

from api.auth import Reader, Writer
from api.context import InContext
from api.dashboard.pages import go_to, page_router, show
from api.pages import Cursor
from api.routes import datasets

router = page_router()


@router.get("/datasets")
def dataset_list(request: Request, caller: Reader, context: InContext, cursor: Cursor = None) -> Response:
    found = datasets.list_datasets(caller, context, cursor)
    return show(request, "datasets.html", found=found, may_write="write" in caller.scopes)


@router.post("/datasets/{dataset_id}/delete")
def delete(request: Request, dataset_id: str, caller: Writer, context: InContext) -> Response:
    datasets.delete_dataset(dataset_id, caller, context)
    return go_to(request, "/datasets")
