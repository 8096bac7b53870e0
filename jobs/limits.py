"""How much of a worker a job may use, as its user asks and its operator allows."""

from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field

from compression.errors import InvalidOptions
from jobs.settings import Settings
from jobs.states import State
from jobs.tables import Job


class Limits(BaseModel):
    """What ends a job before its work is done."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    run_s: float | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="Seconds that workers may spend on the job, all attempts together, from its claim on: fetching and "
        "publishing count, waiting in the queue and pauses do not. null: the server's default.",
        examples=[86_400],
    )


def run_limit_s(limits: Limits, settings: Settings) -> float | None:
    """Seconds that a job may run; None for as long as it takes.

    Raises: InvalidOptions: more than this server allows.
    """
    allowed_s = settings.max_run_s
    if limits.run_s is None:
        given = [seconds for seconds in (settings.default_run_s, allowed_s) if seconds is not None]
        return min(given, default=None)
    if allowed_s is not None and limits.run_s > allowed_s:
        raise InvalidOptions("limits.run_s", f"{limits.run_s:g} s is more than this server allows", f"<= {allowed_s:g}")
    return limits.run_s


def running_s(job: Job, now: datetime) -> float:
    """Seconds that workers have held the job until now."""
    return job.running_s + (held_s(job, now) if job.state is State.RUNNING else 0.0)


def held_s(job: Job, now: datetime) -> float:
    """Of the running attempt. A lost worker is taken to have held it until its lease ran out."""
    if job.claimed_at is None:  # by a version that did not write it down
        return 0.0
    until = now if job.lease_expires_at is None else min(now, job.lease_expires_at)
    return max(0.0, (until - job.claimed_at).total_seconds())
