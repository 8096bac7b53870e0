"""A browser for each file, one embedded service for all tests of the dashboard, and a service whose worker the tests play."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, sync_playwright
from pydantic import SecretStr

from api.app import create_app
from client import Scalpel
from compression.manifest import REPORT_FILE
from compression.report import Report
from jobs import database
from jobs.access.keys import local_key
from jobs.access.secrets import new_master_key
from jobs.database import Sessions
from jobs.settings import Settings
from tests import tiny_models
from tests.api.conftest import NO_BROKER, NO_HUB, UNLIMITED
from tests.api.serving import served
from tests.api.standin import Worker
from tests.cli.process import serving
from tests.dashboard.browsing import CHROMIUM, NO_BROWSER, Visitor, launch, visiting

Visit = Callable[..., Visitor]
TEXT_FIELDS = {"nsamples": 4, "seqlen": 32}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One for each file: while Playwright is open its event loop runs in this thread, where other files' tests run theirs."""
    if CHROMIUM is None:
        pytest.skip(NO_BROWSER)
    with sync_playwright() as playwright:
        opened = launch(playwright)
        yield opened
        opened.close()


@pytest.fixture(scope="session")
def screenshots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every page, to be looked at: `screenshots/` of this run's temporary folder."""
    folder = tmp_path_factory.getbasetemp() / "screenshots"
    folder.mkdir(exist_ok=True)
    return folder


@dataclass(frozen=True)
class Service:
    url: str
    key: str

    def client(self) -> Scalpel:
        return Scalpel(self.url, api_key=self.key)


@dataclass(frozen=True)
class Played(Service):
    """A service whose worker is the test."""

    worker: Worker
    sessions: Sessions
    settings: Settings

    def submit(self, **fields: Any) -> str:
        with self.client() as scalpel:
            return scalpel.submit(**{"model": "demo:smollm2-135m", "recipe": {"pattern": "2:4"}, **fields}).id


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny model `model` and a text `text.txt`."""
    folder = tmp_path_factory.mktemp("tiny")
    tiny_models.save(folder / "model")
    (folder / "text.txt").write_text(tiny_models.text())
    return folder


@pytest.fixture(scope="session")
def embedded(tmp_path_factory: pytest.TempPathFactory, tiny: Path) -> Iterator[Service]:
    """`scalpel serve` with its worker, as a user starts it."""
    environment = {
        "SCALPEL_MODEL_ROOTS": str(tiny), "SCALPEL_DEVICE": "cpu", "SCALPEL_THREADS": "1", "SCALPEL_HEARTBEAT_S": "0.5",
        "SCALPEL_RELAY_S": "0.2", "SCALPEL_READS_PER_MINUTE": "0", "SCALPEL_HUB_ENDPOINT": NO_HUB,
    }  # fmt: skip
    with serving(tmp_path_factory.mktemp("embedded") / "data", environment=environment) as running:
        yield Service(running.url, running.api_key)


@pytest.fixture(scope="session")
def playing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Played]:
    folder = tmp_path_factory.mktemp("played")
    settings = Settings(
        data_dir=folder / "data",
        broker_url=NO_BROKER,
        hub_endpoint=NO_HUB,
        secret_keys=(SecretStr(new_master_key()),),
        publish_buckets=("s3://models/{tenant}/",),
        **UNLIMITED,
    )
    database.migrate(settings)
    engine = database.engine(settings)
    sessions = database.sessions(engine)
    with sessions.begin() as session:
        key = local_key(session, settings.local_key_file)
    with served(create_app(settings)) as running:
        yield Played(running.url, key, Worker(settings, sessions, folder), sessions, settings)
    engine.dispose()


@pytest.fixture
def played(playing: Played) -> Iterator[Played]:
    """The same for one test: what it leaves in the queue would be the next one's to claim."""
    yield playing
    with playing.client() as scalpel:
        for job in scalpel.jobs(state="queued"):
            scalpel.cancel(job.id)


@pytest.fixture
def visit(browser: Browser, screenshots: Path) -> Iterator[Visit]:
    """Opens a window at a service, signed in."""
    with ExitStack() as stack:

        def visit(service: Service, *, signed_in: bool = True, **looks: bool) -> Visitor:
            opened: AbstractContextManager[Visitor] = visiting(browser, service.url, screenshots, **looks)
            visitor = stack.enter_context(opened)
            if signed_in:
                visitor.sign_in(service.key)
            return visitor

        yield visit


@pytest.fixture(scope="session")
def real_files(embedded: Service, tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What the service made of the tiny model, from 2:4."""
    text, folder = str(tiny / "text.txt"), tmp_path_factory.mktemp("artifact")
    with embedded.client() as scalpel:
        job = scalpel.submit(
            str(tiny / "model"),
            {"pattern": "2:4"},
            calibration={"source": text, **TEXT_FIELDS},
            evaluation={"sources": [text], "windows": 4, "seqlen": 32},
        )
        assert list(scalpel.events(job.id))[-1].data["state"] == "succeeded"
        scalpel.download(job.id, folder)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="session")
def report(real_files: dict[str, bytes]) -> Report:
    return Report.model_validate_json(real_files[REPORT_FILE])


Finish = Callable[..., str]


@pytest.fixture(scope="session")
def finish(playing: Played, real_files: dict[str, bytes], report: Report) -> Finish:
    """Has a job succeed with the real files, their report changed in what is named. Gives its id."""

    def finish(recipe: dict[str, Any], **changes: Any) -> str:
        job_id = playing.submit(recipe=recipe)
        assert playing.worker.claim() == job_id
        for layer in report.layers:
            playing.worker.record(job_id, "layer", result=layer.model_dump(mode="json"))
        for block in range(1, report.model.blocks + 1):
            playing.worker.block(job_id, block, report.model.blocks)
        changed = report.model_copy(update=changes).model_dump_json().encode()
        playing.worker.succeed(job_id, {**real_files, REPORT_FILE: changed}, {"solutions": b"kept"})
        return job_id

    return finish


@pytest.fixture(scope="session")
def finished(finish: Finish, report: Report) -> tuple[str, ...]:
    """Three jobs of one model: as it was; smaller and worse; as large as the first and worse. Their ids."""
    (result,) = report.results
    worse = result.model_copy(update={"ratio": result.ratio * 1.2})
    smaller = report.sizes.model_copy(update={"artifact_bytes": report.sizes.artifact_bytes // 2})
    return (
        finish({"pattern": "2:4"}),
        finish({"bits": 4}, results=(worse,), sizes=smaller),
        finish({"sparsity": 0.9}, results=(worse,)),
    )
