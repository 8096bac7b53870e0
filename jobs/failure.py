"""Why a job failed, as it is stored with the job and told to the user."""

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from compression.errors import (
    CalibrationError,
    CompressionError,
    InvalidOptions,
    NumericalError,
    UnsupportedModel,
    VerificationError,
)
from jobs.errors import SolutionsGone, SourceError

ATTEMPTS_EXHAUSTED = "attempts-exhausted"
SOURCE_ERROR = ("source-error", "The model or a text cannot be had")
SOLUTIONS_GONE = ("solutions-gone", "The solutions are gone")
MAX_DETAIL = 16_384

KINDS: dict[type[CompressionError], tuple[str, str]] = {  # type and title, over HTTP as well
    InvalidOptions: ("invalid-options", "Invalid options"),
    UnsupportedModel: ("unsupported-model", "Unsupported model"),
    CalibrationError: ("calibration-error", "Unusable calibration or evaluation text"),
    NumericalError: ("numerical-error", "The mathematics broke down"),
    VerificationError: ("verification-error", "The written artifact is not what was solved"),
    CompressionError: ("compression-error", "Compression failed"),
}


class Failure(BaseModel):
    """A typed reason. `type` is for programs, the rest for people."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: str = Field(max_length=64, examples=["numerical-error"])
    title: str = Field(max_length=256, examples=["The mathematics broke down"])
    detail: Annotated[str, BeforeValidator(lambda text: text[:MAX_DETAIL])] = Field(
        examples=["model.layers.3.mlp.down_proj: non-finite inputs"]
    )
    layer: str | None = Field(None, max_length=1024, description="The module at fault, where there is one.")


def from_compression_error(error: CompressionError) -> Failure:
    """The library's refusals will not change with another attempt, so they become the job's end."""
    kind, title = next(KINDS[base] for base in type(error).__mro__ if base in KINDS)
    return Failure(type=kind, title=title, detail=str(error), layer=getattr(error, "layer", None))


def from_source_error(error: SourceError) -> Failure:
    kind, title = SOURCE_ERROR
    return Failure(type=kind, title=title, detail=str(error))


def from_solutions_gone(error: SolutionsGone) -> Failure:
    kind, title = SOLUTIONS_GONE
    return Failure(type=kind, title=title, detail=str(error))
