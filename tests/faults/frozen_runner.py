"""A runner that stops its worker, as SIGSTOP or a paused machine does, with the result on its way. Not a test."""

# ruff: noqa: T201  printing is its trade

import json
import os
import signal
import sys
from pathlib import Path


def main() -> None:
    out = Path(json.loads(sys.stdin.buffer.readline())["out"])
    out.mkdir()
    for name in ("config.json", "report.json"):
        (out / name).write_text(json.dumps({"made by": "the frozen one"}))
    os.kill(os.getppid(), signal.SIGSTOP)
    print(json.dumps({"type": "result", "report": "report.json"}), flush=True)
    sys.stdin.buffer.read()


if __name__ == "__main__":
    main()
