"""What users take away again: a job with all that it has, or only its files.

Rows go at once; the stored files that no row names any more are garbage, collected later.
"""

from collections.abc import Sequence

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from compression.manifest import REPORT_FILE
from jobs import transitions
from jobs.errors import IllegalTransition, Referenced
from jobs.scope import is_owned
from jobs.states import FINAL
from jobs.tables import Artifact, Job, Solution


def delete_job(session: Session, tenant_id: str, job_id: str, *, cascade: bool = False) -> None:
    """Remove a job that has ended: its row, events, files and solutions.

    Args: cascade: its exports, too; they must have ended as well.
    Raises: JobNotFound. IllegalTransition: it, or an export of it, has not ended. Referenced: exports refer to it.
    """
    job = transitions.lock(session, tenant_id, job_id)
    exports = _exports(session, tenant_id, job_id)
    if exports and not cascade:
        raise Referenced(job_id, len(exports))
    for each in (job, *exports):
        _check_ended(each, "deleted")
    for doomed in (Job.parent_id == job_id, Job.id == job_id):
        session.execute(delete(Job).where(is_owned(Job, tenant_id), doomed).execution_options(synchronize_session=False))


def delete_artifacts(session: Session, tenant_id: str, job_id: str, *, with_solutions: bool = False) -> Job:
    """Remove the files of a job that has ended; the job and its report stay.

    Args: with_solutions: also what is kept for exports; refused while one of them is still to read it.
    Raises: JobNotFound. IllegalTransition: it has not ended. Referenced: exports are at work on its solutions.
    """
    job = transitions.lock(session, tenant_id, job_id)
    _check_ended(job, "stripped of its artifacts")
    if with_solutions:
        readers = [export for export in _exports(session, tenant_id, job_id) if export.state not in FINAL]
        if readers:
            raise Referenced(job_id, len(readers))
        session.execute(delete(Solution).where(Solution.job_id == job_id))
        job.solution_bytes = None
    gone = delete(Artifact).where(Artifact.job_id == job_id, Artifact.name != REPORT_FILE).returning(Artifact.name)
    if session.scalars(gone).all():
        job.artifacts_deleted_at = transitions.now()
    job.updated_at = transitions.now()
    session.flush()
    return job


def _exports(session: Session, tenant_id: str, job_id: str) -> Sequence[Job]:
    """Locked like their parent: none is claimed while it is being removed."""
    ids = session.scalars(select(Job.id).where(is_owned(Job, tenant_id), Job.parent_id == job_id).order_by(Job.id)).all()
    return [transitions.lock(session, tenant_id, export_id) for export_id in ids]


def _check_ended(job: Job, wanted: str) -> None:
    if job.state not in FINAL:
        raise IllegalTransition(job.id, job.state, wanted)
