"""What a job would need on this server, foretold from config and tensor headers alone, and whether that fits."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from jobs.estimating.capacity import Misfit
from jobs.estimating.rates import TimeEstimate
from jobs.states import Task


class _View(BaseModel):
    model_config = ConfigDict(frozen=True)


class Parameters(_View):
    all: int = Field(description="Numbers in the checkpoint, tied ones once.")
    touched: int = Field(description="Of them, weights that the recipe compresses.")


class FormatEstimate(_View):
    """One output format for this recipe and model."""

    format: str
    weight_bytes: int | None = Field(None, description="Of the artifact's weights; null where the format is refused.")
    is_exact: bool = Field(False, description="To the byte; else within a few per cent, as it depends on the weights.")
    refused: str | None = Field(None, description="Why this format cannot hold the result.")


class Memory(_View):
    """Peaks of the job's process where it computes on this kind of device."""

    on: Literal["cpu", "cuda"]
    host_peak_bytes: int = Field(description="Anonymous memory; mapped files not counted.")
    device_peak_bytes: int | None = Field(description="null on a CPU.")
    parts: dict[str, int] = Field(description="What the peak of the pass is made of (on an accelerator: of the device).")


class Disk(_View):
    cache_bytes: int = Field(description="To download and unpack; 0 where it is here, or the model is a local folder.")
    scratch_bytes: int = Field(description="Of the job's work folder at its fullest, the artifact included.")
    artifact_bytes: int = Field(description="Of the artifact in the store.")
    solution_bytes: int = Field(description="Kept in the store for later exports, too.")


class MisfitView(_View):
    """A limit of this server that the job would exceed."""

    limit: Literal["host_memory", "device_memory", "disk"]
    limit_bytes: int
    needed_bytes: int
    field: str = Field(description="Of the request, which would make it smaller.")
    cure: str


class Estimate(_View):
    """What a job would need. Whatever could not be known is null, and `unknown` says why."""

    task: Task
    model: str
    unknown: str | None = Field(None, description="Why the model's tensors could not be looked at.")
    parameters: Parameters | None = None
    formats: tuple[FormatEstimate, ...] = Field((), description="Every output format, for this recipe.")
    memory: tuple[Memory, ...] = ()
    disk: Disk | None = None
    time: tuple[TimeEstimate, ...] = Field((), description="By device that earlier jobs ran on, the fastest first.")
    time_note: str | None = Field(None, description="Why no time is foretold.")
    fits: bool | None = Field(None, description="Whether it fits this server's limits; null where they are not known.")
    misfits: tuple[MisfitView, ...] = ()

    def stored(self) -> dict[str, Any]:
        """What a job's row keeps."""
        return self.model_dump(mode="json", exclude={"formats"})

    @property
    def expected_s(self) -> Mapping[str, float]:
        """By device."""
        return {time.device: time.expected_s for time in self.time}


def misfit_views(found: tuple[Misfit, ...]) -> tuple[MisfitView, ...]:
    return tuple(MisfitView.model_validate(asdict(misfit)) for misfit in found)
