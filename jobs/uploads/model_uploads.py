"""Models that users bring, file by file and part by part; functions on a session, the caller commits.

Each request brings one part, which goes into the artifact store as it is, and its row says where it belongs. A part is there
whole or not at all, so whoever was cut off asks how far a file has come and goes on there, on whatever API process. A file
stays in its parts: nothing is copied when it is complete.

A file that the same tenant has brought before is not asked for again. Other tenants' files are never looked at: who could have
a file by its hash alone would only need to know the hash.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session
from ulid import ULID

from jobs import transitions
from jobs.pages import Page, read_page
from jobs.references import check_unused
from jobs.scope import is_owned, owned, owned_row
from jobs.uploads.errors import FileNotInManifest, ModelNotFound, PartTooLong, UploadClosed, UploadOffsetMismatch
from jobs.uploads.model_manifest import Manifest
from jobs.uploads.tables import ModelFile, ModelPart, UploadedModel


class UploadState(StrEnum):
    UPLOADING = "uploading"
    CHECKING = "checking"  # every byte is here; the housekeeping looks at them
    READY = "ready"
    REFUSED = "refused"


@dataclass(frozen=True)
class Progress:
    """A file of the manifest and the bytes of it that are here."""

    file: ModelFile
    received_bytes: int


def begin(session: Session, tenant_id: str, manifest: Manifest) -> tuple[UploadedModel, bool]:
    """Begin an upload, or find the one of the same files, to go on with it. One that was refused begins anew.

    Returns: the model, and whether it is new.
    Raises: sqlalchemy.exc.IntegrityError: the same upload has just begun in another request.
    """
    found = session.scalars(owned(UploadedModel, tenant_id).where(UploadedModel.digest == manifest.digest)).one_or_none()
    if found is not None and found.state != UploadState.REFUSED:
        return found, False
    if found is not None:
        session.delete(found)
        session.flush()
    now = transitions.now()
    model = UploadedModel(
        id=str(ULID.from_datetime(now)),
        tenant_id=tenant_id,
        name=manifest.name,
        state=UploadState.UPLOADING,
        digest=manifest.digest,
        size_bytes=manifest.size_bytes,
        created_at=now,
        updated_at=now,
    )
    session.add(model)
    session.flush()
    for file in manifest.files:
        session.add(ModelFile(model_id=model.id, path=file.path, promised_sha256=file.sha256, size_bytes=file.size_bytes))
    session.flush()
    _take_over(session, tenant_id, model.id)
    _close_if_whole(session, model)
    return model, True


def get(session: Session, tenant_id: str, model_id: str) -> UploadedModel:
    """Raises: ModelNotFound: also where it is another tenant's."""
    model = owned_row(session, UploadedModel, tenant_id, model_id)
    if model is None:
        raise ModelNotFound(model_id)
    return model


def page(session: Session, tenant_id: str, cursor: str | None, limit: int) -> Page[UploadedModel]:
    """The newest first. Raises: InvalidCursor."""
    key = (UploadedModel.created_at, UploadedModel.id)
    return read_page(session, owned(UploadedModel, tenant_id), key, cursor, limit, descending=True)


def progress(session: Session, model_id: str) -> list[Progress]:
    """The files of a model, by name."""
    received = _received(session, model_id)
    files = session.scalars(select(ModelFile).where(ModelFile.model_id == model_id).order_by(ModelFile.path))
    return [Progress(file, received.get(file.path, 0)) for file in files]


def progress_of(session: Session, tenant_id: str, model_id: str, path: str) -> Progress:
    """Raises: ModelNotFound, FileNotInManifest."""
    get(session, tenant_id, model_id)
    file = session.get(ModelFile, (model_id, path), populate_existing=True)
    if file is None:
        raise FileNotInManifest(model_id, path)
    return Progress(file, _received(session, model_id).get(path, 0))


def check_part(session: Session, tenant_id: str, model_id: str, path: str, offset: int, length: int | None) -> None:
    """Whether a part would be taken; asked before its bytes are read, and again by `add_part`.

    Args: length: None where it is not known yet.
    Raises: ModelNotFound, FileNotInManifest, UploadClosed, UploadOffsetMismatch, PartTooLong.
    """
    found = progress_of(session, tenant_id, model_id, path)
    state = get(session, tenant_id, model_id).state
    if state != UploadState.UPLOADING:
        raise UploadClosed(model_id, state)
    if offset != found.received_bytes:
        raise UploadOffsetMismatch(path, offset, found.received_bytes)
    left = found.file.size_bytes - offset
    if left == 0 or (length is not None and not 0 < length <= left):
        raise PartTooLong(path, offset, 0 if length is None else length, found.file.size_bytes)


