"""The shell scripts, run in small trees of their own where the interpreter is a stand-in that writes down what it is asked."""

import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
SCRIPTS = ["scripts/setup.sh", "scripts/test.sh", "scripts/demo.sh", ".ci/run"]
OTHERS = ["scripts/check-formats.sh", "scripts/browser.sh"]
OF_CUDA_BUILDS = re.compile(r"nvidia-.*|cuda-.*|triton")  # torch pins these itself

# Answers `-m pip` and the checks by writing a line and failing on demand; everything else goes to the real interpreter.
INTERPRETER = """#!/usr/bin/env bash
case "$*" in
    "-m pip "* | "-m ruff "* | "-m mypy"* | "-m pytest"*)
        echo "$*" >>calls
        case "$*" in *"${FAILING:-nothing fails}"*) echo "it broke" && exit 1 ;; esac ;;
    "-m cli "*) echo "the port is on strike" && exit 1 ;;
    *) exec REAL "$@" ;;
esac
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A checkout with the scripts, a .venv that holds the stand-in, and nothing else."""
    for name in [*SCRIPTS, "pyproject.toml", "constraints.txt"]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(INTERPRETER.replace("REAL", sys.executable))
    python.chmod(0o755)
    browser = tmp_path / "scripts" / "browser.sh"  # the real one would install something here
    browser.write_text("#!/bin/sh\n")
    browser.chmod(0o755)
    return tmp_path


def run(tree: Path, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(tree / command[0]), *command[1:]], capture_output=True, text=True, check=False, env={**os.environ, **environment}
    )


def calls(tree: Path) -> list[str]:
    """What the stand-in was asked for since the last look."""
    file = tree / "calls"
    said = file.read_text().splitlines() if file.exists() else []
    file.unlink(missing_ok=True)
    return said


@pytest.mark.parametrize("script", [*SCRIPTS, *OTHERS])
def test_script_parses_and_is_executable(script: str) -> None:
    assert os.access(ROOT / script, os.X_OK)
    subprocess.run(["bash", "-n", str(ROOT / script)], check=True)


def test_setup_installs_the_pinned_torch_first_and_everything_under_the_pins(tree: Path) -> None:
    assert run(tree, "scripts/setup.sh", "dev").returncode == 0
    torch, rest = calls(tree)
    assert re.search(r"-c constraints\.txt torch==\d+\.\d+\.\d+$", torch)
    assert rest.endswith("-c constraints.txt -e .[dev]")


@pytest.mark.parametrize(
    ("first", "then", "count"), [("dev", "dev", 0), ("dev", "demo", 0), ("demo", "demo", 0), ("demo", "dev", 2)]
)
def test_second_setup_installs_only_what_the_first_left_out(first: str, then: str, count: int, tree: Path) -> None:
    run(tree, "scripts/setup.sh", first)
    calls(tree)
    assert run(tree, "scripts/setup.sh", then).returncode == 0
    assert len(calls(tree)) == count


@pytest.mark.parametrize("name", ["constraints.txt", "pyproject.toml"])
def test_changed_pins_are_installed(name: str, tree: Path) -> None:
    run(tree, "scripts/setup.sh", "dev")
    calls(tree)
    with (tree / name).open("a") as file:
        file.write("# changed\n")
    run(tree, "scripts/setup.sh", "dev")
    assert len(calls(tree)) == 2


def test_failed_install_is_told_and_tried_again(tree: Path) -> None:
    failed = run(tree, "scripts/setup.sh", "dev", FAILING="torch==")
    assert failed.returncode != 0
    assert "it broke" in failed.stderr
    assert "set-up failed: pip install torch==" in failed.stderr
    calls(tree)
    assert run(tree, "scripts/setup.sh", "dev").returncode == 0
    assert len(calls(tree)) == 2


