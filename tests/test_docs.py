"""Every command and program in README and docs is run against a real embedded service; references are current.

A comment before a block of `console` or `python` says how:

    <!-- run small -->           the demo model is a tiny one of its architecture, and texts and windows are small
    <!-- not run: REASON -->     it is left out, for this reason

Without one it runs as it stands, but for the service's address and data folder. `JOB` is the last job's id that a command
printed, `OTHER` the one before. A block of `sh` is never run, so it must have a reason.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests import tiny_models
from tests.cli.process import ROOT, Serving, serving

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"(?:^<!-- (?P<how>[^\n]*?) -->\n)?^```(?P<language>\w*)\n(?P<text>.*?)^```", re.DOTALL | re.MULTILINE)
RUNS = ("console", "python")
HOLDS_NO_COMMANDS = ("", "json", "sql")
ID = re.compile(r"\b01[0-9A-HJKMNP-TV-Z]{24}\b")
TAKES_SIZES = re.compile(r"\bscalpel (submit|estimate|compress|evaluate|sweep) ")
CALIBRATION_SIZES = "--nsamples 4 --seqlen 32"
EVALUATION_SIZES = "--windows 2 --eval-seqlen 32"
GIVEN_SIZE = re.compile(r" --(nsamples|seqlen|windows|eval-seqlen) \d+")
ASKS_FOR_A_JOB = re.compile(r"\bscalpel (submit|export|retry) |/v1/jobs(/\w+/exports)? .*-d ")
DEFINES = re.compile(r"alias \w+=")  # holds for the rest of the page
BODY = re.compile(r"(?<=-d ')\{.*\}(?=')", re.DOTALL)
SUBMITS = re.compile(r"(\.submit\([^{}()]*\{[^{}]*\})\)")
TIMEOUT_S = 180


@dataclass(frozen=True)
class Block:
    """Args: commands: of Python one, its whole program."""

    how: str
    commands: tuple[str, ...]
    language: str = "console"

    @property
    def is_run(self) -> bool:
        return not self.how.startswith("not run: ")


def blocks(page: Path) -> list[Block]:
    """Those that hold commands."""
    found = []
    for match in BLOCK.finditer(page.read_text(encoding="utf-8")):
        language, text = match["language"], match["text"]
        if language in HOLDS_NO_COMMANDS:
            continue
        commands = tuple(_commands(text)) if language == "console" else (text,)
        found.append(Block(match["how"] or "", commands, language))
    return found


def _commands(text: str) -> Iterator[str]:
    """What follows each prompt, with the lines that it goes on in: after a backslash, or while a quote is open."""
    lines = iter(text.replace("\\\n", " ").splitlines())
    for line in lines:
        if line.startswith("$ "):
            command = _without_comment(line[2:])
            while command.count("'") % 2:
                command += "\n" + next(lines)
            yield command


def _without_comment(command: str) -> str:
    return re.sub(r"\s{2,}# .*", "", command).strip()


RUN = [page for page in PAGES if any(block.is_run for block in blocks(page))]


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
        self._defined: list[str] = []
        self._places = {
            "http://127.0.0.1:8321": service.url,
            "~/.local/share/scalpel": str(service.data_dir),
            "scalpel_...": service.api_key,
        }
        self._small_places = {
            "demo:smollm2-135m": str(tiny / "model"),
            "path/to/the/dense/model": str(tiny / "model"),
            "path/to/model": str(tiny / "model"),
            "/models/": f"{tiny}/",
            '"smollm2-4bit"': f'"{tiny}/smollm2-4bit"',
        }

    def run(self, block: Block) -> None:
        """One shell for a block, as its lines share variables."""
        is_small = block.how == "run small"
        if block.language == "python":
            (program,) = block.commands
            self._run([sys.executable, "-c", self._small_program(program) if is_small else self._placed(program)])
            return
        commands = [self._small(command) if is_small else command for command in block.commands]
        for number, command in enumerate(commands):
            before = [line for line in commands[:number] if re.match(r"\w+=\$\(", line)]  # its variables
            self._run_script("\n".join([*before, self._with_ids(command)]))
            self._defined += [command] if DEFINES.match(command) else []

    def _run_script(self, script: str) -> None:
        script = self._placed("\n".join(["shopt -s expand_aliases", *self._defined, script]))
        said = self._run(["bash", "-euo", "pipefail", "-c", script])
        if ASKS_FOR_A_JOB.search(" ".join(script.split())) and (found := ID.findall(said)):
            self._ids.append(found[0])

    def _run(self, command: list[str]) -> str:
        ran = subprocess.run(
            command, cwd=self._folder, env=self._environment, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
        assert ran.returncode == 0, f"$ {command[-1]}\n{ran.stdout}\n{ran.stderr}"
        return ran.stdout

    def _placed(self, words: str) -> str:
        """With what this service has in other places than a user's."""
        return _replaced(words, self._places)

    def _with_ids(self, command: str) -> str:
        for word, back in (("JOB", 1), ("OTHER", 2)):
            if re.search(rf"\b{word}\b", command):
                assert len(self._ids) >= back, f"{command}: no job was asked for before it"
                command = re.sub(rf"\b{word}\b", self._ids[-back], command)
        return command

    def _small(self, command: str) -> str:
        command = BODY.sub(lambda found: self._small_body(found[0]), command)
        if not TAKES_SIZES.search(command):
            return command
        command = GIVEN_SIZE.sub("", command)
        text = self._tiny / "text.txt"
        words = [EVALUATION_SIZES] if " --eval " in command else [EVALUATION_SIZES, f"--eval {text}"]
        if "scalpel evaluate" not in command:
            words += [CALIBRATION_SIZES] if " --calibration " in command else [CALIBRATION_SIZES, f"--calibration {text}"]
        return f"{_replaced(command, self._small_places)} {' '.join(words)}"

    def _small_body(self, body: str) -> str:
        """A request over HTTP, its texts and sizes replaced."""
        asked = json.loads(_replaced(body, self._small_places))
        return json.dumps({**asked, **self._small_texts(solves=asked.get("task") != "evaluate")})

    def _small_program(self, program: str) -> str:
        """A program whose jobs are small."""
        texts = self._small_texts(solves=True)
        return self._placed(SUBMITS.sub(rf"\1, **{texts!r})", _replaced(program, self._small_places)))

    def _small_texts(self, *, solves: bool) -> dict[str, Any]:
        text = str(self._tiny / "text.txt")
        calibration = {"calibration": {"source": text, "nsamples": 4, "seqlen": 32}} if solves else {}
        return {**calibration, "evaluation": {"sources": [text], "windows": 2, "seqlen": 32}}


