"""What a sweep asked for and what it found; `sweep.json` is this model. Torch-free."""

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from compression.figures import Figures
from compression.pareto import undominated
from compression.protocol import Acceptance, Calibration, Evaluation, Output

SWEEP_FILE = "sweep.json"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SweepRequest(_Part):
    """Everything that the points depend on; a sweep is continued only where all of it is the same."""

    model: str = Field(description="As the user named it.")
    model_digest: str = Field(description="SHA-256 over config and weight files.")
    recipes: tuple[dict[str, Any], ...] = Field(description="As asked, in order.")
    calibration: Calibration
    evaluation: Evaluation
    acceptance: Acceptance
    output: Output
    refine: bool = Field(description="Solve what is undominated again on compressed inputs.")


class SweepPoint(_Part):
    """One recipe and what became of it: figures, an error, or neither while it waits."""

    name: str = Field(description="Of its artifact folder beside `sweep.json`.")
    recipe: dict[str, Any]
    refines: str | None = Field(None, description="The point whose recipe this is, solved again on compressed inputs.")
    figures: Figures | None = None
    error: str | None = None
    is_dominated: bool | None = Field(
        None, description="Another point takes no more bytes and loses no more, and is better in one; null without figures."
    )


class SweepReport(_Part):
    sweep_version: int = 1
    scalpel_version: str
    created_at: str = Field(description="UTC, ISO 8601.")
    request: SweepRequest
    points: tuple[SweepPoint, ...]
    seconds: float = Field(0.0, description="Of all points that were run, earlier attempts included.")

    @property
    def failed(self) -> tuple[SweepPoint, ...]:
        return tuple(point for point in self.points if point.error is not None)


def judged(points: Sequence[SweepPoint]) -> tuple[SweepPoint, ...]:
    """The points, each with whether another beats it in bytes and loss; without losses, nothing can be said."""
    known = [(point, point.figures) for point in points if point.figures is not None and point.figures.loss is not None]
    found = undominated([(float(figures.packed_bytes), figures.loss or 0.0) for _, figures in known])
    dominated = {point.name: not is_best for (point, _), is_best in zip(known, found, strict=True)}
    return tuple(point.model_copy(update={"is_dominated": dominated.get(point.name)}) for point in points)