def test_unfit_interpreter_is_refused_with_the_cure(tree: Path) -> None:
    shutil.rmtree(tree / ".venv")
    old = tree / "python2"
    old.write_text("#!/bin/sh\n[ \"$1\" = --version ] && echo 'Python 3.9.18' && exit\nexit 1\n")
    old.chmod(0o755)
    refused = run(tree, "scripts/setup.sh", "dev", PYTHON=str(old))
    assert refused.returncode != 0
    assert "Python 3.11, 3.12 or 3.13 is needed; found: Python 3.9.18" in refused.stderr
    assert "apt-get install python3" in refused.stderr
    assert not (tree / ".venv").exists()


def test_interpreter_without_venv_is_refused_with_the_cure(tree: Path) -> None:
    shutil.rmtree(tree / ".venv")
    bare = tree / "python3"
    bare.write_text(f'#!/bin/sh\ncase "$2" in *ensurepip*) exit 1 ;; esac\nexec {sys.executable} "$@"\n')
    bare.chmod(0o755)
    refused = run(tree, "scripts/setup.sh", "dev", PYTHON=str(bare))
    assert refused.returncode != 0
    assert "apt-get install python3-venv" in refused.stderr


def test_all_checks_run_and_pytest_gets_the_arguments(tree: Path) -> None:
    passed = run(tree, "scripts/test.sh", "-m", "not slow", "-x")
    assert passed.returncode == 0
    *checks, tests = calls(tree)[2:]
    assert checks == ["-m ruff check .", "-m ruff format --check .", "-m mypy"]
    assert tests == f"-m pytest -n {min(os.cpu_count() or 1, 4)} --dist loadfile --no-loadscope-reorder -m not slow -x"
    assert "all checks and tests passed" in passed.stdout


@pytest.mark.parametrize(
    ("failing", "name"), [("ruff check", "lint"), ("ruff format", "format"), ("mypy", "types"), ("pytest", "tests")]
)
def test_one_failed_check_fails_the_run_by_name_after_all_have_run(failing: str, name: str, tree: Path) -> None:
    failed = run(tree, ".ci/run", FAILING=failing)
    assert failed.returncode == 1
    assert f"FAILED: {name}\n" in failed.stdout
    assert len(calls(tree)) == 6


def test_failed_setup_runs_no_checks(tree: Path) -> None:
    assert run(tree, ".ci/run", FAILING="torch==").returncode == 1
    assert len(calls(tree)) == 1


def test_demo_refuses_what_it_does_not_know(tree: Path) -> None:
    refused = run(tree, "scripts/demo.sh", "--fast")
    assert refused.returncode == 2
    assert "usage: scripts/demo.sh [--full]" in refused.stderr


def test_demo_whose_service_does_not_start_says_so_with_the_end_of_the_log(tree: Path) -> None:
    failed = run(tree, "scripts/demo.sh")
    assert failed.returncode == 1
    assert "demo failed: the service did not start" in failed.stderr
    assert "the port is on strike" in failed.stderr


def test_everything_that_scalpel_needs_is_pinned_to_what_is_tested() -> None:
    pins = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#"))
    needed = {name: version for name, version in installed_for_scalpel().items() if not OF_CUDA_BUILDS.fullmatch(name)}
    assert {name: pins.get(name) for name in needed} == needed


UNTESTED_EXTRAS = {"lm-eval"}  # too heavy to install for every run of the tests; its own tests say that they skip


def installed_for_scalpel() -> dict[str, str]:
    """Versions (without local tags) of all packages that any of our extras but the untested ones leads to, here and now."""
    found: dict[str, str] = {}
    extras = set(distribution("scalpel").metadata.get_all("Provides-Extra") or ()) - UNTESTED_EXTRAS
    todo, seen = [Requirement(f"scalpel[{','.join(sorted(extras))}]")], set()
    while todo:
        requirement = todo.pop()
        name = canonicalize_name(requirement.name)
        if (name, *sorted(requirement.extras)) in seen:
            continue
        seen.add((name, *sorted(requirement.extras)))
        package = distribution(name)
        found[name] = package.version.partition("+")[0]
        wanted = map(Requirement, package.requires or ())
        contexts = ["", *requirement.extras]
        todo += [one for one in wanted if not one.marker or any(one.marker.evaluate({"extra": extra}) for extra in contexts)]
    del found["scalpel"]
    return found
