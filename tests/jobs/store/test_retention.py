"""Real rows, real files, whose age is set by their time of change."""

import os
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import obstore
import pytest
from obstore.store import ObjectStore
from sqlalchemy import update

from jobs import attempts, repository
from jobs.access.tables import LOCAL_TENANT_ID as OURS
from jobs.attempts import StoredFile
from jobs.database import Sessions
from jobs.errors import ArtifactNotFound, ArtifactsExpired
from jobs.exports import solutions
from jobs.publications import PublicationRequest, submit_publication
from jobs.settings import Settings
from jobs.states import State
from jobs.store import checkpoints, retention
from jobs.store.artifacts import ArtifactStore, artifact_store
from jobs.tables import Base, Job
from tests.jobs.conftest import Submit

DAY_S = 86_400.0

Put = Callable[..., StoredFile]


@pytest.fixture
def store(settings: Settings) -> ArtifactStore:
    return artifact_store(settings)


@pytest.fixture
def put(store: ArtifactStore, settings: Settings, tmp_path: Path) -> Put:
    """Stores a file of this name, whose content is its name, and lets it be so old."""

    def put(name: str, age_s: float = 3 * DAY_S) -> StoredFile:
        (tmp_path / "file").write_text(name)
        sha256, size_bytes = store.put_file(tmp_path / "file")
        age(settings, sha256, age_s)
        return StoredFile(name, sha256, size_bytes)

    return put


def age(settings: Settings, sha256: str, age_s: float) -> None:
    for path in (settings.data_dir / "artifacts").rglob(f"{sha256}*"):
        then = path.stat().st_mtime - age_s
        os.utime(path, (then, then))


def is_stored(store: ArtifactStore, file: StoredFile) -> bool:
    return any(file.sha256 in page for page in store.stored_before(datetime.now(UTC) + timedelta(days=1)))


def retain(sessions: Sessions, store: ArtifactStore, settings: Settings, **policy: float) -> None:
    retention.retain(sessions, store, settings.model_copy(update=policy), threading.Event())


@pytest.fixture
def finished(sessions: Sessions, submit: Submit, put: Put) -> str:
    """A compression that ended two days ago."""
    job_id = submit().id
    with sessions.begin() as session:
        attempts.claim(session, "worker", 30.0)
        attempts.succeed(session, job_id, 1, [put("report.json"), put("weights")], solutions=[put("block")])
        session.execute(update(Job).where(Job.id == job_id).values(finished_at=datetime.now(UTC) - timedelta(days=2)))
    return job_id


