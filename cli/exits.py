"""What the `scalpel` command exits with."""

from enum import IntEnum


class Exit(IntEnum):
    """Documented in docs/api.md and in `scalpel --help`."""

    OK = 0
    FAILED = 1
    REFUSED = 2
    UNREACHABLE = 3
    NOT_FOUND = 4
    INTERRUPTED = 130


MEANING: dict[Exit, str] = {
    Exit.OK: "done",
    Exit.FAILED: "the job failed or was cancelled, or something broke",
    Exit.REFUSED: "wrong usage, or a request that was refused",
    Exit.UNREACHABLE: "no service answers",
    Exit.NOT_FOUND: "no such job, artifact, key or tenant",
    Exit.INTERRUPTED: "interrupted with Ctrl-C",
}

EPILOG = "Exit codes: " + "; ".join(f"{code.value} {meaning}" for code, meaning in MEANING.items()) + "."


class CommandError(Exception):
    """What a command ends with when it cannot go on: one line for the user, and the exit code."""

    def __init__(self, line: str, code: Exit = Exit.FAILED) -> None:
        self.code = code
        super().__init__(line)
