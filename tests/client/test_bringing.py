"""Bringing data sets and models through the client, and through connections that break."""

import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from client import ApiError, ModelRefused, Scalpel, bringing
from jobs.database import Sessions
from jobs.housekeeping.chores import Chore, run_chores
from jobs.settings import Settings
from jobs.store.artifacts import artifact_store
from jobs.uploads.model_checks import tend_uploads
from tests import tiny_models
from tests.api.serving import Served
from tests.client.cutting_proxy import cutting


@pytest.fixture(autouse=True)
def housekeeping(settings: Settings, sessions: Sessions) -> Iterator[None]:
    stop = threading.Event()
    tend = partial(tend_uploads, sessions, artifact_store(settings), settings, stop)
    thread = threading.Thread(target=run_chores, args=([Chore("uploads", tend, 0.05)], stop))
    thread.start()
    yield
    stop.set()
    thread.join()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tiny_models.save(tmp_path / "tiny")
    (made / "README.md").write_text("not needed")
    (made / "pytorch_model.bin").write_bytes(b"not wanted")
    return made


def test_data_set_round_trip(scalpel: Scalpel, tmp_path: Path) -> None:
    path = tmp_path / "texts.jsonl"
    path.write_text('{"text": "a"}\n')
    dataset = scalpel.upload_dataset(path)
    assert (dataset.name, dataset.kind, dataset.source) == ("texts.jsonl", "documents", f"dataset:{dataset.id}")
    assert scalpel.upload_dataset(path, "again") == dataset
    (tmp_path / "plain.md").write_text("words\n")
    plain = scalpel.upload_dataset(tmp_path / "plain.md", "words")
    assert [each.id for each in scalpel.datasets()] == [plain.id, dataset.id]
    scalpel.delete_dataset(dataset.id)
    with pytest.raises(ApiError, match="no data set"):
        scalpel.dataset(dataset.id)


def test_model_is_brought_whole_over_connections_that_break(
    service: Served, api_key: str, scalpel: Scalpel, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bringing, "PART_BYTES", 30_000)
    monkeypatch.setattr(bringing, "RECONNECT_DELAYS_S", (0.01,) * 3)
    told: list[int] = []
    with cutting(service.port, 40_000) as (url, cuts), Scalpel(url, api_key=api_key) as through:
        model = through.upload_model(folder, "my tiny", told.append)
    assert len(cuts) >= 2
    assert (model.state, model.title, model.kind) == ("ready", "my tiny", "upload")
    assert {file.path for file in model.files}.isdisjoint({"README.md", "pytorch_model.bin"})
    assert sum(told) == model.size_bytes
    assert model.name in [each.name for each in scalpel.models()]
    told.clear()
    assert scalpel.upload_model(folder, on_bytes=told.append).id == model.id
    assert sum(told) == model.size_bytes
    assert model.id is not None
    scalpel.delete_model(model.id)
    with pytest.raises(ApiError, match="no uploaded model"):
        scalpel.model(model.id)


def test_model_that_is_refused_says_why(scalpel: Scalpel, folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": "evil", "architectures": ["Evil"]}')
    with pytest.raises(ModelRefused, match=r"tiny is refused: .*evil"):
        scalpel.upload_model(folder)
