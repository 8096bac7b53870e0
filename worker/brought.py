"""What the job's tenant has brought, from the artifact store to files on this host: data sets and uploaded models.

Files lie in the cache under hashes of their content, so that the same bytes are fetched once. The rows are read again for each
job, and only those of its tenant.
"""

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from compression.models.source import ModelSource
from jobs.database import Sessions
from jobs.errors import ArtifactCorrupt, SourceError
from jobs.request import JobRequest
from jobs.sourcing.sources import UploadedDataset, UploadedModelSource, parse_model_source, parse_text_source
from jobs.store.artifacts import ArtifactStore
from jobs.store.stored_parts import write_whole
from jobs.tables import Dataset, UploadedModel
from jobs.uploads import datasets, model_uploads
from jobs.uploads.errors import DatasetNotFound, ModelNotFound
from jobs.uploads.model_uploads import UploadState
from worker.chat_texts import write_chat_texts
from worker.folder import JobFolder
from worker.interruptible import interruptible

Check = Callable[[], None]
OnNote = Callable[[str], None]


@dataclass(frozen=True)
class Brought:
    """Args: tenant_id: of the job, whose things alone are looked at. folder: the job's own, for what is made for it alone."""

    sessions: Sessions
    store: ArtifactStore
    cache_dir: Path
    tenant_id: str
    folder: JobFolder

    def text(self, dataset_id: str, model: ModelSource, on_note: OnNote, check: Check) -> Path:
        """A file as the library reads it: of conversations, their texts by the model's chat template.

        Raises: SourceError: the data set was deleted, its bytes are damaged, or the model has no chat template.
            InvalidTemplate.
        """
        dataset = self._dataset(dataset_id)
        suffix = ".txt" if dataset.kind == "text" else ".jsonl"
        path = self.cache_dir / "datasets" / dataset.sha256[:2] / f"{dataset.sha256}{suffix}"
        if not path.exists():
            on_note(f"fetching the data set {dataset.name} ({dataset.size_bytes / 1e6:.1f} MB)")
            try:
                interruptible(partial(self.store.fetch_file, dataset.sha256, path), check)
            except ArtifactCorrupt as error:
                raise SourceError(f"dataset:{dataset_id}", "its stored bytes are damaged; upload it again") from error
        if dataset.kind != "chat":
            return path
        target = self.folder.root / "texts" / f"{dataset_id}.jsonl"
        if not target.exists():
            on_note(f"rendering the conversations of the data set {dataset.name}")
            write_chat_texts(f"dataset:{dataset_id}", path, model.path, target, check)
        return target

    def model(self, model_id: str, on_note: OnNote, check: Check) -> ModelSource:
        """Raises: SourceError: the model was deleted, or its bytes are damaged."""
        source = f"upload:{model_id}"
        model = self._model(model_id)
        target = self.cache_dir / "uploads" / model.digest
        if not target.is_dir():
            on_note(f"fetching the uploaded model {model.name} ({model.size_bytes / 1e6:.1f} MB)")
            try:
                self._assemble(model, target, check)
            except ArtifactCorrupt as error:
                raise SourceError(source, "its stored bytes are damaged; upload it again") from error
        return ModelSource(target, source, model.digest)

    def describe(self, request: JobRequest) -> dict[str, Any]:
        """What the report says of it; nothing where the job reads nothing of the kind."""
        texts = (parse_text_source(use.source) for use in request.text_uses)
        sets = [self._dataset(name.dataset_id) for name in texts if isinstance(name, UploadedDataset)]
        sources = filter(None, (request.model, request.reference))
        names = (parse_model_source(source) for source in sources)
        models = [self._model(name.model_id) for name in names if isinstance(name, UploadedModelSource)]
        said = {
            "datasets": [{"id": each.id, "name": each.name, "sha256": each.sha256} for each in sets],
            "uploads": [{"id": each.id, "name": each.name, "digest": each.digest} for each in models],
        }
        return {name: things for name, things in said.items() if things}

    def _dataset(self, dataset_id: str) -> Dataset:
        try:
            with self.sessions() as session:
                return datasets.get(session, self.tenant_id, dataset_id)
        except DatasetNotFound as error:
            raise SourceError(f"dataset:{dataset_id}", "there is no such data set (any more)") from error

    def _model(self, model_id: str) -> UploadedModel:
        source = f"upload:{model_id}"
        try:
            with self.sessions() as session:
                model = model_uploads.get(session, self.tenant_id, model_id)
        except ModelNotFound as error:
            raise SourceError(source, "there is no such uploaded model (any more)") from error
        if model.state != UploadState.READY:
            raise SourceError(source, f"the uploaded model is {model.state}, not ready")
        return model

    def _assemble(self, model: UploadedModel, target: Path, check: Check) -> None:
        """The folder appears whole and verified, or not at all; another attempt on this host may make the same one."""
        with self.sessions() as session:
            files, parts = model_uploads.progress(session, model.id), model_uploads.parts(session, model.id)
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=".fetch-", dir=target.parent))
        try:
            for entry in files:
                path = entry.file.path
                write_whole(self.store, entry.file, parts[path], scratch / path, check)
            scratch.chmod(0o755)
            _publish(scratch, target)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def _publish(scratch: Path, target: Path) -> None:
    try:
        scratch.rename(target)
    except OSError:
        if not target.is_dir():  # not because it is there by now
            raise
