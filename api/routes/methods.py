"""What can be done to a model."""

from fastapi import APIRouter, Depends

from api.auth import reader
from api.views import MethodView
from compression.options import METHOD_OPTIONS

router = APIRouter(prefix="/v1/methods", tags=["methods"], dependencies=[Depends(reader)])


@router.get("")
def list_methods() -> tuple[MethodView, ...]:
    """Every method, what it is good for, and the JSON schema of its options."""
    return tuple(
        MethodView(name=name, good_for=options.good_for, options=options.model_json_schema())
        for name, options in METHOD_OPTIONS.items()
    )
