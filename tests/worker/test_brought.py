"""A job on an uploaded model with an uploaded data set: over real HTTP, through the supervisor, in the real runner."""

import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from api.app import create_app
from client import Dataset, Model, Scalpel
from compression.report import Report
from jobs import repository
from jobs.access.keys import local_key
from jobs.access.tables import LOCAL_TENANT_ID as OURS
from jobs.database import Sessions
from jobs.housekeeping.chores import Chore, run_chores
from jobs.settings import Settings
from jobs.states import State
from jobs.store.artifacts import artifact_store
from jobs.uploads.model_checks import tend_uploads
from tests import tiny_models
from tests.api.conftest import NO_BROKER
from tests.api.serving import served
from tests.worker.conftest import events, read_job
from worker.attempt import Host
from worker.chat_texts import write_chat_texts
from worker.supervisor import Supervisor


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"broker_url": NO_BROKER})


@pytest.fixture
def scalpel(settings: Settings, sessions: Sessions) -> Iterator[Scalpel]:
    with sessions.begin() as session:
        key = local_key(session, settings.local_key_file)
    stop = threading.Event()
    chore = Chore("uploads", lambda: tend_uploads(sessions, artifact_store(settings), settings, stop), 0.05)
    housekeeping = threading.Thread(target=run_chores, args=([chore], stop))
    housekeeping.start()
    try:
        with served(create_app(settings)) as service, Scalpel(service.url, api_key=key) as client:
            yield client
    finally:
        stop.set()
        housekeeping.join()


@pytest.fixture
def brought(scalpel: Scalpel, tmp_path: Path) -> Model:
    return scalpel.upload_model(tiny_models.save(tmp_path / "mine"))


@pytest.fixture
def dataset(scalpel: Scalpel, tmp_path: Path) -> Dataset:
    path = tmp_path / "words.txt"
    path.write_text(tiny_models.text())
    return scalpel.upload_dataset(path)


def ask(scalpel: Scalpel, brought: Model, dataset: Dataset) -> str:
    return scalpel.submit(
        brought.name,
        {"sparsity": 0.5, "method": "magnitude"},
        calibration={"source": dataset.source, "nsamples": 4, "seqlen": 32},
        evaluation={"sources": [dataset.source], "windows": 2, "seqlen": 32},
        acceptance={"max_perplexity_ratio": None, "max_kl": None, "max_kl_p99": None, "min_top1_agreement": None},
    ).id


def work_off(settings: Settings, sessions: Sessions) -> None:
    Supervisor(Host(settings, sessions, artifact_store(settings), os.environ, threading.Event())).work_off()


def report_of(settings: Settings, sessions: Sessions, job_id: str) -> Report:
    job = read_job(sessions, job_id)
    assert job.state is State.SUCCEEDED, job.error
    with sessions() as session:
        found = repository.report(session, OURS, job_id)
    return Report.model_validate_json(b"".join(artifact_store(settings).stream(found.sha256)))


def notes(sessions: Sessions, job_id: str) -> list[str]:
    return [event.data["message"] for event in events(sessions, job_id) if event.type == "note"]


def test_uploaded_model_is_compressed_on_an_uploaded_text_and_the_report_names_both(
    settings: Settings, sessions: Sessions, scalpel: Scalpel, brought: Model, dataset: Dataset, tmp_path: Path
) -> None:
    job_id = ask(scalpel, brought, dataset)
    work_off(settings, sessions)
    report = report_of(settings, sessions, job_id)
    assert (report.model.source, report.model.revision) == (brought.name, brought.digest)
    assert report.calibration_text is not None and report.calibration_text.source == dataset.source
    assert report.provenance["datasets"] == [{"id": dataset.id, "name": "words.txt", "sha256": dataset.sha256}]
    assert report.provenance["uploads"] == [{"id": brought.id, "name": "mine", "digest": brought.digest}]
    first = notes(sessions, job_id)
    assert [note for note in first if "fetching the" in note] == [
        f"fetching the uploaded model mine ({(brought.size_bytes or 0) / 1e6:.1f} MB)",
        f"fetching the data set words.txt ({dataset.size_bytes / 1e6:.1f} MB)",
    ]
    cached = settings.cache_dir / "uploads" / str(brought.digest)
    for path in (tmp_path / "mine").iterdir():
        assert (cached / path.name).read_bytes() == path.read_bytes()

    export = scalpel.export(job_id, {"format": "dense"}).id
    work_off(settings, sessions)
    assert report_of(settings, sessions, export).model.revision == brought.digest
    assert not [note for note in notes(sessions, export) if "fetching the" in note], "the cache has it"


