"""What the supervisor tells the runner, once: everything that its work needs, and nothing secret."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Tag, TypeAdapter

from compression.models.source import ModelSource
from compression.protocol import Acceptance, Calibration, Evaluation, Output
from compression.recipe import Recipe


class _Spec(BaseModel):
    """One line of JSON on the runner's standard input."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model_path: Path
    model_name: str
    model_revision: str | None
    model_notes: tuple[str, ...]
    evaluation: Evaluation
    acceptance: Acceptance = Acceptance()
    texts: dict[str, Path]
    out: Path
    work: Path
    lock: Path
    lock_timeout_s: float
    cache: Path
    device: str
    provenance: dict[str, Any]

    @property
    def model(self) -> ModelSource:
        return ModelSource(self.model_path, self.model_name, self.model_revision, self.model_notes)

    def to_line(self) -> bytes:
        """What was not said stays unsaid: in a recipe, an explicit null means something else."""
        return self.model_dump_json(exclude_unset=True).encode() + b"\n"


class RunSpec(_Spec):
    """A compression."""

    recipe: Recipe
    calibration: Calibration
    output: Output


class EvaluateSpec(_Spec):
    """An evaluation."""

    task: Literal["evaluate"]
    reference: ModelSource | None


def _task(data: Any) -> str:
    return str(data.get("task", "compress")) if isinstance(data, dict) else "compress"


AnySpec = Annotated[Annotated[RunSpec, Tag("compress")] | Annotated[EvaluateSpec, Tag("evaluate")], Discriminator(_task)]
SPEC: TypeAdapter[RunSpec | EvaluateSpec] = TypeAdapter(AnySpec)
