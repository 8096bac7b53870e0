"""What the service answers. Fields that a newer service adds are kept and do no harm."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

FINAL_STATES = frozenset({"succeeded", "failed", "cancelled"})


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True, extra="allow")


class FieldProblem(_Answer):
    """What is wrong with one field of a request."""

    field: str
    detail: str
    allowed: str | None = None

    def __str__(self) -> str:
        return f"{self.field}: {self.detail}" + (f" (allowed: {self.allowed})" if self.allowed else "")


class Problem(_Answer):
    """A refusal, as application/problem+json."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str | None = None
    errors: tuple[FieldProblem, ...] = ()

    def __str__(self) -> str:
        """One line: the fields at fault where the service names them, its sentence otherwise."""
        return f"{self.title}: {'; '.join(map(str, self.errors)) or self.detail or self.type}"


class Progress(_Answer):
    block: int | None = None
    blocks: int | None = None
    fraction: float | None = None
    eta_s: float | None = None


class JobError(_Answer):
    """Why a job failed."""

    type: str
    title: str
    detail: str | None = None
    layer: str | None = None


class Forecast(_Answer):
    """Bytes of weights on disk, foretold at submit."""

    source_bytes: int
    artifact_bytes: int
    note: str | None = None


class Job(_Answer):
    id: str
    task: str = "compress"
    parent: str | None = None
    model: str = ""
    state: str
    verdict: str | None = None
    stage: str | None = None
    activity: str | None = None
    progress: Progress | None = None
    attempt: int = 0
    max_attempts: int | None = None
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    updated_at: datetime | None = None
    request: dict[str, Any]
    recipe: dict[str, Any] | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    forecast: Forecast | None = None
    solution_bytes: int | None = None
    error: JobError | None = None
    links: dict[str, str] = Field(default_factory=dict)

    @property
    def is_final(self) -> bool:
        return self.state in FINAL_STATES


class JobPage(_Answer):
    jobs: tuple[Job, ...]
    next_cursor: str | None = None


class Event(_Answer):
    """One event of a job. `seq` counts from 1 without gaps; `data` depends on `type`."""

    seq: int
    type: str
    attempt: int
    created_at: datetime
    data: dict[str, Any]

    @property
    def is_final(self) -> bool:
        """True for the last event of a job."""
        return self.type == "state" and self.data.get("state") in FINAL_STATES


class Artifact(_Answer):
    name: str
    size_bytes: int
    sha256: str
    href: str


class Method(_Answer):
    """A compression method, with the JSON schema of its options."""

    name: str
    good_for: str
    options: dict[str, Any]


class Format(_Answer):
    """An output format: what its files hold, what loads them, what it refuses and why."""

    name: str
    content: str
    loads_in: tuple[str, ...]
    refuses: dict[str, str]


class Model(_Answer):
    """A model that the service knows by name."""

    name: str
