"""The finished blocks of a running job that lie in the artifact store: one manifest a job, in rows; the caller commits."""

from collections.abc import Sequence

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from jobs import transitions
from jobs.attempts import StoredFile
from jobs.tables import Checkpoint


def keep(session: Session, job_id: str, attempt: int, fingerprint: StoredFile, block: StoredFile) -> None:
    """Add a stored block to the job's manifest; blocks of another fingerprint leave it in the same transaction.

    Args: fingerprint: the file that says which pass the block belongs to; part of the manifest itself.
    Raises: StaleAttempt.
    """
    transitions.hold(session, job_id, attempt)
    unlike = Checkpoint.fingerprint != fingerprint.sha256
    session.execute(delete(Checkpoint).where(Checkpoint.job_id == job_id, unlike))
    for file in (fingerprint, block):
        session.merge(
            Checkpoint(
                job_id=job_id,
                name=file.name,
                sha256=file.sha256,
                size_bytes=file.size_bytes,
                fingerprint=fingerprint.sha256,
                attempt=attempt,
                created_at=transitions.now(),
            )
        )
    session.flush()


def kept(session: Session, job_id: str) -> Sequence[Checkpoint]:
    """The job's manifest, by name; empty where no block has been stored."""
    return session.scalars(select(Checkpoint).where(Checkpoint.job_id == job_id).order_by(Checkpoint.name)).all()
