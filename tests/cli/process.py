"""`scalpel serve` as a process of its own."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[2]
STOP_TIMEOUT_S = 40


class Serving:
    """A running `scalpel serve`."""

    def __init__(self, process: subprocess.Popen[str], data_dir: Path) -> None:
        self.process = process
        self.data_dir = data_dir
        self.url = self._wait_until_ready()

    def _wait_until_ready(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith("Scalpel is ready at http://127.0.0.1:"), line
        return line.split()[4]

    @property
    def api_key(self) -> str:
        return (self.data_dir / "local.key").read_text().strip()

    def children(self) -> list[psutil.Process]:
        return list(psutil.Process(self.process.pid).children(recursive=True))

    def worker(self) -> psutil.Process:
        return next(child for child in psutil.Process(self.process.pid).children() if child.name() != "valkey-server")

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(STOP_TIMEOUT_S)


@contextmanager
def hearing_hangups() -> Iterator[None]:
    """What is started inside hears SIGHUP, also where these tests run under nohup, which has it ignored."""
    before = signal.signal(signal.SIGHUP, lambda *_: None)  # a handler of ours is no handler of a new program's
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)


@contextmanager
def serving(data_dir: Path, *flags: str, cwd: Path = ROOT, environment: Mapping[str, str] | None = None) -> Iterator[Serving]:
    """Start it; whatever the test does, nothing of it is left at the end."""
    command = [sys.executable, "-m", "cli", "serve", "--port", "0", "--data-dir", str(data_dir), *flags]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SCALPEL_")}
    with (
        hearing_hangups(),
        data_dir.with_suffix(".log").open("w") as log,
        subprocess.Popen(
            command, env={**clean, **(environment or {})}, cwd=cwd, text=True, stdout=subprocess.PIPE, stderr=log
        ) as process,
    ):
        try:
            yield Serving(process, data_dir)
        finally:
            everybody = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
            process.kill()
            for child in everybody:
                child.kill()
