"""The child process: reads one spec, does its task, says what happens as JSON lines. Knows no database or broker.

Its standard input stays open for as long as its supervisor lives, and brings commands (worker/control.py); at its end the
runner exits at once, so that no orphan computes on. The real standard output is kept for the protocol; what anything else
prints goes to standard error.
"""

import fcntl
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from pydantic import BaseModel

from compression.errors import Cancelled, CompressionError
from compression.manifest import REPORT_FILE
from compression.report import Outcome
from jobs.failure import from_compression_error
from worker.control import Control
from worker.messages import Error, Result, Stopped
from worker.spec import SPEC, EvaluateSpec, ExportSpec, RunSpec, Spec

Send = Callable[[BaseModel], None]


def main() -> None:
    send, control = _sender(_take_standard_output()), Control()
    spec = SPEC.validate_json(control.read_line())
    control.listen()
    try:
        with _sole_writer(spec.lock, spec.lock_timeout_s, control.check):
            run(spec, control.obeyed(send))
            send(Result(report=REPORT_FILE, verdict=_verdict(spec.out)))
    except Cancelled:
        send(Stopped())
    except CompressionError as error:
        send(Error(error=from_compression_error(error)))


def run(spec: Spec, send: Send) -> None:
    """Make the artifact folder, unless an earlier attempt completed it and was lost while publishing.

    Raises: CompressionError.
    """
    if spec.out.exists():  # it appears complete or not at all
        return
    match spec:
        case RunSpec():
            _compress(spec, send)
        case EvaluateSpec():
            _evaluate(spec, send)
        case ExportSpec():
            _export(spec, send)


# Imported late: torch takes seconds, and what it prints must find the standard output already moved away.


def _compress(spec: RunSpec, send: Send) -> None:
    """By the recipe, or by one that a goal is reached with."""
    from compression.compress import compress
    from compression.goals.reach import reach

    shutil.rmtree(spec.solutions, ignore_errors=True)  # of an attempt that was lost before its artifact appeared
    said: dict[str, Any] = {
        "calibration": spec.calibration,
        "evaluation": spec.evaluation,
        "acceptance": spec.acceptance,
        "output": spec.output,
        "texts": spec.texts,
        "work": spec.work,
        "keep_solutions": spec.solutions,
        "cache": spec.cache,
        "device": spec.device,
        "memory_limit_bytes": spec.memory_limit_bytes,
        "low_memory": spec.low_memory,
        "expected_s": spec.expected_s,
        "provenance": spec.provenance,
        "on_event": send,
    }
    if spec.goal is None:
        compress(spec.model, spec.recipe, spec.out, **said)
    else:
        reach(spec.model, spec.goal, spec.out, ignore=spec.recipe.ignore, **said)


def _export(spec: ExportSpec, send: Send) -> None:
    from compression.export import export

    export(
        spec.solutions,
        spec.model,
        spec.output,
        spec.out,
        origin=spec.origin,
        cache=spec.cache,
        device=spec.device,
        memory_limit_bytes=spec.memory_limit_bytes,
        provenance=spec.provenance,
        on_event=send,
    )


def _evaluate(spec: EvaluateSpec, send: Send) -> None:
    from compression.evaluate import evaluate

    evaluate(
        spec.model,
        reference=spec.reference,
        evaluation=spec.evaluation,
        acceptance=spec.acceptance,
        out=spec.out,
        texts=spec.texts,
        work=spec.work,
        cache=spec.cache,
        device=spec.device,
        low_memory=spec.low_memory,
        provenance=spec.provenance,
        on_event=send,
    )


def _verdict(out: Path) -> Outcome | None:
    """As the report has it; whether there is a report at all is for the supervisor to see."""
    report = out / REPORT_FILE
    found = json.loads(report.read_bytes()).get("verdict") if report.is_file() else None
    return found and found["outcome"]


def _take_standard_output() -> BinaryIO:
    """Keep file descriptor 1 for the protocol and let everybody else's prints, C libraries' too, go to standard error."""
    protocol = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return protocol


def _sender(protocol: BinaryIO) -> Send:
    def send(message: BaseModel) -> None:
        protocol.write(message.model_dump_json().encode() + b"\n")
        protocol.flush()

    return send


@contextmanager
def _sole_writer(path: Path, timeout_s: float, check: Callable[[], None]) -> Iterator[None]:
    """Hold the job's lock on this host. The runner of a lost attempt dies within moments; until then, wait for it.

    Args: check: raises where the wait must end.
    Raises: TimeoutError.
    """
    deadline = time.monotonic() + timeout_s
    with path.open("w") as file:
        while not _try_lock(file.fileno()):
            check()
            if time.monotonic() > deadline:
                raise TimeoutError(f"the runner of another attempt has not left {path.parent} within {timeout_s:g} s")
            time.sleep(0.1)
        yield


def _try_lock(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


if __name__ == "__main__":
    main()
