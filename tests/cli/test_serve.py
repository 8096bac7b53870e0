"""`scalpel serve` as a user starts it: a process of its own, which starts others and leaves none behind."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import httpx
import psutil
import pytest

from cli.embedded import ValkeyServer
from cli.exits import Exit
from client import Scalpel
from tests.cli.conftest import TEXT_FLAGS
from tests.cli.conftest import Scalpel as Command
from tests.cli.process import ROOT, serving
from tests.cli.test_embedded import wait_until
from tests.jobs.conftest import valkey  # noqa: F401  a fixture

TIMEOUT_S = 60


def refused(*flags: str, environment: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """A start that comes to nothing."""
    return subprocess.run(
        [sys.executable, "-m", "cli", "serve", *flags],
        cwd=ROOT,
        env={**os.environ, **(environment or {})},
        text=True,
        capture_output=True,
        timeout=TIMEOUT_S,
        check=False,
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP], ids=lambda number: number.name)
def test_stop_signal_ends_every_process_and_removes_the_note(tmp_path: Path, number: signal.Signals) -> None:
    with serving(tmp_path / "data") as service:
        children = service.children()
        assert sorted(child.name() for child in children)[-1] == "valkey-server"
        assert len(children) == 2
        note = json.loads((tmp_path / "data" / "server.json").read_text())
        assert note == {"url": service.url, "pid": service.process.pid}
        folder = Path(next(part for child in children for part in child.cmdline() if "unixsocket:" in part)[11:]).parent
        assert folder.exists()
        assert service.stop(number) == Exit.OK
        assert not any(child.is_running() for child in children)
        assert not folder.exists()
        assert not (tmp_path / "data" / "server.json").exists()


def test_everything_is_ready_once_it_says_so(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as service:
        answer = httpx.get(f"{service.url}/readyz", trust_env=False)
        assert answer.json() == {"status": "ready", "checks": {"database": "ok", "broker": "ok", "artifacts": "ok"}}
        service.stop()


def test_open_event_stream_does_not_hold_up_the_stop(tmp_path: Path) -> None:
    with serving(tmp_path / "data", "--no-worker") as service, Scalpel(service.url) as scalpel:
        events = scalpel.events(scalpel.submit("demo:smollm2-135m", {"bits": 4}).id)
        next(events)
        started = time.monotonic()
        assert service.stop() == Exit.OK
        assert time.monotonic() - started < 5
        events.close()  # type: ignore[attr-defined]  # a generator


def test_named_broker_is_used_instead_of_the_bundled_one(tmp_path: Path, valkey: ValkeyServer) -> None:  # noqa: F811
    with serving(tmp_path / "data", "--no-worker", environment={"SCALPEL_BROKER_URL": valkey.url}) as service:
        assert service.children() == []
        service.stop()


def test_folder_of_the_user_that_has_a_worker_of_its_own_does_no_harm(tmp_path: Path) -> None:
    for name in ("worker.py", "jobs.py", "celery.py"):
        (tmp_path / name).write_text("raise SystemExit('this is not ours')")
    with serving(tmp_path / "data", cwd=tmp_path, environment={"PYTHONPATH": str(ROOT), "PYTHONSAFEPATH": "1"}) as service:
        log = tmp_path / "data" / "logs" / "worker.log"
        wait_until(lambda: "ready." in log.read_text())
        service.stop()


def test_second_server_on_the_same_data_is_refused(tmp_path: Path) -> None:
    with serving(tmp_path / "data", "--no-worker") as service:
        second = refused("--port", "0", "--data-dir", str(tmp_path / "data"))
        assert (second.returncode, second.stdout) == (Exit.FAILED, "")
        assert "another `scalpel serve`" in second.stderr
        service.stop()


def test_taken_port_is_told_in_one_line_before_anything_starts(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        ran = refused("--port", str(taken.getsockname()[1]), "--data-dir", str(tmp_path / "data"))
    assert ran.returncode == Exit.FAILED
    (line,) = ran.stderr.splitlines()
    assert "choose another --port" in line


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "::", "example.com"])
def test_address_that_other_machines_reach_is_refused(scalpel: Command, host: str) -> None:
    ran = scalpel("serve", "--host", host)
    assert (ran.code, "only this machine may reach the service" in ran.error_line) == (Exit.REFUSED, True)


def test_setting_that_makes_no_sense_is_named(scalpel: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCALPEL_LEASE_S", "soon")
    ran = scalpel("serve")
    assert (ran.code, "SCALPEL_LEASE_S" in ran.error_line) == (Exit.REFUSED, True)


@pytest.mark.parametrize("url", ["postgresql://127.0.0.1:1/scalpel", "nonsense", "sqlite:////proc/scalpel.db"])
def test_database_that_cannot_be_used_is_told_in_one_line(tmp_path: Path, url: str) -> None:
    ran = refused("--port", "0", "--data-dir", str(tmp_path / "data"), environment={"SCALPEL_DATABASE_URL": url})
    assert (ran.returncode, ran.stdout) == (Exit.FAILED, "")
    (line,) = ran.stderr.splitlines()
    assert "SCALPEL_DATABASE_URL" in line


def test_service_that_does_not_start_leaves_nothing_and_says_so(tmp_path: Path) -> None:
    mark = str(tmp_path)
    environment = {"SCALPEL_ARTIFACT_URL": "gopher://nowhere", "MARK": mark}
    ran = refused("--port", "0", "--data-dir", str(tmp_path / "data"), environment=environment)
    assert (ran.returncode, ran.stdout) == (Exit.FAILED, "")
    assert ran.stderr.splitlines()[-1] == "scalpel: the service did not start; the lines above say why"
    assert [
        process for process in psutil.process_iter(["environ"]) if (process.info["environ"] or {}).get("MARK") == mark
    ] == []


@pytest.mark.slow
def test_tiny_job_goes_the_whole_way(tmp_path: Path, tiny: Path, scalpel: Command) -> None:
    """A tiny model; tests/e2e does it with a real one."""
    text = tiny / "text.txt"
    with serving(tmp_path / "data", environment={"SCALPEL_MODEL_ROOTS": str(tiny)}) as service:
        texts = ["--calibration", text, "--eval", text, *TEXT_FLAGS]
        ran = scalpel("submit", tiny / "model", "--pattern", "2:4", *texts, "--watch", "--url", service.url)
        assert ran.code == Exit.OK, ran.err
        assert "block 3 of 3" in ran.err
        service.stop()
