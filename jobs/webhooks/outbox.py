"""What webhooks are told of a job: written in the transaction that changes the job, sent by `jobs/webhooks/sending.py`."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal, get_args

from sqlalchemy.orm import Session
from ulid import ULID

from jobs.scope import owned
from jobs.tables import Delivery, Job, Webhook
from jobs.webhooks.tables import DeliveryState

EventName = Literal["job.succeeded", "job.failed", "job.cancelled", "job.paused"]
EVENT_NAMES: tuple[EventName, ...] = get_args(EventName)
TEST = "webhook.test"


def announce(session: Session, job: Job) -> None:
    """Write a message to each webhook of the job's tenant that wants to know of the state which the job has come to."""
    name = f"job.{job.state}"
    if name not in EVENT_NAMES:
        return
    for webhook in session.scalars(owned(Webhook, job.tenant_id).where(Webhook.is_enabled)).all():
        if name in webhook.events:
            write_message(session, webhook, name, in_short(job), job.id)


def in_short(job: Job) -> dict[str, Any]:
    """What leaves this server unasked: little, and no details of errors. Its receiver asks for the job itself."""
    return {
        "id": job.id,
        "task": job.task,
        "parent": job.parent_id,
        "model": job.model,
        "state": job.state,
        "verdict": job.verdict,
        "attempt": job.attempt,
        "labels": job.labels,
        "error": job.error and {name: job.error[name] for name in ("type", "title")},
        "created_at": job.created_at.isoformat(),
        "finished_at": job.finished_at and job.finished_at.isoformat(),
        "link": f"/v1/jobs/{job.id}",
    }


def write_message(
    session: Session, webhook: Webhook, name: str, data: Mapping[str, Any], job_id: str | None = None
) -> Delivery:
    """Queue one message; the caller commits."""
    now = datetime.now(UTC)
    message = Delivery(
        id=str(ULID.from_datetime(now)),
        tenant_id=webhook.tenant_id,
        webhook_id=webhook.id,
        type=name,
        job_id=job_id,
        payload={"type": name, "timestamp": now.isoformat(), "data": dict(data)},
        state=DeliveryState.PENDING,
        attempt=0,
        retries=0,
        due_at=now,
        created_at=now,
    )
    session.add(message)
    session.flush()
    return message
