"""scripts/check-formats.sh in a tree of its own, where every interpreter is a stand-in."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# Plays .venv and every loader's environment: makes copies of itself, writes down what it is asked, answers as it is told.
INTERPRETER = """#!/usr/bin/env bash
echo "$*" >>calls
case "$*" in *"${FAILING:-nothing fails}"*) echo "it broke" >&2 && exit 1 ;; esac
case "$*" in
    "-m venv --clear "*) mkdir -p "$4/bin" && cp "$0" "$4/bin/python" ;;
    "-c import sysconfig"*) mkdir -p "$(dirname "$0")/../packages" && echo "$(dirname "$0")/../packages" ;;
    *judge.py*) exec REAL "$@" ;;
    *expected.py*) touch "$3" ;;
    *loaders/with_*) printf 'a banner\\n%s\\n' "$ANSWER" ;;
esac
"""
ANSWER = {"loader": "theirs 1.2", "max_difference": 0.02, "mean_difference": 1e-4, "kl": 1e-8, "generated": [5]}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A checkout with the script, what it reads, and an environment that is a stand-in."""
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts")
    (tmp_path / "scripts" / "setup.sh").write_text("#!/bin/sh\n")
    (tmp_path / "docs").mkdir()
    for name in ("README.md", "docs/methods.md", "constraints.txt"):
        (tmp_path / name).write_text("some words\n")
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(INTERPRETER.replace("REAL", sys.executable))
    python.chmod(0o755)
    return tmp_path


def check(tree: Path, *formats: str, answer: dict[str, object] | None = None, failing: str = "") -> tuple[int, list[str]]:
    """Exit status and the lines that were printed."""
    environment = {**os.environ, "ANSWER": json.dumps({**ANSWER, **(answer or {})})}
    if failing:
        environment["FAILING"] = failing
    command = [str(tree / "scripts" / "check-formats.sh"), *formats]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    return done.returncode, (done.stdout + done.stderr).splitlines()


def calls(tree: Path) -> list[str]:
    return (tree / "calls").read_text().splitlines()


def test_every_format_is_written_and_loaded_in_an_environment_of_its_own(tree: Path) -> None:
    status, lines = check(tree)
    assert status == 0
    verdicts = [line.split()[:2] for line in lines if line.startswith(("ok", "FAILED", "not verified"))]
    assert {verdict for verdict, _ in verdicts} == {"ok"}
    assert {name for _, name in verdicts} == {"dense", "compressed-tensors", "gptq", "gguf", "spqr", "sparse-packed"}
    installs = [line for line in calls(tree) if "-m pip install" in line]
    assert len(installs) == 4
    assert all("--no-deps -r scripts/formats/" in line for line in installs)


def test_environments_are_made_once_for_the_same_pins(tree: Path) -> None:
    check(tree, "dense")
    check(tree, "dense")
    assert sum("-m venv" in line for line in calls(tree)) == 1
    with (tree / "scripts" / "formats" / "transformers.txt").open("a") as pins:
        pins.write("# changed\n")
    check(tree, "dense")
    assert sum("-m venv" in line for line in calls(tree)) == 2


def test_an_artifact_is_written_once_for_two_loaders(tree: Path) -> None:
    assert check(tree, "gguf")[0] == 0
    assert sum("-m cli compress" in line for line in calls(tree)) == 2  # 4 and 8 bits
    assert sum("loaders/with_" in line for line in calls(tree)) == 4


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        pytest.param({"kl": 0.2}, "KL 2.0e-01", id="another-model"),
        pytest.param({"kl": float("nan")}, "KL nan", id="nan"),
        pytest.param({"generated": []}, "continues with []", id="silent"),
    ],
)
def test_wrong_logits_fail(answer: dict[str, object], words: str, tree: Path) -> None:
    status, lines = check(tree, "gptq", answer=answer)
    assert status == 1
    failed = [line for line in lines if line.startswith("FAILED")]
    assert len(failed) == 2
    assert all(words in line for line in failed)


@pytest.mark.parametrize(
    ("failing", "words"),
    [
        pytest.param("-m cli compress", "it was not written: it broke", id="compress"),
        pytest.param("expected.py", "it was not written: it broke", id="own-reader"),
        pytest.param("with_gptqmodel.py", "with_gptqmodel.py: it broke", id="loader"),
    ],
)
def test_a_step_that_breaks_fails_with_its_last_words(failing: str, words: str, tree: Path) -> None:
    status, lines = check(tree, "gptq", failing=failing)
    assert status == 1
    assert sum(line.startswith("FAILED") and words in line for line in lines) == 2


@pytest.mark.parametrize("failing", ["-m venv", "-m pip install"])
def test_a_loader_that_cannot_be_installed_is_not_verified_and_never_ok(failing: str, tree: Path) -> None:
    status, lines = check(tree, "gptq", failing=failing)
    assert status == 3
    assert sum(line.startswith("not verified") and "it broke" in line for line in lines) == 2
    assert not any(line.startswith("ok") for line in lines)
    assert not any("-m cli compress" in line for line in calls(tree))
    assert sum("-m venv" in line for line in calls(tree)) == 1


def test_an_environment_that_failed_is_made_again(tree: Path) -> None:
    check(tree, "dense", failing="-m pip install")
    assert check(tree, "dense")[0] == 0


def test_unknown_format_is_refused_with_the_known_ones(tree: Path) -> None:
    status, lines = check(tree, "onnx")
    assert status == 2
    assert "no format onnx; known: compressed-tensors dense gguf gptq sparse-packed spqr" in lines[-1]
