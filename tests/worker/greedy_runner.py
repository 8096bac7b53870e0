"""A runner that speaks the protocol of `worker.runner` and takes too much of something, as its argument says. Not a test."""

import json
import mmap
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, NoReturn

sys.path.insert(0, str(Path(__file__).parent))
from scripted_runner import finish, say  # type: ignore[import-not-found]  # as a script it has its folder alone

MEBIBYTE = 2**20
MOST_MEBIBYTES = 400


def leave_when_told() -> NoReturn:
    """Whether the supervisor says so or is gone."""
    os.read(0, 1)
    os._exit(70)


def hang() -> NoReturn:
    while True:
        time.sleep(60)


def gobble() -> NoReturn:
    """Take ever more memory, slowly enough to be watched, up to what does this machine no harm."""
    taken = []
    for _ in range(MOST_MEBIBYTES // 8):
        taken.append(b"\1" * (8 * MEBIBYTE))
        time.sleep(0.02)
    hang()


def fill(folder: Path) -> NoReturn:
    for number in range(MOST_MEBIBYTES // 8):
        (folder / f"{number}.bin").write_bytes(bytes(8 * MEBIBYTE))
        time.sleep(0.02)
    hang()


def fill_unseen(folder: Path) -> NoReturn:
    """As activations do: in a file without a name."""
    with tempfile.TemporaryFile(dir=folder) as file:
        os.posix_fallocate(file.fileno(), 0, 64 * MEBIBYTE)
        mapped = mmap.mmap(file.fileno(), 64 * MEBIBYTE)
    mapped[0] = 1
    hang()


def main(behaviour: str) -> None:
    spec: dict[str, Any] = json.loads(sys.stdin.buffer.readline())
    threading.Thread(target=leave_when_told, daemon=True).start()
    out, work, is_saving = Path(spec["out"]), Path(spec["work"]), bool(spec.get("low_memory"))
    work.mkdir(exist_ok=True)
    match behaviour:
        case "gobble":
            gobble()
        case "gobble-unless-saving":
            if not is_saving:
                gobble()
            finish(out)
        case "let-a-child-gobble":
            if subprocess.run([sys.executable, __file__, "a child"], check=False).returncode != -signal.SIGKILL:
                raise RuntimeError("the child was let live")
            finish(out)
        case "refuse-unless-saving":
            if is_saving:
                finish(out)
            else:
                say(type="error", error={"type": "out-of-memory", "title": "No memory", "detail": "the device has no more"})
        case "report-a-full-disk":
            say(type="error", error={"type": "disk-full", "title": "No space is left", "detail": "out cannot be written"})
        case "fill":
            fill(work)
        case "fill-unseen":
            fill_unseen(work)
        case "die-with-memory":
            taken = b"\1" * (64 * MEBIBYTE)
            time.sleep(0.5)
            print("my last words", file=sys.stderr, flush=True)  # noqa: T201
            os.kill(os.getpid(), signal.SIGKILL if taken else 0)
        case "publish-much":
            out.mkdir(exist_ok=True)
            (out / "model.bin").write_bytes(os.urandom(MEBIBYTE) * 100)
            finish(out)
        case "hang":
            say(type="note", level="info", message="at work")
            hang()
        case _:
            raise ValueError(behaviour)


if __name__ == "__main__":
    if sys.argv[1] == "a child":
        gobble()
    main(sys.argv[1])
