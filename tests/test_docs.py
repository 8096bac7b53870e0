"""Every command in README and docs is run, in bash, against a real embedded service; references are current.

A comment before a ```console block says how:

    <!-- run small -->           the demo model is a tiny one of its architecture, and texts and windows are small
    <!-- not run: REASON -->     it is left out, for this reason

Without one the commands run as they stand. `JOB` is the last job's id that a command printed, `OTHER` the one before.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import tiny_models
from tests.cli.process import ROOT, Serving, serving

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"(?:<!-- (?P<how>[^\n]*?) -->\n)?```console\n(?P<lines>.*?)```", re.DOTALL)
ID = re.compile(r"\b01[0-9A-HJKMNP-TV-Z]{24}\b")
TAKES_SIZES = re.compile(r"\bscalpel (submit|estimate|compress|evaluate) ")
CALIBRATION_SIZES = "--nsamples 4 --seqlen 32"
EVALUATION_SIZES = "--windows 2 --eval-seqlen 32"
GIVEN_SIZE = re.compile(r" --(nsamples|seqlen|windows|eval-seqlen) \d+")
TIMEOUT_S = 180


@dataclass(frozen=True)
class Block:
    how: str
    commands: tuple[str, ...]


def blocks(page: Path) -> list[Block]:
    found = []
    for match in BLOCK.finditer(page.read_text(encoding="utf-8")):
        lines = match["lines"].replace("\\\n", " ").splitlines()
        commands = tuple(_without_comment(line[2:]) for line in lines if line.startswith("$ "))
        found.append(Block(match["how"] or "", commands))
    return found


def _without_comment(command: str) -> str:
    return re.sub(r"\s{2,}# .*", "", command).strip()


RUN = [page for page in PAGES if any(not block.how.startswith("not run: ") for block in blocks(page))]


class Shell:
    """A user's terminal, with one folder for all of a page."""

    def __init__(self, folder: Path, service: Serving, tiny: Path) -> None:
        self._folder, self._tiny = folder, tiny
        program = folder / "bin" / "scalpel"
        program.parent.mkdir(parents=True)
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m cli "$@"\n')
        program.chmod(0o755)
        clean = {name: value for name, value in os.environ.items() if not name.startswith("SCALPEL_")}
        self._environment = clean | {
            "PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "SCALPEL_DATA_DIR": str(service.data_dir),
            "XDG_CONFIG_HOME": str(folder / "config"),
        }
        self._ids: list[str] = []

    def run(self, block: Block) -> None:
        """One shell for a block, as its lines share variables."""
        commands = [self._small(command) if block.how == "run small" else command for command in block.commands]
        for number, command in enumerate(commands):
            before = [line for line in commands[:number] if re.match(r"\w+=\$\(", line)]  # its variables
            self._run("\n".join([*before, self._with_ids(command)]))

    def _run(self, script: str) -> None:
        command = ["bash", "-euo", "pipefail", "-c", script]
        ran = subprocess.run(
            command, cwd=self._folder, env=self._environment, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
        assert ran.returncode == 0, f"$ {script}\n{ran.stdout}\n{ran.stderr}"
        said = " ".join(script.split())
        if re.search(r"\bscalpel (submit|export|retry) ", said) and (found := ID.findall(ran.stdout)):
            self._ids.append(found[0])

    def _with_ids(self, command: str) -> str:
        for word, back in (("JOB", 1), ("OTHER", 2)):
            if re.search(rf"\b{word}\b", command):
                assert len(self._ids) >= back, f"{command}: no job was asked for before it"
                command = re.sub(rf"\b{word}\b", self._ids[-back], command)
        return command

    def _small(self, command: str) -> str:
        if not TAKES_SIZES.search(command):
            return command
        command = GIVEN_SIZE.sub("", command)
        text = self._tiny / "text.txt"
        words = [EVALUATION_SIZES] if " --eval " in command else [EVALUATION_SIZES, f"--eval {text}"]
        if "scalpel evaluate" not in command:
            words += [CALIBRATION_SIZES] if " --calibration " in command else [CALIBRATION_SIZES, f"--calibration {text}"]
        return f"{command.replace('demo:smollm2-135m', str(self._tiny / 'model'))} {' '.join(words)}"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("small")
    tiny_models.save(folder / "model", "llama-wide")
    (folder / "text.txt").write_text(tiny_models.text())
    return folder


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, tiny: Path) -> Iterator[Serving]:
    data = tmp_path_factory.mktemp("docs") / "data"
    with serving(data, environment={"SCALPEL_MODEL_ROOTS": str(tiny)}) as running:
        yield running
        running.stop()


@pytest.mark.slow
@pytest.mark.parametrize("page", RUN, ids=lambda page: page.name)
def test_commands_of_a_page_do_what_it_says(page: Path, service: Serving, tiny: Path, tmp_path: Path) -> None:
    shell = Shell(tmp_path / "home", service, tiny)
    tiny_models.save(tmp_path / "home" / "my-model")
    for block in blocks(page):
        if not block.how.startswith("not run: "):
            shell.run(block)


def test_every_block_has_commands_and_every_mark_is_one_that_is_known() -> None:
    assert len(RUN) >= 3
    for page in PAGES:
        for block in blocks(page):
            assert block.commands, page
            assert block.how in ("", "run small") or re.fullmatch(r"not run: \w.{10,}", block.how), (page, block)


def test_commands_are_read_with_their_continuations_and_without_their_comments(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("<!-- run small -->\n```console\n$ a b  # why\n$ c \\\n  d\nwhat it says\n```\n```console\n$ e\n```\n")
    assert blocks(page) == [Block("run small", ("a b", "c    d")), Block("", ("e",))]


def test_references_are_current() -> None:
    ran = subprocess.run(
        [sys.executable, "scripts/references.py", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
