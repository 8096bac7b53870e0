import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from cli.exits import MEANING, CommandError, Exit
from cli.failures import exit_code, line
from cli.main import app
from client import ChecksumMismatch, ServiceUnreachable
from compression import __version__
from compression.errors import CompressionError, InvalidOptions, NumericalError, UnsupportedModel
from jobs.errors import JobsError, SettingsError, SourceError
from tests.cli.conftest import Scalpel

COMMANDS = (
    "serve",
    "submit",
    "watch",
    "jobs",
    "report",
    "download",
    "show",
    "compare",
    "retry",
    "doctor",
    "cancel",
    "delete",
    "methods",
    "compress",
    "migrate",
    "api",
    "worker",
)


@pytest.mark.parametrize(
    "command", [[], *([command] for command in COMMANDS)], ids=lambda command: " ".join(command) or "scalpel"
)
def test_help_says_what_the_exit_codes_mean(scalpel: Scalpel, command: list[str]) -> None:
    ran = scalpel(*command, "--help")
    assert ran.code == Exit.OK
    words = " ".join(ran.out.split())
    for code, meaning in MEANING.items():
        assert f"{code.value} {meaning}" in words


WITHOUT_JSON = {"serve", "api", "maintain", "worker"}  # which run until they are stopped


def commands(group: Any, *path: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, *path, name)
        else:
            yield (*path, name), command


def test_every_command_answers_in_json_but_those_that_run_on() -> None:
    found = dict(commands(get_command(app)))
    assert len(found) > 40
    for path, command in found.items():
        has_json = any("--json" in parameter.opts for parameter in command.params)
        is_json_anyway = path in {("models", "show"), ("datasets", "show")}
        assert has_json or is_json_anyway or path[0] in WITHOUT_JSON, " ".join(path)


def test_help_teaches_with_examples_by_panels(scalpel: Scalpel) -> None:
    words = scalpel("--help").out
    for said in ("Start here", "Jobs", "Operate a service", "scalpel submit demo:smollm2-135m", "scalpel doctor"):
        assert said in words


def test_shell_completes_commands_and_flags() -> None:
    environment = {**os.environ, "_SCALPEL_COMPLETE": "complete_bash", "COMP_WORDS": "scalpel dow", "COMP_CWORD": "1"}
    program = "import sys; sys.argv = ['scalpel']; from cli.main import main; main()"
    ran = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, cwd=Path(__file__).parents[2]
    )
    assert ran.stdout.split() == ["download"], ran.stderr


def test_version_is_the_librarys(scalpel: Scalpel) -> None:
    assert scalpel("--version").out == f"scalpel {__version__}\n"


def test_command_without_arguments_shows_its_help(scalpel: Scalpel) -> None:
    assert all(command in scalpel().out for command in COMMANDS)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (CommandError("x", Exit.NOT_FOUND), Exit.NOT_FOUND),
        (InvalidOptions("recipe", "wrong"), Exit.REFUSED),
        (UnsupportedModel("x"), Exit.REFUSED),
        (NumericalError("layer", "NaN"), Exit.FAILED),
        (CompressionError("x"), Exit.FAILED),
        (SourceError("a/b", "not there"), Exit.REFUSED),
        (SettingsError("x"), Exit.REFUSED),
        (JobsError("x"), Exit.FAILED),
        (ServiceUnreachable("http://x", "refused"), Exit.UNREACHABLE),
        (ChecksumMismatch("x", "a", "b"), Exit.FAILED),
        (PermissionError("x"), Exit.FAILED),
        (ModuleNotFoundError("x", name="torch"), Exit.FAILED),
        (ZeroDivisionError(), None),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_every_foreseen_error_has_its_code_and_a_bug_has_none(error: Exception, code: Exit | None) -> None:
    assert exit_code(error) == code


def test_error_is_told_in_one_line() -> None:
    assert line(OSError("first\n  second")) == "first second"
    assert "pip install" in line(ModuleNotFoundError("no torch", name="torch"))


def test_package_runs_as_a_program() -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "cli", "--version"], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2]
    )
    assert ran.stdout == f"scalpel {__version__}\n"
