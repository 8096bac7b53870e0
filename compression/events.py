"""What leaves a running compression, through one callback. Plain data, torch-free, and JSON on the runner's pipe."""

from collections.abc import Callable
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from compression.report import LayerResult

Stage = Literal["fetching", "compressing", "evaluating", "exporting", "verifying", "publishing"]
Activity = Literal["loading", "calibrating", "solving", "evaluating"]


class _Event(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class StageStarted(_Event):
    type: Literal["stage"] = "stage"
    stage: Stage


class ActivityStarted(_Event):
    """Inside the stage `compressing`, activities interleave block by block."""

    type: Literal["activity"] = "activity"
    activity: Activity
    block: int = Field(description="Counted from 1; 0 before the first and after the last block.")
    blocks: int


class LayerFinished(_Event):
    type: Literal["layer"] = "layer"
    result: LayerResult


class BlockFinished(_Event):
    type: Literal["block"] = "block"
    block: int = Field(description="Counted from 1.")
    blocks: int
    fraction: float = Field(description="Of the stage `compressing` or `evaluating`, 0 to 1.")
    eta_s: float | None
    mean_relative_error: float | None = Field(description="Of this block's matrices.")
    host_memory_bytes: int
    device_memory_bytes: int | None
    is_replayed: bool = Field(description="True where an earlier attempt had solved the block.")


class Note(_Event):
    """Something worth a line in the log: a fallback, a restart, a step of the plan."""

    type: Literal["note"] = "note"
    level: Literal["info", "warning"] = "info"
    message: str


Event = Annotated[StageStarted | ActivityStarted | LayerFinished | BlockFinished | Note, Field(discriminator="type")]
OnEvent = Callable[[Event], None]


def ignore_events(_: Event) -> None:
    """The callback of a caller who does not want to know."""
