"""What the runner says on its pipe: the library's events, and at the end one result, one typed error, or that it stopped."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from compression.events import ActivityStarted, BlockFinished, LayerFinished, Note, StageStarted
from compression.report import Outcome
from jobs.failure import Failure


class _Line(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Result(_Line):
    """The artifact folder is complete."""

    type: Literal["result"] = "result"
    report: str = Field(description="The report's file name in it.")
    verdict: Outcome | None = None


class Error(_Line):
    """The library refused or failed in a way that another attempt would meet again."""

    type: Literal["error"] = "error"
    error: Failure


class Stopped(_Line):
    """The runner has stopped as it was told to; what was finished is on disk."""

    type: Literal["stopped"] = "stopped"


Message = Annotated[
    StageStarted | ActivityStarted | LayerFinished | BlockFinished | Note | Result | Error | Stopped,
    Field(discriminator="type"),
]
MESSAGE: TypeAdapter[Message] = TypeAdapter(Message)
