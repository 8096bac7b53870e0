"""A tenant's data sets; functions on a session, the caller commits."""

from dataclasses import dataclass

from sqlalchemy import delete, update
from sqlalchemy.orm import Session
from ulid import ULID

from jobs import transitions
from jobs.pages import Page, read_page
from jobs.references import check_unused
from jobs.scope import is_owned, owned, owned_row
from jobs.uploads.dataset_check import Counts
from jobs.uploads.errors import DatasetNotFound
from jobs.uploads.tables import Dataset


@dataclass(frozen=True)
class StoredText:
    """A checked text that lies in the artifact store."""

    sha256: str
    size_bytes: int
    counts: Counts


def find_same(session: Session, tenant_id: str, text: StoredText) -> Dataset | None:
    """The tenant's data set of the very same bytes, read in the same way."""
    query = owned(Dataset, tenant_id).where(Dataset.sha256 == text.sha256, Dataset.kind == text.counts.kind)
    return session.scalars(query).one_or_none()


def add(session: Session, tenant_id: str, name: str, text: StoredText) -> Dataset:
    """Raises: sqlalchemy.exc.IntegrityError: the tenant has just brought the same bytes in another request."""
    now = transitions.now()
    dataset = Dataset(
        id=str(ULID.from_datetime(now)),
        tenant_id=tenant_id,
        name=name,
        kind=text.counts.kind,
        sha256=text.sha256,
        size_bytes=text.size_bytes,
        documents=text.counts.documents,
        characters=text.counts.characters,
        created_at=now,
    )
    session.add(dataset)
    session.flush()
    return dataset


def get(session: Session, tenant_id: str, dataset_id: str) -> Dataset:
    """Raises: DatasetNotFound: also where it is another tenant's."""
    dataset = owned_row(session, Dataset, tenant_id, dataset_id)
    if dataset is None:
        raise DatasetNotFound(dataset_id)
    return dataset


def page(session: Session, tenant_id: str, cursor: str | None, limit: int) -> Page[Dataset]:
    """The newest first. Raises: InvalidCursor."""
    key = (Dataset.created_at, Dataset.id)
    return read_page(session, owned(Dataset, tenant_id), key, cursor, limit, descending=True)


def remove(session: Session, tenant_id: str, dataset_id: str) -> None:
    """Raises: DatasetNotFound. InUse: a job that has not ended reads it."""
    mine = is_owned(Dataset, tenant_id), Dataset.id == dataset_id
    locked = session.scalar(update(Dataset).where(*mine).values(used_at=Dataset.used_at).returning(Dataset.id))
    if locked is None:
        raise DatasetNotFound(dataset_id)
    check_unused(session, dataset_id, f"data set {dataset_id}")
    session.execute(delete(Dataset).where(*mine))
