"""The measured speed-up: dense and shrunk model side by side in a fresh process, whole forwards, the median of many."""

import json
import shutil
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from compression.errors import VerificationError
from compression.models.checkpoint import Checkpoint
from compression.models.streamed import StreamedModel
from compression.structure import loader
from compression.structure.checkpoint import write_shrunk
from compression.structure.latency import forward_options
from compression.structure.shrink import Cut
from compression.structure.timing import Measured

RUNS, TURN, WARM_UP = 21, 3, 1  # forwards of each model; of them in one turn; not counted, before those
TIMEOUT_S = 3600.0
_PROGRAM = Path(__file__).with_name("clock.py")


@dataclass(frozen=True)
class Race:
    """Median seconds of a forward."""

    dense_s: float
    shrunk_s: float
    runs: int

    @property
    def speedup(self) -> float:
        return self.dense_s / self.shrunk_s


def race(dense: Path, shrunk: Path, here: Measured, runs: int = RUNS) -> Race:
    """Time both folders. Raises: VerificationError: one of them does not load or does not run there."""
    cache = {"prefill": {"use_cache": False}, "decode": {"use_cache": True}}.get(here.phase, {})
    asked: dict[str, Any] = {
        "folders": [str(dense), str(shrunk)],
        "is_decoding": here.phase == "decode",
        "loader": loader.__file__,
        "options": {**cache, **forward_options(here.phase)},
        "runs": runs,
        "turn": TURN,
        "warm_up": WARM_UP,
        **here.model_dump(include={"device", "dtype", "batch", "seqlen", "threads"}),
    }
    command = [sys.executable, "-I", str(_PROGRAM), json.dumps(asked)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)  # noqa: S603  our own program
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        raise VerificationError(f"{shrunk.name} or its source does not run: {lines[-1] if lines else 'it said nothing'}")
    dense_s, shrunk_s = (statistics.median(times) for times in json.loads(done.stdout.splitlines()[-1])["seconds"])
    return Race(dense_s, shrunk_s, runs)


def raced(checkpoint: Checkpoint, kept: Sequence[tuple[int, int]], work: Path, here: Measured) -> Race:
    """A race of the source and what it would be with so many units. A time does not depend on which they are, or on weights.

    Args: kept: units of attention and feed-forward, by block. work: folder for the shrunk model, while it runs.
    """
    folder = work / "raced"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        model = StreamedModel(checkpoint, torch.device("cpu"), torch.float32)
        write_shrunk(model, lambda index: (Cut(tuple(range(kept[index][0]))), Cut(tuple(range(kept[index][1])))), folder)
        return race(checkpoint.folder, folder, here)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
