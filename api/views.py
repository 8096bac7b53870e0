"""What the API answers beside the job itself (jobs/view.py)."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from jobs.states import FINAL
from jobs.tables import Artifact, Event


class _View(BaseModel):
    model_config = ConfigDict(frozen=True)


class EventView(_View):
    """One event of a job: the `data` of a server-sent event."""

    seq: int = Field(description="Counted from 1 without gaps.")
    type: str = Field(description="`state`, `stage`, `activity`, `layer`, `block` or `note`.")
    attempt: int
    created_at: datetime
    data: dict[str, Any]

    @property
    def is_final(self) -> bool:
        """True for the last event of a job."""
        return self.type == "state" and self.data.get("state") in FINAL


class ArtifactView(_View):
    """One file that a job gave."""

    name: str
    size_bytes: int
    sha256: str
    href: str = Field(description="Where to download it, on this server.")


class MethodView(_View):
    """A compression method."""

    name: str
    good_for: str
    options: dict[str, Any] = Field(description="JSON schema of its options, once resolved; a recipe gives them flat.")


class FormatView(_View):
    """An output format."""

    name: str = Field(description="What a request gives as `output.format`.")
    content: str
    loads_in: tuple[str, ...]
    refuses: dict[str, str] = Field(
        description="What it cannot hold -> why, in words. What depends on a model's shapes is refused at submit as well."
    )


class Health(_View):
    status: str = Field(examples=["ok"])


class Readiness(_View):
    status: str = Field(examples=["ready"])
    checks: dict[str, str] = Field(examples=[{"database": "ok", "schema": "ok", "broker": "ok", "artifacts": "ok"}])
    maintain_age_s: float | None = Field(description="Seconds since `scalpel maintain` last kept house; null: never.")
    workers: int = Field(description="Workers that are heard of. Without any, jobs are taken and wait.")


def event_view(event: Event) -> EventView:
    return EventView(seq=event.seq, type=event.type, attempt=event.attempt, created_at=event.created_at, data=event.data)


def artifact_view(artifact: Artifact) -> ArtifactView:
    return ArtifactView(
        name=artifact.name,
        size_bytes=artifact.size_bytes,
        sha256=artifact.sha256,
        href=f"/v1/jobs/{artifact.job_id}/artifacts/{artifact.name}",
    )
