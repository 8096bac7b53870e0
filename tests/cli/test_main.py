import subprocess
import sys
from pathlib import Path

import pytest

from cli.exits import MEANING, CommandError, Exit
from cli.failures import exit_code, line
from client import ChecksumMismatch, ServiceUnreachable
from compression import __version__
from compression.errors import CompressionError, InvalidOptions, NumericalError, UnsupportedModel
from jobs.errors import JobsError, SettingsError, SourceError
from tests.cli.conftest import Scalpel

COMMANDS = ("serve", "submit", "watch", "jobs", "report", "download", "cancel", "methods", "compress")


@pytest.mark.parametrize(
    "command", [[], *([command] for command in COMMANDS)], ids=lambda command: " ".join(command) or "scalpel"
)
def test_help_says_what_the_exit_codes_mean(scalpel: Scalpel, command: list[str]) -> None:
    ran = scalpel(*command, "--help")
    assert ran.code == Exit.OK
    words = " ".join(ran.out.split())
    for code, meaning in MEANING.items():
        assert f"{code.value} {meaning}" in words


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
