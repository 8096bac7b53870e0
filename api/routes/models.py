"""The models that this server knows by name."""

from dataclasses import asdict

from fastapi import APIRouter

from api.views import ModelView
from jobs.demo import demo_models

router = APIRouter(prefix="/v1/models", tags=["models"])


@router.get("")
def list_models() -> tuple[ModelView, ...]:
    """The demo models; any model of the hub is named in a request by its id."""
    return tuple(ModelView(**asdict(model)) for model in demo_models())