def add_part(
    session: Session, tenant_id: str, model_id: str, path: str, offset: int, sha256: str, size_bytes: int
) -> Progress:
    """Add a part that has just been put into the store. Parts of one model come one at a time. Raises: as `check_part`."""
    mine = is_owned(UploadedModel, tenant_id), UploadedModel.id == model_id
    held = update(UploadedModel).where(*mine, UploadedModel.state == UploadState.UPLOADING)
    session.execute(held.values(updated_at=transitions.now()))  # locks the row until the commit
    check_part(session, tenant_id, model_id, path, offset, size_bytes)
    session.add(ModelPart(model_id=model_id, path=path, offset=offset, sha256=sha256, size_bytes=size_bytes))
    session.flush()
    _close_if_whole(session, get(session, tenant_id, model_id))
    return progress_of(session, tenant_id, model_id, path)


def parts(session: Session, model_id: str) -> Mapping[str, Sequence[ModelPart]]:
    """By file, each in the order of its bytes."""
    found: dict[str, list[ModelPart]] = {}
    query = select(ModelPart).where(ModelPart.model_id == model_id).order_by(ModelPart.path, ModelPart.offset)
    for part in session.scalars(query):
        found.setdefault(part.path, []).append(part)
    return found


def remove(session: Session, tenant_id: str, model_id: str) -> None:
    """Raises: ModelNotFound. InUse: a job that has not ended reads it."""
    mine = is_owned(UploadedModel, tenant_id), UploadedModel.id == model_id
    locked = update(UploadedModel).where(*mine).values(updated_at=UploadedModel.updated_at).returning(UploadedModel.id)
    if session.scalar(locked) is None:
        raise ModelNotFound(model_id)
    check_unused(session, model_id, f"model {model_id}")
    session.execute(delete(UploadedModel).where(*mine))


def _received(session: Session, model_id: str) -> dict[str, int]:
    query = select(ModelPart.path, func.sum(ModelPart.size_bytes)).where(ModelPart.model_id == model_id)
    return {path: int(size) for path, size in session.execute(query.group_by(ModelPart.path))}


def _take_over(session: Session, tenant_id: str, model_id: str) -> None:
    """Give the model the parts of files that the tenant has brought, and that were verified, before."""
    files = session.scalars(select(ModelFile).where(ModelFile.model_id == model_id)).all()
    same = {file.path: found for file in files if (found := _brought_before(session, tenant_id, file))}
    for donor in sorted({found.model_id for found in same.values()}):  # locked, lest it be removed meanwhile
        held = update(UploadedModel).where(is_owned(UploadedModel, tenant_id), UploadedModel.id == donor)
        session.execute(held.values(updated_at=UploadedModel.updated_at))
    for file in files:
        if file.path not in same:
            continue
        taken = parts(session, same[file.path].model_id).get(same[file.path].path, ())
        for part in taken:
            session.add(
                ModelPart(
                    model_id=model_id, path=file.path, offset=part.offset, sha256=part.sha256, size_bytes=part.size_bytes
                )
            )
        file.is_verified = bool(taken)  # none: it was removed a moment ago
    session.flush()


def _brought_before(session: Session, tenant_id: str, file: ModelFile) -> ModelFile | None:
    query = (
        select(ModelFile)
        .join(UploadedModel, UploadedModel.id == ModelFile.model_id)
        .where(
            is_owned(UploadedModel, tenant_id),
            ModelFile.promised_sha256 == file.promised_sha256,
            ModelFile.size_bytes == file.size_bytes,
            ModelFile.is_verified,
        )
    )
    return session.scalars(query.order_by(ModelFile.model_id, ModelFile.path).limit(1)).one_or_none()


def _close_if_whole(session: Session, model: UploadedModel) -> None:
    received = sum(_received(session, model.id).values())
    if received == model.size_bytes and model.state == UploadState.UPLOADING:
        model.state = UploadState.CHECKING
        session.flush()
