"""What the supervisor tells the runner, once: everything that its task needs, and nothing secret."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, TypeAdapter

from compression.goals.goal import Goal
from compression.models.source import ModelSource
from compression.protocol import Acceptance, Calibration, Evaluation, Output
from compression.recipe import Recipe
from jobs.states import Task


class _Spec(BaseModel):
    """One line of JSON on the runner's standard input."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: Task
    model_path: Path
    model_name: str
    model_revision: str | None
    model_notes: tuple[str, ...]
    out: Path
    lock: Path
    lock_timeout_s: float
    cache: Path
    device: str
    memory_limit_bytes: int | None = None
    provenance: dict[str, Any]

    @property
    def model(self) -> ModelSource:
        return ModelSource(self.model_path, self.model_name, self.model_revision, self.model_notes)

    def to_line(self) -> bytes:
        """What was not said stays unsaid, but for the task: in a recipe, an explicit null means something else."""
        return self.model_copy(update={"task": self.task}).model_dump_json(exclude_unset=True).encode() + b"\n"


class _MeasuringSpec(_Spec):
    """What compressions and evaluations have in common."""

    evaluation: Evaluation
    acceptance: Acceptance = Acceptance()
    texts: dict[str, Path]
    work: Path
    low_memory: bool = False


class RunSpec(_MeasuringSpec):
    """A compression; it leaves its solutions in `solutions`. Args: expected_s: its time as foretold, by name of the device."""

    task: Literal["compress"] = "compress"
    recipe: Recipe
    goal: Goal | None = None
    calibration: Calibration
    output: Output
    solutions: Path
    expected_s: dict[str, float] = {}


class EvaluateSpec(_MeasuringSpec):
    """An evaluation."""

    task: Literal["evaluate"] = "evaluate"
    reference: ModelSource | None


class ExportSpec(_Spec):
    """An export of the solutions that lie in `solutions`. Args: origin: whose they are, in words."""

    task: Literal["export"] = "export"
    output: Output
    solutions: Path
    origin: str


Spec = Annotated[RunSpec | EvaluateSpec | ExportSpec, Discriminator("task")]
SPEC: TypeAdapter[Spec] = TypeAdapter(Spec)
