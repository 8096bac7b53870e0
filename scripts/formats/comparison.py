"""What every load program is given and answers. Needs numpy and safetensors alone, so that it runs beside any loader.

    python load_NAME.py ARTIFACT EXPECTED

ARTIFACT is the folder as written. EXPECTED is a safetensors file with `tokens` (N, L) int64 and the `logits` (N, L, V) float32
that the writer believes in. The answer is the last line of standard output, whatever a loader prints before it. Exit status 0
says that the loader ran; whether its figures are good enough is for the caller to judge.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

PROMPT_TOKENS = 8
NEW_TOKENS = 8


class Comparison:
    """Tokens to feed to a loader, and the logits that it should give.

    Args:
        tokens: (N, L) int64.
        logits: (N, L, V) float32.
    """

    def __init__(self, tokens: NDArray[np.int64], logits: NDArray[np.float32]) -> None:
        self.tokens = tokens
        self.logits = logits

    @property
    def prompt(self) -> list[int]:
        """The first tokens of the first window: what to continue greedily, by NEW_TOKENS tokens."""
        return [int(token) for token in self.tokens[0, :PROMPT_TOKENS]]

    def answer(self, loader: str, version: str, logits: NDArray[np.float32], generated: Sequence[int]) -> None:
        """Print the answer as one line of JSON.

        Differences are absolute, over all logits. `spread` is the standard deviation of the expected logits, the scale on
        which the differences mean something.
        """
        difference = np.abs(logits.astype(np.float64) - self.logits)
        found = {
            "loader": loader,
            "version": version,
            "max_difference": _finite(difference.max()),
            "mean_difference": _finite(difference.mean()),
            "spread": float(self.logits.std()),
            "tokens": list(generated),
        }
        sys.stdout.flush()
        sys.stdout.write(f"\n{json.dumps(found)}\n")


def arguments() -> tuple[Path, Comparison]:
    """The artifact's folder and what is expected of it, from the command line."""
    if len(sys.argv) != 3:
        sys.exit(f"usage: {Path(sys.argv[0]).name} ARTIFACT EXPECTED")
    expected = load_file(sys.argv[2])
    return Path(sys.argv[1]), Comparison(expected["tokens"], expected["logits"])


def _finite(value: np.floating) -> float | None:
    """JSON has no word for NaN: None says that no difference could be taken."""
    return float(value) if np.isfinite(value) else None
