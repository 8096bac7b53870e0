"""What the service answers. Fields that a newer service adds are kept and do no harm."""

from datetime import datetime
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

Item = TypeVar("Item")
FINAL_STATES = frozenset({"succeeded", "failed", "cancelled"})


class Answered(BaseModel):
    """Base of all answers."""

    model_config = ConfigDict(frozen=True, extra="allow")


class FieldProblem(Answered):
    """What is wrong with one field of a request."""

    field: str
    detail: str
    allowed: str | None = None

    def __str__(self) -> str:
        return f"{self.field}: {self.detail}" + (f" (allowed: {self.allowed})" if self.allowed else "")


class Problem(Answered):
    """A refusal, as application/problem+json."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str | None = None
    errors: tuple[FieldProblem, ...] = ()
    request_id: str | None = None

    def __str__(self) -> str:
        """One line: the fields at fault where the service names them, its sentence otherwise."""
        return f"{self.title}: {'; '.join(map(str, self.errors)) or self.detail or self.type}"


class Progress(Answered):
    block: int | None = None
    blocks: int | None = None
    fraction: float | None = None
    eta_s: float | None = None


class JobError(Answered):
    """Why a job failed."""

    type: str
    title: str
    detail: str | None = None
    layer: str | None = None
    exit_signal: str | None = None
    exit_code: int | None = None
    peak_memory_bytes: int | None = None
    memory_limit_bytes: int | None = None
    last_words: str | None = None


class Forecast(Answered):
    """Bytes of weights on disk, foretold at submit."""

    source_bytes: int
    artifact_bytes: int
    note: str | None = None


class Parameters(Answered):
    all: int
    touched: int


class FormatEstimate(Answered):
    """One output format for a recipe: about how many bytes, or why it cannot hold the result."""

    format: str
    weight_bytes: int | None = None
    is_exact: bool = False
    refused: str | None = None


class MemoryEstimate(Answered):
    """Peaks on one kind of device, `cpu` or `cuda`."""

    on: str
    host_peak_bytes: int
    device_peak_bytes: int | None = None
    parts: dict[str, int] = Field(default_factory=dict)


class DiskEstimate(Answered):
    cache_bytes: int
    scratch_bytes: int
    artifact_bytes: int
    solution_bytes: int = 0


class TimeEstimate(Answered):
    """How long a job would take on one kind of device, by the rates of earlier ones."""

    device: str
    expected_s: float
    low_s: float
    high_s: float
    jobs: int


class Misfit(Answered):
    """A limit of the service that a job would exceed."""

    limit: str
    limit_bytes: int
    needed_bytes: int
    field: str
    cure: str


class Estimate(Answered):
    """What a job would need. What could not be known is None, and `unknown` says why."""

    task: str
    model: str
    unknown: str | None = None
    parameters: Parameters | None = None
    formats: tuple[FormatEstimate, ...] = ()
    memory: tuple[MemoryEstimate, ...] = ()
    disk: DiskEstimate | None = None
    time: tuple[TimeEstimate, ...] = ()
    time_note: str | None = None
    fits: bool | None = None
    misfits: tuple[Misfit, ...] = ()


class Publication(Answered):
    """Where a publication has put the files."""

    url: str
    revision: str | None = None
    files: int
    size_bytes: int


class JobFields(Answered):
    """What the service says of a job; `Job` and `AsyncJob` add what one can do with it."""

    _core: Any = PrivateAttr(default=None)  # the client that it came through
    id: str
    task: str = "compress"
    parent: str | None = None
    sweep: str | None = None
    database: str | None = None
    model: str = ""
    state: str
    verdict: str | None = None
    stage: str | None = None
    activity: str | None = None
    progress: Progress | None = None
    running_s: float = 0.0
    run_limit_s: float | None = None
    attempt: int = 0
    max_attempts: int | None = None
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    updated_at: datetime | None = None
    request: dict[str, Any]
    recipe: dict[str, Any] | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    priority: int = 0
    forecast: Forecast | None = None
    estimate: Estimate | None = None
    solution_bytes: int | None = None
    artifacts_expired_at: datetime | None = None
    artifacts_deleted_at: datetime | None = None
    publication: Publication | None = None
    error: JobError | None = None
    cancel_requested: bool = False
    pause_requested: bool = False
    links: dict[str, str] = Field(default_factory=dict)

    @property
    def is_final(self) -> bool:
        return self.state in FINAL_STATES


class Page(Answered, Generic[Item]):
    """Some items of a list, and where the next ones begin; None on the last page."""

    items: tuple[Item, ...]
    next_cursor: str | None = None


class Event(Answered):
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


class Artifact(Answered):
    name: str
    size_bytes: int
    sha256: str
    href: str


class Method(Answered):
    """A compression method, with the JSON schema of its options."""

    name: str
    good_for: str
    options: dict[str, Any]


class Format(Answered):
    """An output format: what its files hold, what loads them, what it refuses and why."""

    name: str
    content: str
    loads_in: tuple[str, ...]
    refuses: dict[str, str]


class Dataset(Answered):
    """A text that was brought to the service. `source` is what a request names it by."""

    id: str
    name: str
    kind: str
    source: str
    sha256: str
    size_bytes: int
    documents: int
    characters: int
    created_at: datetime
    used_at: datetime | None = None


class Tokens(Answered):
    """How many tokens a data set has for a model. `estimated_tokens` is of the whole of it; exact where `is_whole`."""

    model: str
    characters: int
    tokens: int
    estimated_tokens: int
    is_whole: bool


class ModelFile(Answered):
    """A file of an upload; its next part begins at `received_bytes`."""

    path: str
    size_bytes: int
    sha256: str
    received_bytes: int
    is_verified: bool = False


class Model(Answered):
    """A model that the service knows: a demo model, or an upload. `name` is what a request names it by."""

    name: str
    kind: str = "demo"
    title: str = ""
    parameters: int | None = None
    licence: str | None = None
    note: str | None = None
    id: str | None = None
    state: str = "ready"
    problem: str | None = None
    digest: str | None = None
    size_bytes: int | None = None
    created_at: datetime | None = None
    used_at: datetime | None = None
    files: tuple[ModelFile, ...] = ()
    part_bytes: int | None = None

    @property
    def is_settled(self) -> bool:
        """Whether the service has judged it."""
        return self.state in ("ready", "refused")


class Slot(Answered):
    """A device of a worker, which computes one job at a time."""

    device: str
    name: str
    memory_bytes: int | None
    needs: tuple[str, ...]
    is_busy: bool
    job: str | None = None


class Worker(Answered):
    """A worker process: idle, busy, draining or lost."""

    id: str
    host: str
    version: str
    state: str
    slots: tuple[Slot, ...]
    queues: tuple[str, ...]
    memory_bytes: int
    memory_free_bytes: int
    disk_bytes: int
    disk_free_bytes: int
    started_at: datetime
    heartbeat_at: datetime


class Readiness(Answered):
    """Whether everything that the service needs answers; `checks` by part."""

    status: str
    checks: dict[str, str]
    maintain_age_s: float | None
    workers: int
