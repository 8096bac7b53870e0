"""The service as plain processes on real servers; a process that dies is started again, as an orchestrator does.

Each worker has work folders of its own, as if on a host of its own: only the database and the store are theirs in common.
"""

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
import psutil
from pydantic import SecretStr

from client import Scalpel
from jobs import database
from jobs.settings import PREFIX, Settings
from tests.broker import Broker
from tests.waiting import wait_until

ROOT = Path(__file__).parents[1]
RESTART_DELAY_S = 0.2
START_TIMEOUT_S = 90.0  # interpreters start slowly on a machine that others use as well
STOP_TIMEOUT_S = 60.0
# Short, so that a fault is over in seconds; kills cost attempts, and nothing here is about how many there may be.
QUICK: Mapping[str, Any] = {
    "device": "cpu",
    "threads": 1,
    "max_attempts": 1000,
    "lease_s": 6.0,
    "heartbeat_s": 0.5,
    "grace_s": 2.0,
    "retry_delay_s": 0.5,
    "relay_s": 0.2,
    "sweep_s": 1.0,
    "ring_again_s": 3.0,
    "reads_per_minute": 0,
    "writes_per_minute": 0,
}


class Kept:
    """A process of the service. Args: folder: that it runs in, and that its log is written to."""

    def __init__(self, name: str, settings: Settings, folder: Path) -> None:
        self.name, self.settings, self.folder, self.starts = name, settings, folder, 0
        self.process = self.start()

    def start(self) -> "subprocess.Popen[bytes]":
        self.starts += 1
        command = [sys.executable, "-m", "cli", self.name.partition("-")[0]]
        with (self.folder / f"{self.name}.log").open("ab") as log:
            self.process = subprocess.Popen(
                command,
                env=environment_of(self.settings),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        return self.process

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def runners(self) -> list[psutil.Process]:
        """Of a worker: the children that compute."""
        found = []
        with suppress(psutil.NoSuchProcess):
            for child in psutil.Process(self.process.pid).children():
                with suppress(psutil.NoSuchProcess):
                    if "worker.runner" in child.cmdline():
                        found.append(child)
        return found


class Stack:
    """Broker, interface, housekeeper and workers on the given database and store, from `with` to its end.

    Args:
        settings: that name the database and the store.
        models: the folder of models that jobs may name.
        maintains: whether there is a housekeeper; without one nothing is rung for.
        others: fields that differ from `QUICK`.
    """

    def __init__(
        self, folder: Path, settings: Settings, models: Path, workers: int = 1, maintains: bool = True, **others: Any
    ) -> None:
        self.folder = folder
        self.parts = ("api", *["maintain"][: int(maintains)], *(f"worker-{number}" for number in range(workers)))
        (folder / "broker").mkdir(parents=True)
        self.broker = Broker(folder / "broker")
        port = _free_port()
        own = {"data_dir": folder / "data", "broker_url": self.broker.url, "port": port, "model_roots": (models,)}
        own |= {name: getattr(settings, name) for name in ("database_url", "artifact_url")}  # also where they are defaults
        self.settings = settings.model_copy(update={**QUICK, **own, **others})
        database.migrate(self.settings)
        self.url = f"http://127.0.0.1:{port}"
        self._engine = database.engine(self.settings)
        self.sessions = database.sessions(self._engine)
        self.kept: dict[str, Kept] = {}
        self._stopping = threading.Event()
        self.is_broker_away = False  # set while the broker is not to be started again
        self._keeper = threading.Thread(target=self._keep, name="keeper")

    def __enter__(self) -> Self:
        try:
            for name in self.parts:
                self.start(name)
            wait_until(self.answers, START_TIMEOUT_S)
            self._keeper.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def start(self, name: str) -> Kept:
        """Args: name: of the command, and what tells it from others of its kind, such as `worker-1`."""
        home = self.folder / name
        home.mkdir(exist_ok=True)
        is_worker = name.startswith("worker")
        own = {"scratch_dir": home / "scratch", "cache_dir": home / "cache"} if is_worker else {}
        self.kept[name] = Kept(name, self.settings.model_copy(update=own), home)
        return self.kept[name]

    def answers(self) -> bool:
        with suppress(httpx.TransportError):
            return httpx.get(f"{self.url}/readyz", trust_env=False, timeout=5).status_code == 200
        return False

    def client(self) -> Scalpel:
        key = self.settings.local_key_file.read_text().strip()
        return Scalpel(self.url, api_key=key)

    def runners(self) -> list[psutil.Process]:
        return [runner for kept in self.kept.values() if kept.name.startswith("worker") for runner in kept.runners()]

    def scratch(self) -> list[Path]:
        """Work folders of jobs, on every worker."""
        return sorted(self.folder.glob("worker-*/scratch/jobs/*"))

    def stop(self) -> dict[str, int]:
        """SIGTERM to every process of the service. Returns: name -> exit code."""
        self._stopping.set()
        if self._keeper.is_alive():
            self._keeper.join()
        for kept in self.kept.values():
            kept.process.terminate()
        return {name: kept.process.wait(STOP_TIMEOUT_S) for name, kept in self.kept.items()}

    def close(self) -> None:
        self._stopping.set()
        if self._keeper.is_alive():
            self._keeper.join()
        for kept in self.kept.values():
            with suppress(ProcessLookupError):
                os.killpg(kept.process.pid, signal.SIGKILL)
            kept.process.wait()
        self.broker.kill()
        self._engine.dispose()

    def log(self, name: str) -> str:
        return (self.folder / name / f"{name}.log").read_text()

    def is_whole(self) -> bool:
        return all(kept.process.poll() is None for kept in self.kept.values())

    def left_behind(self) -> list[str]:
        """Processes that run in the folders of the service and are none of those that it keeps."""
        ours = {kept.process.pid for kept in self.kept.values() if kept.process.poll() is None} | {self.broker.process.pid}
        return [
            " ".join(process.info["cmdline"] or ())
            for process in psutil.process_iter(["cmdline", "cwd", "status"])
            if process.pid not in ours and Path(process.info["cwd"] or "/").is_relative_to(self.folder)
        ]

    def _keep(self) -> None:
        """Start what has died."""
        while not self._stopping.wait(RESTART_DELAY_S):
            for kept in self.kept.values():
                if kept.process.poll() is not None:
                    kept.start()
            if self.broker.process.poll() is not None and not self.is_broker_away:
                self.broker.start()


def environment_of(settings: Settings) -> dict[str, str]:
    """What a process must be given to have these settings."""
    environment = {name: os.environ[name] for name in ("PATH", "OMP_NUM_THREADS", "OMP_WAIT_POLICY") if name in os.environ}
    for name in settings.model_fields_set:
        match getattr(settings, name):
            case None:
                continue
            case SecretStr() as secret:
                value = secret.get_secret_value()
            case tuple() as several:
                value = (os.pathsep if name == "model_roots" else ",").join(map(str, several))
            case other:
                value = str(other)
        environment[PREFIX + name.upper()] = value
    return {**environment, "PYTHONPATH": str(ROOT)}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def real_servers(folder: Path) -> Iterator[Settings]:
    """Settings that name a new PostgreSQL and a new S3 server, for programs that have no fixtures."""
    from tests.postgresql import own_postgresql
    from tests.s3 import s3_server

    folder.mkdir(parents=True, exist_ok=True)
    with own_postgresql() as postgresql, postgresql.database() as url, s3_server(folder / "s3.log") as s3:
        yield s3.settings(Settings(data_dir=folder / "data", database_url=url))
