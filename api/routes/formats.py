"""What an artifact can look like."""

from fastapi import APIRouter, Depends

from api.auth import reader
from api.views import FormatView
from compression.formats.catalog import FORMATS
from compression.formats.refusals import refusals

router = APIRouter(prefix="/v1/formats", tags=["formats"], dependencies=[Depends(reader)])


@router.get("")
def list_formats() -> tuple[FormatView, ...]:
    """Every output format: what its files hold, what loads them, and what it refuses."""
    return tuple(
        FormatView(name=found.name, content=found.content, loads_in=found.loads_in, refuses=refusals(found.name))
        for found in FORMATS.values()
    )
