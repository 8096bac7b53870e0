"""`scalpel serve` as a user starts it: a process of its own, which starts others and leaves none behind."""

import json
import os
import pty
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import httpx
import psutil
import pytest

from cli.embedded import ValkeyServer
from cli.exits import Exit
from cli.stack import worker_environment
from client import Scalpel
from jobs.settings import Settings
from tests.cli.conftest import TEXT_FLAGS
from tests.cli.conftest import Scalpel as Command
from tests.cli.process import ROOT, serving
from tests.jobs.conftest import valkey  # noqa: F401  a fixture
from tests.waiting import wait_until

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


def is_alive(process: psutil.Process) -> bool:
    """An orphan that has ended stays a zombie where nobody collects it."""
    with suppress(psutil.NoSuchProcess):
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    return False


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


@pytest.mark.parametrize(("said", "drain_s"), [({}, "0"), ({"SCALPEL_DRAIN_S": "60"}, "60")], ids=["default", "said"])
def test_ctrl_c_waits_for_no_block_unless_told_to(tmp_path: Path, said: dict[str, str], drain_s: str) -> None:
    assert worker_environment(said, Settings(data_dir=tmp_path))["SCALPEL_DRAIN_S"] == drain_s


def test_secret_can_be_kept_at_once_under_a_key_that_only_this_user_can_read(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as service, Scalpel(service.url, api_key=service.api_key) as scalpel:
        assert scalpel.set_hub_token("hf_" + "x" * 20).is_set
        keys = tmp_path / "data" / "secret.keys"
        assert stat.S_IMODE(keys.stat().st_mode) == 0o600
        assert service.worker().environ()["SCALPEL_SECRET_KEYS"] == keys.read_text().strip()


def test_everything_is_ready_once_it_says_so(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as service:
        answer = httpx.get(f"{service.url}/readyz", trust_env=False)
        assert (answer.json()["status"], set(answer.json()["checks"].values())) == ("ready", {"ok"})

        def told() -> dict[str, object]:
            return dict(httpx.get(f"{service.url}/readyz", trust_env=False).json())

        wait_until(lambda: told()["maintain_age_s"] is not None and told()["workers"] == 1)
        service.stop()


def test_open_event_stream_does_not_hold_up_the_stop(tmp_path: Path) -> None:
    with serving(tmp_path / "data", "--no-worker") as service, Scalpel(service.url, api_key=service.api_key) as scalpel:
        events = scalpel.events(scalpel.submit("demo:smollm2-135m", {"bits": 4}).id)
        next(events)
        started = time.monotonic()
        assert service.stop() == Exit.OK
        assert time.monotonic() - started < 5
        events.close()


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
def test_address_that_other_machines_reach_is_refused_without_authentication(
    scalpel: Command, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    monkeypatch.setenv("SCALPEL_AUTHENTICATION", "off")
    ran = scalpel("serve", "--host", host)
    assert (ran.code, "with authentication off" in ran.error_line) == (Exit.REFUSED, True)


def test_terminal_is_told_a_link_that_signs_one_browser_in(tmp_path: Path) -> None:
    ours, its = pty.openpty()
    command = [sys.executable, "-m", "cli", "serve", "--port", "0", "--no-worker", "--data-dir", str(tmp_path / "data")]
    with subprocess.Popen(command, cwd=ROOT, stdout=its, stderr=subprocess.DEVNULL) as process, os.fdopen(ours) as terminal:
        try:
            ready, link = terminal.readline(), terminal.readline()
            url, _, token = link.split()[3].partition("/sign-in/once#")
            assert url in ready
            with httpx.Client(base_url=url, trust_env=False) as browser:
                csrf = browser.get("/sign-in").text.partition('name="csrf" value="')[2].partition('"')[0]
                found = [browser.post("/sign-in/once", data={"csrf": csrf, "token": word}) for word in ("guessed", token)]
                assert [answer.status_code for answer in found] == [401, 303]
                assert "Overview" in browser.get("/").text
        finally:
            process.terminate()
            process.wait(TIMEOUT_S)
            os.close(its)


def test_log_is_told_no_such_link(tmp_path: Path) -> None:
    with serving(tmp_path / "data", "--no-worker") as service:
        service.stop()
        assert service.process.stdout is not None
        assert "sign-in" not in service.process.stdout.read()


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


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent is gone")
def test_service_that_is_killed_leaves_no_process(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as service:
        log = tmp_path / "data" / "logs" / "worker.log"
        wait_until(lambda: "ready." in log.read_text())
        children = service.children()
        assert len(children) == 2
        service.process.kill()
        service.process.wait()
        try:
            wait_until(
                lambda: not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children), 30
            )
        finally:
            for child in children:
                with suppress(psutil.NoSuchProcess):
                    child.kill()
    with serving(tmp_path / "data", "--no-worker") as service:  # and nothing is in the way of the next one
        service.stop()
