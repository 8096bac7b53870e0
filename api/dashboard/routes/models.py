"""Models at hand: demo models and the tenant's uploads."""

from fastapi import Request, Response

from api.auth import Reader, Writer
from api.context import InContext
from api.dashboard.pages import go_to, page_router, show
from api.pages import Cursor
from api.routes import models

router = page_router()


@router.get("/models")
def model_list(request: Request, caller: Reader, context: InContext, cursor: Cursor = None) -> Response:
    found = models.list_models(caller, context, cursor)
    part_bytes = context.settings.upload_part_bytes
    return show(request, "models.html", found=found, part_bytes=part_bytes, may_write="write" in caller.scopes)


@router.post("/models/{model_id}/delete")
def delete(request: Request, model_id: str, caller: Writer, context: InContext) -> Response:
    models.delete_model(model_id, caller, context)
    return go_to(request, "/models")
