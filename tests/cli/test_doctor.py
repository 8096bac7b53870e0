import json
import socket

import pytest

from cli import checkup
from cli.exits import Exit
from tests.api.serving import Served
from tests.cli.conftest import Scalpel


def states(scalpel: Scalpel) -> dict[str, str]:
    return {finding["what"]: finding["state"] for finding in json.loads(scalpel("doctor", "--json").out)}


def test_installation_without_a_service_is_well(scalpel: Scalpel) -> None:
    ran = scalpel("doctor")
    assert ran.code == Exit.OK, ran.out
    assert "none runs here" in ran.out and "0 fail" in ran.out
    found = states(scalpel)
    assert {found[part] for part in ("python", "library", "service", "settings", "queue")} <= {"ok", "warn"}
    assert found["python"] == found["library"] == found["queue"] == "ok"


def test_service_that_is_not_ready_and_one_that_is_not_there_are_failures(scalpel: Scalpel, service: Served) -> None:
    ran = scalpel("doctor")  # the broker of these tests is nowhere
    assert (ran.code, "is not ready" in ran.out) == (Exit.FAILED, True)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        ran = scalpel("doctor", "--url", f"http://127.0.0.1:{unused.getsockname()[1]}")
    assert (ran.code, "nothing answers" in ran.out) == (Exit.FAILED, True)


def test_what_is_missing_comes_with_its_cure(scalpel: Scalpel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkup, "PARTS", {"library": ("no-such-package",)})
    monkeypatch.setattr(checkup, "PYTHON", ((3, 11), (3, 11)))
    monkeypatch.setattr(checkup, "LEAST_DISK", 1 << 60)
    monkeypatch.setattr(checkup, "WANTED_DISK", 1 << 60)
    monkeypatch.setenv("SCALPEL_BROKER_URL", "redis://:secret@127.0.0.1:1/0")
    monkeypatch.setenv("SCALPEL_LEASE_S", "soon")
    ran = scalpel("doctor")
    assert ran.code == Exit.FAILED
    lines = {line.split()[1]: line for line in ran.out.splitlines()[:-1]}
    assert lines["library"].startswith("warn") and "pip install" in lines["library"]
    for what, cure in {
        "python": "install Python",
        "disk": "make room",
        "queue": "SCALPEL_BROKER_URL",
        "settings": "LEASE_S",
    }.items():
        assert lines[what].startswith("fail") and cure in lines[what]
    assert "secret" not in ran.out