def test_bytes_that_were_damaged_in_the_store_end_the_job_by_name(
    settings: Settings, sessions: Sessions, scalpel: Scalpel, brought: Model, dataset: Dataset
) -> None:
    job_id = ask(scalpel, brought, dataset)
    stored = settings.data_dir / "artifacts" / "sha256" / dataset.sha256[:2] / dataset.sha256
    stored.write_bytes(stored.read_bytes()[:-1] + b"!")
    work_off(settings, sessions)
    job = read_job(sessions, job_id)
    assert job.state is State.FAILED
    assert job.error is not None and job.error["type"] == "source-error"
    assert job.error["detail"] == f"{dataset.source}: its stored bytes are damaged; upload it again"


CHATML = (
    "{{ bos_token }}{% for message in messages %}"
    "<{{ message.role }}>{{ message.content | trim }}</{{ message.role }}>"
    "{% endfor %}"
)
CONVERSATIONS = [
    [{"role": "user", "content": " How are you? "}, {"role": "assistant", "content": "Fine."}],
    [{"role": "user", "content": "Grüße"}],
]


@pytest.mark.parametrize("place", ["tokenizer_config.json", "named", "chat_template.jinja", "chat_template.json"])
def test_conversations_are_rendered_by_the_models_own_template(tmp_path: Path, place: str) -> None:
    config: dict[str, object] = {"bos_token": {"content": "<s>"}, "eos_token": "</s>"}
    if place == "chat_template.jinja":
        (tmp_path / place).write_text(CHATML)
    elif place == "chat_template.json":
        (tmp_path / place).write_text(json.dumps({"chat_template": CHATML}))
    else:
        several = [{"name": "tool_use", "template": "no"}, {"name": "default", "template": CHATML}]
        config["chat_template"] = several if place == "named" else CHATML
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    lines = tmp_path / "chat.jsonl"
    lines.write_text("\n\n".join(json.dumps({"messages": messages}) for messages in CONVERSATIONS))
    write_chat_texts("dataset:X", lines, tmp_path, tmp_path / "made" / "texts.jsonl", lambda: None)
    made = [json.loads(line)["text"] for line in (tmp_path / "made" / "texts.jsonl").read_text().splitlines()]
    assert made == ["<s><user>How are you?</user><assistant>Fine.</assistant>", "<s><user>Grüße</user>"]


def test_job_on_conversations_reads_them_as_rendered_and_a_model_without_template_cannot(
    settings: Settings, sessions: Sessions, scalpel: Scalpel, brought: Model, tmp_path: Path
) -> None:
    path = tmp_path / "chat.jsonl"
    words = tiny_models.text(400)
    path.write_text("\n".join(json.dumps({"messages": [{"role": "user", "content": words}]}) for _ in range(4)))
    chat = scalpel.upload_dataset(path)
    assert (chat.kind, chat.characters) == ("chat", 1600)
    without = ask(scalpel, brought, chat)
    work_off(settings, sessions)
    job = read_job(sessions, without)
    assert job.error is not None and "has no chat template" in job.error["detail"]

    (tmp_path / "mine" / "chat_template.jinja").write_text(CHATML)
    job_id = ask(scalpel, scalpel.upload_model(tmp_path / "mine", "with template"), chat)
    work_off(settings, sessions)
    report = report_of(settings, sessions, job_id)
    (result,) = report.results
    rendered = 4 * len(f"<user>{words.strip()}</user>") + 3 * len("\n\n")
    assert result.text.windows_in_text == rendered // 32