def _replaced(words: str, places: Mapping[str, str]) -> str:
    for here, there in places.items():
        words = words.replace(here, there)
    return words


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("small")
    for name in ("model", "smollm2-4bit"):
        tiny_models.save(folder / name, "llama-wide")
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
        if block.is_run:
            shell.run(block)


def test_every_block_has_commands_and_every_mark_is_one_that_is_known() -> None:
    assert len(RUN) >= 6
    for page in PAGES:
        for block in blocks(page):
            assert refusal(block) is None, (page, block)


def refusal(block: Block) -> str | None:
    """What is wrong with how a page marks a block."""
    if not block.commands:
        return "no command begins with a prompt"
    if not block.is_run:
        return None if re.fullmatch(r"not run: \w.{10,}", block.how) else "no reason is given"
    if block.language not in RUNS:
        return f"nobody runs {block.language}: make it one of {RUNS}, or say why not"
    return None if block.how in ("", "run small") else "the mark is unknown"


@pytest.mark.parametrize(
    ("text", "is_refused"),
    [
        ("```sh\nls\n```", True),
        ("```bash\nls\n```", True),
        ("<!-- run small -->\n```sh\nls\n```", True),
        ("<!-- not run: -->\n```sh\nls\n```", True),
        ("<!-- not run: it needs a mainframe -->\n```sh\nls\n```", False),
        ("```console\nls\n```", True),
        ("<!-- run smal -->\n```console\n$ ls\n```", True),
        ("```console\n$ ls\n```", False),
        ("```python\nprint(1)\n```", False),
        ("```\na picture\n```", False),
    ],
)
def test_block_that_would_be_left_out_in_silence_is_refused(tmp_path: Path, text: str, is_refused: bool) -> None:
    (tmp_path / "page.md").write_text(f"words\n\n{text}\n")
    assert any(refusal(block) is not None for block in blocks(tmp_path / "page.md")) == is_refused


def test_commands_are_read_with_their_continuations_and_without_their_comments(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "<!-- run small -->\n```console\n$ a b  # why\n$ c \\\n  d\nwhat it says\n```\n```json\n{}\n```\n"
        "```console\n$ e 'f\n  g'\n$ h\n```\n```python\ni = 1\n\nj = 2\n```\n"
    )
    assert blocks(page) == [
        Block("run small", ("a b", "c    d")),
        Block("", ("e 'f\n  g'", "h")),
        Block("", ("i = 1\n\nj = 2\n",), "python"),
    ]


def test_references_are_current() -> None:
    ran = subprocess.run(
        [sys.executable, "scripts/references.py", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
