"""A publication: the supervisor itself brings a finished job's files to the hub or a bucket; there is no runner, so that the
token stays here. One file at a time lies on this host. What has arrived is not sent again by the next attempt.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import obstore
from huggingface_hub import CommitOperationAdd, HfApi
from sqlalchemy import select

from jobs.database import Sessions
from jobs.errors import ArtifactCorrupt, SourceError
from jobs.publications import (
    BucketTarget,
    HubTarget,
    PublicationRequest,
    Published,
    bucket_url,
    can_write_to_hub,
    publisher_settings,
)
from jobs.settings import Settings
from jobs.sourcing.fetch import OnNote
from jobs.sourcing.fetch_errors import RetryableFetchError
from jobs.sourcing.hub import hub_client, hub_errors
from jobs.store.artifacts import ArtifactStore, object_store
from jobs.tables import Artifact, Job
from worker.folder import JobFolder
from worker.interruptible import interruptible

Check = Callable[[], None]


@dataclass(frozen=True)
class Publishing:
    """One attempt at a publication."""

    sessions: Sessions
    store: ArtifactStore
    settings: Settings
    job: Job
    folder: JobFolder

    def publish(self, on_note: OnNote, check: Check) -> Published:
        """Args: as `Inputs.fetch`. Raises: SourceError: the target refuses it, or the files are gone. RetryableFetchError."""
        target = PublicationRequest.model_validate(self.job.request).target
        files = self._files()
        if isinstance(target, BucketTarget):
            url, revision = self._to_bucket(target, files, on_note, check), None
        else:
            url, revision = self._to_hub(target, files, on_note, check)
        return Published(url=url, revision=revision, files=len(files), size_bytes=sum(file.size_bytes for file in files))

    def _files(self) -> Sequence[Artifact]:
        with self.sessions() as session:
            query = select(Artifact).where(Artifact.job_id == self.job.parent_id).order_by(Artifact.name)
            files = session.scalars(query).all()
        if not files:
            raise SourceError(f"job {self.job.parent_id}", "its files are gone")
        return files

    def _to_hub(self, target: HubTarget, files: Sequence[Artifact], on_note: OnNote, check: Check) -> tuple[str, str]:
        """Returns: the commit's address, and the commit. Nothing is seen of it before the commit, and then all."""
        with self.sessions() as session:
            settings = publisher_settings(session, self.settings, self.job.tenant_id)
        if not can_write_to_hub(settings):
            raise SourceError(target.hub, "the tenant has no hub token (any more); store one: `PUT /v1/secrets/hub-token`")
        api, branch = hub_client(settings), target.revision or "main"
        with hub_errors(target.hub):
            interruptible(partial(_have_repository, api, target), check)
            operations = []
            for number, file in enumerate(files, 1):
                on_note(f"sending {file.name} ({file.size_bytes / 1e6:.1f} MB), {number} of {len(files)}")
                path = self._fetch(file, check)
                operations.append(interruptible(partial(_sent, api, target.hub, branch, file.name, path), check))
                path.unlink()
            check()  # what is committed cannot be taken back
            words = f"Add what job {self.job.parent_id} made of {self.job.model}"
            made = api.create_commit(target.hub, operations, commit_message=words, revision=branch)
        return made.commit_url, made.oid

    def _to_bucket(self, target: BucketTarget, files: Sequence[Artifact], on_note: OnNote, check: Check) -> str:
        url = bucket_url(self.settings, self.job.tenant_id, target)
        settings = self.settings.model_copy(update={"artifact_url": url})
        for number, file in enumerate(files, 1):
            on_note(f"sending {file.name} ({file.size_bytes / 1e6:.1f} MB), {number} of {len(files)}")
            path = self._fetch(file, check)
            interruptible(partial(_put, settings, file.name, path), check)
            path.unlink()
        return url

    def _fetch(self, file: Artifact, check: Check) -> Path:
        path = self.folder.out / file.name
        try:
            interruptible(partial(self.store.fetch_file, file.sha256, path), check)
        except ArtifactCorrupt as error:
            raise SourceError(f"{file.name} of job {self.job.parent_id}", "its stored bytes are gone or damaged") from error
        return path


def _put(settings: Settings, name: str, path: Path) -> None:
    """Raises: RetryableFetchError: without the bucket's own words, which name hosts."""
    try:
        obstore.put(object_store(settings), name, path)
    except (obstore.exceptions.BaseError, OSError) as error:
        raise RetryableFetchError(settings.artifact_url, f"the bucket did not take {name}") from error


def _have_repository(api: HfApi, target: HubTarget) -> None:
    """Raises: SourceError: everybody can read it, and that was not asked for."""
    api.create_repo(target.hub, private=target.private, exist_ok=True)
    if target.private and not api.repo_info(target.hub).private:
        raise SourceError(target.hub, "the repository is there and everybody can read it; ask with `private: false` if it may")
    if target.revision is not None:
        api.create_branch(target.hub, branch=target.revision, exist_ok=True)


def _sent(api: HfApi, repo_id: str, branch: str, name: str, path: Path) -> CommitOperationAdd:
    """The file as a part of the commit to come: uploaded if it is large, else held until then.

    An open file, and not its path, has the library send it over plain HTTP: that works with every hub, and in this process.
    """
    with path.open("rb") as file:
        operation = CommitOperationAdd(name, file)
        api.preupload_lfs_files(repo_id, [operation], revision=branch)
        if operation.path_or_fileobj is file:  # it was not sent
            operation.path_or_fileobj = path.read_bytes()
    return operation
