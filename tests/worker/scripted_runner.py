"""A runner that speaks the protocol of `worker.runner` and does one thing wrong, as its argument says. Not a test."""

# ruff: noqa: T201  printing is its trade

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any, NoReturn


def say(**message: Any) -> None:
    print(json.dumps(message), flush=True)


def finish(out: Path) -> None:
    out.mkdir(exist_ok=True)
    (out / "config.json").write_text("{}")
    (out / "report.json").write_text(json.dumps({"environment": dict(os.environ)}))
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


def hang() -> NoReturn:
    say(type="note", level="info", message=f"pid {os.getpid()}")
    while True:
        time.sleep(60)


def exit_with_supervisor() -> None:
    os.read(0, 1)
    os._exit(70)


def main(behaviour: str) -> None:
    spec = json.loads(sys.stdin.buffer.readline())
    threading.Thread(target=exit_with_supervisor, daemon=True).start()
    out, work = Path(spec["out"]), Path(spec.get("work", ""))
    match behaviour:
        case "succeed":
            compress(out)
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
        case "hang":
            hang()
        case "deaf":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            hang()
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
