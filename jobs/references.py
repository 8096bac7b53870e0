"""Which jobs read what users brought: checked and noted at submit, asked before anything is deleted."""

from collections.abc import Iterable

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from jobs import transitions
from jobs.errors import SourceError
from jobs.scope import is_owned
from jobs.sourcing.sources import UploadedDataset, UploadedModelSource, parse_model_source, parse_text_source
from jobs.states import FINAL
from jobs.tables import Job
from jobs.uploads.errors import InUse
from jobs.uploads.tables import Dataset, JobInput, UploadedModel

READY = "ready"
SHOWN = 5  # jobs named in a refusal


def refer(
    session: Session, job: Job, models: Iterable[str], texts: Iterable[str] = (), *, labelled: str | None = None
) -> None:
    """Note what the job reads, in the transaction that writes the job; nobody can delete it from then on.

    Args:
        models, texts: as the request names them; those that are no uploads are passed over.
        labelled: the text that must have labels.
    Raises: SourceError: there is no such thing among the tenant's own, it is not ready, or has no labels.
    """
    # In one order, so that two jobs that read the same things wait for each other and not both at once.
    found = {_held_model(session, job.tenant_id, source) for source in sorted(set(models))}
    found |= {_held_dataset(session, job.tenant_id, source, source == labelled) for source in sorted(set(texts))}
    for resource_id in sorted(filter(None, found)):
        session.add(JobInput(job_id=job.id, resource_id=resource_id))
    session.flush()


def check_unused(session: Session, resource_id: str, what: str) -> None:
    """To be called with the resource's row locked. Raises: InUse."""
    readers = select(Job.id).join(JobInput, JobInput.job_id == Job.id)
    readers = readers.where(JobInput.resource_id == resource_id, Job.state.not_in(FINAL)).order_by(Job.id).limit(SHOWN)
    job_ids = list(session.scalars(readers))
    if job_ids:
        raise InUse(what, job_ids)


def _held_dataset(session: Session, tenant_id: str, source: str, must_have_labels: bool) -> str | None:
    parsed = parse_text_source(source)
    if not isinstance(parsed, UploadedDataset):
        return None
    held = update(Dataset).where(is_owned(Dataset, tenant_id), Dataset.id == parsed.dataset_id)
    kind = session.scalar(held.values(used_at=transitions.now()).returning(Dataset.kind))
    if kind is None:
        raise SourceError(source, "there is no such data set")
    if must_have_labels and kind != "labelled":
        raise SourceError(
            source, f'the data set is of the kind {kind!r}; to measure accuracy it needs a "label" on every line'
        )
    return parsed.dataset_id


def _held_model(session: Session, tenant_id: str, source: str) -> str | None:
    parsed = parse_model_source(source)
    if not isinstance(parsed, UploadedModelSource):
        return None
    held = update(UploadedModel).where(is_owned(UploadedModel, tenant_id), UploadedModel.id == parsed.model_id)
    state = session.scalar(held.values(used_at=transitions.now()).returning(UploadedModel.state))
    if state is None:
        raise SourceError(source, "there is no such uploaded model")
    if state != READY:
        raise SourceError(source, f"the uploaded model is {state}, not ready")
    return parsed.model_id
