"""`scalpel datasets` and `scalpel models`, against a real server."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.exits import Exit
from jobs.database import Sessions
from jobs.housekeeping.chores import Chore, run_chores
from jobs.settings import Settings
from jobs.store.artifacts import artifact_store
from jobs.uploads.model_checks import tend_uploads
from tests import tiny_models
from tests.api.serving import Served
from tests.cli.conftest import Scalpel


@pytest.fixture
def housekeeping(settings: Settings, sessions: Sessions) -> Iterator[None]:
    stop = threading.Event()
    chore = Chore("uploads", lambda: tend_uploads(sessions, artifact_store(settings), settings, stop), 0.05)
    thread = threading.Thread(target=run_chores, args=([chore], stop))
    thread.start()
    yield
    stop.set()
    thread.join()


def test_data_sets_are_added_listed_shown_and_deleted(service: Served, scalpel: Scalpel, tmp_path: Path) -> None:
    assert scalpel("datasets", "list").out == "no data sets\n"
    path = tmp_path / "texts.jsonl"
    path.write_text('{"text": "a b"}\n')
    added = scalpel("datasets", "add", path, "--name", "two words")
    source = added.out.strip()
    assert (added.code, source.partition(":")[0]) == (Exit.OK, "dataset")
    assert "two words" in scalpel("datasets", "list").out
    assert json.loads(scalpel("datasets", "show", source).out)["documents"] == 1
    assert json.loads(scalpel("datasets", "list", "--json").out)[0]["source"] == source
    submitted = scalpel("submit", "demo:smollm2-135m", "--sparsity", 0.5, "--calibration", source, "--eval", "none")
    refused = scalpel("datasets", "delete", source)
    assert refused.code == Exit.REFUSED
    assert submitted.out.strip() in refused.error_line
    assert scalpel("cancel", submitted.out.strip()).code == Exit.OK
    assert scalpel("datasets", "delete", source).code == Exit.OK
    assert scalpel("datasets", "show", source).code == Exit.NOT_FOUND
    path.write_text("{}\n")
    assert "line 1" in scalpel("datasets", "add", path).error_line
    assert scalpel("datasets", "add", tmp_path / "nothing.txt").code == Exit.FAILED


@pytest.mark.usefixtures("housekeeping")
def test_models_are_added_listed_shown_and_deleted(service: Served, scalpel: Scalpel, tmp_path: Path) -> None:
    folder = tiny_models.save(tmp_path / "tiny")
    added = scalpel("models", "add", folder)
    name = added.out.strip()
    assert (added.code, name.partition(":")[0]) == (Exit.OK, "upload")
    listed = scalpel("models", "list").out
    assert name in listed and "demo:smollm2-135m" in listed
    assert json.loads(scalpel("models", "show", name).out)["title"] == "tiny"
    assert scalpel("submit", name, "--sparsity", 0.5, "--seqlen", 32, "--eval", "none").code == Exit.OK
    (folder / "config.json").write_text('{"model_type": "evil", "architectures": ["Evil"]}')
    refused = scalpel("models", "add", folder)
    assert refused.code == Exit.FAILED
    assert "tiny is refused" in refused.err
    assert scalpel("models", "delete", "01M83MEDB5ME2A8FP9H1VA9R8M").code == Exit.NOT_FOUND
