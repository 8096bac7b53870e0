"""Why a job failed, as it is stored with the job and told to the user."""

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from compression.errors import (
    CalibrationError,
    CompressionError,
    DiskFull,
    InvalidOptions,
    InvalidTemplate,
    NumericalError,
    OutOfMemory,
    UnsupportedModel,
    VerificationError,
)
from jobs.errors import SolutionsGone, SourceError

ATTEMPTS_EXHAUSTED = "attempts-exhausted"
SOURCE_ERROR = ("source-error", "The model or a text cannot be had")
SOLUTIONS_GONE = ("solutions-gone", "The solutions are gone")
OUT_OF_MEMORY = "out-of-memory"
DISK_FULL = "disk-full"
DEADLINE_EXCEEDED = "deadline-exceeded"
SCRATCH_QUOTA_EXCEEDED = "scratch-quota-exceeded"
MAX_DETAIL = 16_384
MAX_LAST_WORDS = 8_192

KINDS: dict[type[CompressionError], tuple[str, str]] = {  # type and title, over HTTP as well
    InvalidOptions: ("invalid-options", "Invalid options"),
    UnsupportedModel: ("unsupported-model", "Unsupported model"),
    CalibrationError: ("calibration-error", "Unusable calibration or evaluation text"),
    InvalidTemplate: ("invalid-template", "Unusable chat template"),
    NumericalError: ("numerical-error", "The mathematics broke down"),
    VerificationError: ("verification-error", "The written artifact is not what was solved"),
    OutOfMemory: (OUT_OF_MEMORY, "Out of memory"),
    DiskFull: (DISK_FULL, "No space is left on the disk"),
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
    exit_signal: str | None = Field(None, max_length=32, description="That ended the runner.", examples=["SIGKILL"])
    exit_code: int | None = Field(None, description="Of a runner that ended by itself and without a result.")
    peak_memory_bytes: int | None = Field(
        None, description="The most anonymous memory that the runner and its children had in this attempt, as sampled."
    )
    memory_limit_bytes: int | None = Field(None, description="What they were allowed, where memory ran out.")
    last_words: Annotated[str | None, BeforeValidator(lambda text: text and text[-MAX_LAST_WORDS:])] = Field(
        None, description="The end of what the runner wrote to its standard error."
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


def exhausted(reason: str) -> Failure:
    """The end of a job whose every attempt was ended by some fault, such as a runner that crashed."""
    return Failure(type=ATTEMPTS_EXHAUSTED, title="No attempt is left", detail=reason)


def out_of_memory(detail: str) -> Failure:
    _, title = KINDS[OutOfMemory]
    return Failure(type=OUT_OF_MEMORY, title=title, detail=detail)


def disk_full(detail: str) -> Failure:
    _, title = KINDS[DiskFull]
    return Failure(type=DISK_FULL, title=title, detail=detail)


def deadline_exceeded(limit_s: float) -> Failure:
    return Failure(
        type=DEADLINE_EXCEEDED,
        title="The job's time is used up",
        detail=f"Workers have held the job for the {limit_s:g} s that limits.run_s or the server's default gives it; "
        "submit it again with more, or with fewer calibration and evaluation windows.",
    )


def scratch_quota_exceeded(used_bytes: int, quota_bytes: int) -> Failure:
    return Failure(
        type=SCRATCH_QUOTA_EXCEEDED,
        title="The job's work folder has grown too large",
        detail=f"It held {used_bytes} bytes, and the server's scratch_quota_bytes allows {quota_bytes}; the operator can "
        "raise it, and fewer calibration and evaluation windows need less.",
    )
