"""What the supervisor tells the runner, once: everything that a compression needs, and nothing secret."""

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from compression.protocol import Calibration, Evaluation, Output
from compression.recipe import Recipe


class RunSpec(BaseModel):
    """One line of JSON on the runner's standard input."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model_path: Path
    model_name: str
    model_revision: str | None
    model_notes: tuple[str, ...]
    recipe: Recipe
    calibration: Calibration
    evaluation: Evaluation
    output: Output
    texts: dict[str, Path]
    out: Path
    work: Path
    lock: Path
    lock_timeout_s: float
    cache: Path
    device: str
    provenance: dict[str, Any]

    def to_line(self) -> bytes:
        """What was not said stays unsaid: in a recipe, an explicit null means something else."""
        return self.model_dump_json(exclude_unset=True).encode() + b"\n"
