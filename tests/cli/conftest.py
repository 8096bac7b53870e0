"""The command line in this process, against the real application behind a real server, and a real compressed model."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from fastapi import FastAPI

from cli.main import run
from compression.compress import compress
from compression.protocol import Calibration, Evaluation
from tests import tiny_models
from tests.api.conftest import api_key, app, sessions, settings, worker  # noqa: F401  fixtures
from tests.api.serving import Served, served
from tests.compression.conftest import one_thread  # noqa: F401  a fixture

TEXT_FLAGS = ["--nsamples", "4", "--seqlen", "32", "--windows", "2", "--eval-seqlen", "32"]


@dataclass(frozen=True)
class Ran:
    """What one command line gave."""

    code: int
    out: str
    err: str

    @property
    def error_line(self) -> str:
        """What it said went wrong, which is one line."""
        (line,) = self.err.strip().splitlines()
        return line


Scalpel = Callable[..., Ran]


@pytest.fixture
def scalpel(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Scalpel:
    """Runs a command line, as the installed command does, with no settings of the user's own."""
    monkeypatch.delenv("SCALPEL_URL", raising=False)
    monkeypatch.delenv("SCALPEL_API_KEY", raising=False)
    monkeypatch.setenv("SCALPEL_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))

    def scalpel(*arguments: object) -> Ran:
        capsys.readouterr()
        code = run([str(argument) for argument in arguments])
        return Ran(code, *capsys.readouterr())

    return scalpel


@pytest.fixture
def service(app: FastAPI, api_key: str, scalpel: Scalpel, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:  # noqa: F811
    """A running service that the command finds by SCALPEL_URL."""
    with served(app) as running:
        monkeypatch.setenv("SCALPEL_URL", running.url)
        monkeypatch.setenv("SCALPEL_API_KEY", api_key)
        yield running


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny model `model` and a text `text.txt`."""
    folder = tmp_path_factory.mktemp("tiny")
    tiny_models.save(folder / "model")
    (folder / "text.txt").write_text(tiny_models.text())
    return folder


@pytest.fixture(scope="session")
def compressed(tiny: Path, one_thread: None) -> Path:  # noqa: F811
    """The tiny model, compressed to 2:4 by the library."""
    text = str(tiny / "text.txt")
    out = tiny / "compressed"
    compress(
        tiny / "model",
        {"pattern": "2:4", "skip_blocks": [0]},
        out,
        calibration=Calibration(source=text, nsamples=4, seqlen=32),
        evaluation=Evaluation(sources=(text,), windows=2, seqlen=32),
    )
    return out
