"""A runner that speaks the protocol of `worker.runner` and does one thing wrong, as its argument says. Not a test."""

# ruff: noqa: T201  printing is its trade

import json
import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any, NoReturn

from compression.isolation.evidence import in_force


def say(**message: Any) -> None:
    print(json.dumps(message), flush=True)


def finish(out: Path, **told: Any) -> None:
    out.mkdir(exist_ok=True)
    (out / "config.json").write_text("{}")
    (out / "report.json").write_text(json.dumps({"environment": dict(os.environ), **told}))
    say(type="result", report="report.json")


def compress(out: Path) -> None:
    say(type="stage", stage="compressing")
    say(type="activity", activity="solving", block=1, blocks=1)
    say(
        type="block",
        block=1,
        blocks=1,
        fraction=1.0,
        eta_s=0.0,
        mean_relative_error=0.25,
        host_memory_bytes=1,
        device_memory_bytes=None,
        is_replayed=False,
    )
    say(type="note", level="warning", message="a fallback")
    finish(out)


def look_around(out: Path, cache: Path, port: int) -> None:
    """Try what a hostile checkpoint might, once it has taken this process over."""
    seen: dict[str, Any] = {"isolation": in_force()}
    for name, attempt in (
        ("network", lambda: socket.create_connection(("127.0.0.1", port), timeout=5).close()),
        ("supervisor", lambda: Path(f"/proc/{os.getppid()}/environ").read_bytes()),
        ("database", lambda: (out.parents[3] / "scalpel.db").read_bytes()),
        ("other job", lambda: list(out.parents[1].iterdir())),
        ("what others kept", lambda: list(cache.parent.iterdir())),
        ("planting for others", lambda: (cache.parent / "planted").mkdir()),
    ):
        try:
            attempt()
        except OSError as error:
            seen[name] = type(error).__name__
        else:
            seen[name] = "reached"
    finish(out, seen=seen)


def hang() -> NoReturn:
    say(type="note", level="info", message=f"pid {os.getpid()}")
    while True:
        time.sleep(60)


def count(until: Path) -> None:
    """A numbered note every few moments, until the file is there."""
    number = 0
    while not until.exists():
        say(type="note", level="info", message=f"note {(number := number + 1)}")
        time.sleep(0.02)


def exit_with_supervisor(is_deaf: bool) -> None:
    """At the first command, or only at the end of the input."""
    while heard := os.read(0, 4096):
        if not is_deaf:
            say(type="stopped")
            break
    os._exit(0 if heard else 70)


def main(behaviour: str) -> None:
    spec = json.loads(sys.stdin.buffer.readline())
    threading.Thread(target=exit_with_supervisor, args=(behaviour == "deaf",), daemon=True).start()
    out, work = Path(spec["out"]), Path(spec.get("work", ""))
    match behaviour:
        case "succeed":
            compress(out)
        case "succeed-and-tell":
            say(type="note", level="info", message=json.dumps(dict(os.environ)))
            say(type="note", level="info", message=json.dumps(spec))
            finish(out, spec=spec)
        case "refuse":
            failure = {"type": "numerical-error", "title": "It broke down", "detail": "NaN", "layer": "model.layers.0"}
            say(type="error", error=failure)
        case "crash":
            print("my last words", file=sys.stderr, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        case "crash-once":
            if work.exists():
                compress(out)
            work.mkdir(exist_ok=True)
            os.kill(os.getpid(), signal.SIGKILL)
        case "raise":
            raise RuntimeError("x" * 200_000 + " the very end")
        case "babble":
            print("Hello!", flush=True)
            hang()
        case "long-line":
            print("x" * 2_000_000, flush=True)
            hang()
        case "half-line":
            sys.stdout.write('{"type": "no')
            sys.stdout.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        case "count":
            count(out.parent / "go")
            finish(out)
        case "hang":
            hang()
        case "deaf":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            hang()
        case _ if behaviour.startswith("look-around:"):
            look_around(out, Path(spec["cache"]), int(behaviour.partition(":")[2]))
        case "no-report":
            out.mkdir()
            say(type="result", report="report.json")
        case "link":
            out.mkdir()
            (out / "report.json").symlink_to("/etc/hostname")
            say(type="result", report="report.json")
        case _:
            raise ValueError(behaviour)


if __name__ == "__main__":
    main(sys.argv[1])