class TestGarbage:
    def test_what_no_row_refers_to_goes_once_it_is_old(
        self, sessions: Sessions, store: ArtifactStore, settings: Settings, put: Put
    ) -> None:
        old, young = put("old"), put("young", age_s=DAY_S / 2)
        retain(sessions, store, settings)
        assert (is_stored(store, old), is_stored(store, young)) == (False, True)
        assert [path for path in (settings.data_dir / "artifacts").rglob(f"{old.sha256}*") if path.is_file()] == []

    def test_what_a_row_refers_to_stays_however_old(
        self, sessions: Sessions, store: ArtifactStore, settings: Settings, finished: str, submit: Submit, put: Put
    ) -> None:
        submit()
        fingerprint, block = put("fingerprint.json"), put("block-00000.safetensors")
        with sessions.begin() as session:
            running = attempts.claim(session, "worker", 30.0)
            assert running is not None
            checkpoints.keep(session, running.id, 1, fingerprint, block)
        retain(sessions, store, settings)
        with sessions() as session:
            files = [StoredFile(file.name, file.sha256, 0) for file in repository.artifacts(session, OURS, finished)]
            files += [StoredFile(file.name, file.sha256, 0) for file in solutions(session, finished)]
        assert all(is_stored(store, file) for file in [*files, fingerprint, block])
        with sessions.begin() as session:
            attempts.cancelled(session, running.id, 1)
        retain(sessions, store, settings)
        assert not is_stored(store, fingerprint) and not is_stored(store, block)

    def test_a_file_that_is_put_again_is_young_again(
        self, sessions: Sessions, store: ArtifactStore, settings: Settings, put: Put
    ) -> None:
        file = put("weights")
        assert put("weights", age_s=0.0) == file
        retain(sessions, store, settings)
        assert is_stored(store, file)

    def test_a_file_put_again_after_it_was_listed_stays(self, store: ArtifactStore, put: Put) -> None:
        file, then = put("weights"), datetime.now(UTC) - timedelta(days=1)
        assert file.sha256 in set().union(*store.stored_before(then))
        put("weights", age_s=0.0)
        assert not store.remove_if_older(file.sha256, then)
        assert is_stored(store, file)

    def test_a_file_that_goes_while_it_is_put_again_is_put_once_more(
        self, store: ArtifactStore, settings: Settings, put: Put, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The collector looked before and removes after the put: the one order in which a file could be lost."""
        file, true_put, count = put("weights"), obstore.put, 0

        def put_while_collecting(at: ObjectStore, key: str, content: bytes | Path) -> object:
            nonlocal count
            count += 1
            done = true_put(at, key, content)
            if count == 2:
                for path in (settings.data_dir / "artifacts").rglob(f"{file.sha256}*"):
                    path.unlink()
            return done

        monkeypatch.setattr(obstore, "put", put_while_collecting)
        assert put("weights", age_s=0.0) == file
        assert count == 4
        assert b"".join(store.stream(file.sha256)) == b"weights"

    def test_digests_without_their_file_go_too(
        self, sessions: Sessions, store: ArtifactStore, settings: Settings, put: Put
    ) -> None:
        file = put("half")
        (found,) = (settings.data_dir / "artifacts").rglob(file.sha256)
        found.unlink()
        retain(sessions, store, settings)
        assert not is_stored(store, file)

    def test_what_is_not_ours_is_left_alone(self, sessions: Sessions, store: ArtifactStore, settings: Settings) -> None:
        foreign = settings.data_dir / "artifacts" / "sha256" / "notes.txt"
        foreign.parent.mkdir(parents=True)
        foreign.write_text("mine")
        os.utime(foreign, (0, 0))
        retain(sessions, store, settings)
        assert foreign.exists()

    def test_a_stop_ends_it_early(self, sessions: Sessions, store: ArtifactStore, put: Put) -> None:
        file, stop = put("old"), threading.Event()
        stop.set()
        assert retention.collect_garbage(sessions, store, datetime.now(UTC), stop) == 0
        assert is_stored(store, file)

    def test_every_name_of_a_stored_file_can_be_looked_up_quickly(self) -> None:
        columns = [table.c["sha256"] for table in Base.metadata.sorted_tables if "sha256" in table.c]
        assert len(columns) >= 3
        for column in columns:
            leading = [next(iter(index.columns)) for index in column.table.indexes] + [*column.table.primary_key][:1]
            assert column.unique or column in leading, f"{column} has no index"


class TestPolicy:
    def test_nothing_expires_unless_the_operator_says_so(
        self, sessions: Sessions, store: ArtifactStore, settings: Settings, finished: str
    ) -> None:
        retain(sessions, store, settings)
        with sessions() as session:
            assert len(repository.artifacts(session, OURS, finished)) == 2 and len(solutions(session, finished)) == 1

    @pytest.mark.parametrize(("days", "count"), [(1.0, 0), (3.0, 1)], ids=["over", "not-yet"])
    def test_solutions_go_when_their_time_is_over(
        self, sessions: Sessions, store: ArtifactStore, settings: Settings, finished: str, days: float, count: int
    ) -> None:
        retain(sessions, store, settings, keep_solutions_days=days)
        with sessions() as session:
            assert len(solutions(session, finished)) == count
            assert (repository.get(session, OURS, finished).solution_bytes is not None) == bool(count)

    @pytest.mark.parametrize("state", [State.QUEUED, State.SUCCEEDED])
    def test_solutions_that_an_export_waits_for_stay(
        self, sessions: Sessions, store: ArtifactStore, settings: Settings, finished: str, state: State
    ) -> None:
        with sessions.begin() as session:
            export = repository.enqueue(
                session,
                tenant_id=OURS,
                task="export",
                parent_id=finished,
                model="m",
                request={},
                recipe={},
                labels={},
                max_attempts=3,
            )
            export.state = state
        retain(sessions, store, settings, keep_solutions_days=1.0)
        with sessions() as session:
            assert bool(solutions(session, finished)) == (state is State.QUEUED)

    @pytest.mark.parametrize("state", [State.QUEUED, State.SUCCEEDED])
    def test_files_that_a_publication_waits_for_stay(
        self, sessions: Sessions, store: ArtifactStore, settings: Settings, finished: str, state: State
    ) -> None:
        with sessions.begin() as session:
            parent = repository.get(session, OURS, finished)
            request = PublicationRequest.model_validate({"target": {"hub": "owner/model"}})
            submit_publication(session, parent, request, 3).state = state
        retain(sessions, store, settings, keep_artifacts_days=1.0)
        with sessions() as session:
            assert (len(repository.artifacts(session, OURS, finished)) > 1) == (state is State.QUEUED)

    def test_files_go_but_the_report_stays_and_asking_for_one_says_why(
        self, sessions: Sessions, store: ArtifactStore, settings: Settings, finished: str
    ) -> None:
        with sessions() as session:
            weights = repository.artifact(session, OURS, finished, "weights")
        retain(sessions, store, settings, keep_artifacts_days=1.0)
        with sessions() as session:
            assert [file.name for file in repository.artifacts(session, OURS, finished)] == ["report.json"]
            assert b"".join(store.stream(repository.report(session, OURS, finished).sha256)) == b"report.json"
            with pytest.raises(ArtifactsExpired, match="were removed on"):
                repository.artifact(session, OURS, finished, "weights")
        assert not is_stored(store, StoredFile("weights", weights.sha256, weights.size_bytes))

    def test_files_that_are_kept_are_merely_not_found_under_another_name(
        self, sessions: Sessions, store: ArtifactStore, settings: Settings, finished: str
    ) -> None:
        retain(sessions, store, settings, keep_artifacts_days=3.0)
        with sessions() as session, pytest.raises(ArtifactNotFound):
            repository.artifact(session, OURS, finished, "other")
