"""The housekeeping of uploads: models whose last byte has come are looked at, those that nobody goes on with are removed.

A request is no place for it: hashing tens of gigabytes takes minutes. Two processes that look at the same model come to the
same answer, so they need no lock.
"""

import json
import logging
import tempfile
import threading
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from compression.errors import CompressionError, UnsupportedModel
from compression.families import read_architecture
from compression.models.headers import TensorInfo, read_folder
from compression.models.untrusted import CONFIG, check_model_path, read_object
from jobs import transitions
from jobs.database import Sessions
from jobs.errors import ArtifactCorrupt
from jobs.settings import Settings
from jobs.store.artifacts import ArtifactStore
from jobs.store.stored_parts import beginning, digest, stream_parts
from jobs.uploads import model_uploads
from jobs.uploads.model_manifest import is_weights
from jobs.uploads.model_uploads import UploadState
from jobs.uploads.tables import ModelFile, ModelPart, UploadedModel

MAX_HEADER_BYTES = 16 * 1024 * 1024  # of one file; 100,000 tensors need some 12 MB

log = logging.getLogger(__name__)

Parts = Mapping[str, Sequence[ModelPart]]


class Stopped(Exception):
    """The process must go; the model is looked at again by the next one."""


def tend_uploads(sessions: Sessions, store: ArtifactStore, settings: Settings, stop: threading.Event) -> None:
    """Judge every model that is complete, one after the other, and remove what expired.

    Raises: whatever kept one of them from being judged, after all others had their turn.
    """
    with sessions() as session:
        complete = session.scalars(
            select(UploadedModel.id).where(UploadedModel.state == UploadState.CHECKING).order_by(UploadedModel.id)
        ).all()
    failure: Exception | None = None
    for model_id in complete:
        try:
            judge(sessions, store, model_id, stop)
        except Stopped:
            return
        except Exception as error:  # a store that is down: this model waits, the next one may lie elsewhere
            failure = error
    with sessions.begin() as session:
        expire(session, settings.upload_expires_s)
    if failure is not None:
        raise failure


def judge(sessions: Sessions, store: ArtifactStore, model_id: str, stop: threading.Event) -> None:
    """Verify a complete model's hashes, its config and its headers: it is ready afterwards, or refused and says why."""
    with sessions() as session:
        files, parts = (
            [entry.file for entry in model_uploads.progress(session, model_id)],
            model_uploads.parts(session, model_id),
        )
    try:
        _verify_hashes(sessions, store, files, parts, stop)
        config, tensors = _read(store, files, parts)
    except (CompressionError, ArtifactCorrupt) as error:
        _close(sessions, model_id, state=UploadState.REFUSED, problem=_storable(str(error)))
        return
    _close(sessions, model_id, state=UploadState.READY, config=config, tensors=to_json(tensors))


def expire(session: Session, expires_s: float) -> int:
    """Remove uploads that are not whole, and models that were refused, once nothing came for so long. Returns: how many."""
    then = transitions.now() - timedelta(seconds=expires_s)
    left = UploadedModel.state.in_([UploadState.UPLOADING, UploadState.REFUSED]), UploadedModel.updated_at < then
    return len(session.scalars(delete(UploadedModel).where(*left).returning(UploadedModel.id)).all())


def to_json(tensors: Mapping[str, TensorInfo]) -> dict[str, Any]:
    return {name: [info.file.name, info.dtype, list(info.shape), info.size_bytes] for name, info in tensors.items()}


def from_json(tensors: Mapping[str, Any]) -> dict[str, TensorInfo]:
    return {
        name: TensorInfo(name, Path(file), dtype, tuple(shape), size) for name, (file, dtype, shape, size) in tensors.items()
    }


def _verify_hashes(
    sessions: Sessions, store: ArtifactStore, files: Sequence[ModelFile], parts: Parts, stop: threading.Event
) -> None:
    """Raises: UnsupportedModel: a file is not the one that was promised. Stopped."""

    def check_stop() -> None:
        if stop.is_set():
            raise Stopped

    for file in files:
        if file.is_verified:
            continue
        found = digest(store, parts[file.path], check_stop)
        if found != file.promised_sha256:
            raise UnsupportedModel(f"{file.path} has the SHA-256 {found}, the manifest promised {file.promised_sha256}")
        mine = ModelFile.model_id == file.model_id, ModelFile.path == file.path
        with sessions.begin() as session:
            session.execute(update(ModelFile).where(*mine).values(is_verified=True))


def _read(store: ArtifactStore, files: Sequence[ModelFile], parts: Parts) -> tuple[dict[str, Any], dict[str, TensorInfo]]:
    """Config and tensors, behind the gate that any folder passes: of weights, a file with their header and otherwise holes.

    Raises: UnsupportedModel.
    """
    with tempfile.TemporaryDirectory(prefix="scalpel-model-") as scratch:
        folder = Path(scratch)
        for file in files:
            (_write_header if is_weights(file.path) else _write)(store, file, parts[file.path], folder / file.path)
        check_model_path(folder)
        config = read_object(folder / CONFIG)
        read_architecture(config)
        tensors = read_folder(folder)
    _check_storable(config, to_json(tensors))
    unread = {file.path for file in files if is_weights(file.path)} - {info.file.name for info in tensors.values()}
    if unread:
        raise UnsupportedModel(f"{min(unread)} is not named by the index, or holds no tensors")
    return config, tensors


def _check_storable(*objects: object) -> None:
    """Raises: UnsupportedModel: Python reads as JSON what databases refuse."""
    try:
        json.dumps(objects, allow_nan=False, ensure_ascii=False).encode()
    except ValueError as error:
        raise UnsupportedModel(f"config or headers hold what is no JSON: {error}") from error


def _storable(words: str) -> str:
    """They may repeat names from the files, and those hold whatever their authors liked."""
    return words.replace("\0", "\\0").encode("utf-8", "backslashreplace").decode()


def _write(store: ArtifactStore, _: ModelFile, parts: Sequence[ModelPart], path: Path) -> None:
    with path.open("wb") as target:
        target.writelines(stream_parts(store, parts))


def _write_header(store: ArtifactStore, file: ModelFile, parts: Sequence[ModelPart], path: Path) -> None:
    length = int.from_bytes(beginning(store, parts, 8), "little")
    if length > MAX_HEADER_BYTES:
        raise UnsupportedModel(f"{file.path}: a header of {length} bytes; this server reads at most {MAX_HEADER_BYTES}")
    with path.open("wb") as target:
        target.write(beginning(store, parts, 8 + length))
        target.truncate(file.size_bytes)


def _close(sessions: Sessions, model_id: str, **values: object) -> None:
    """Unless somebody else has judged it, or its owner has removed it."""
    judged = update(UploadedModel).where(UploadedModel.id == model_id, UploadedModel.state == UploadState.CHECKING)
    with sessions.begin() as session:
        session.execute(judged.values(updated_at=transitions.now(), **values))
    log.info("uploaded model %s is %s", model_id, values["state"])
