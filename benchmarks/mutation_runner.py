"""Opens one checkpoint folder after the other as a runner would, and says what became of each. Run by `benchmarks.mutations`.

Standard input: a case's folder a line, with the checkpoint in `model`. Standard output: one JSON object a line.
"""

import json
import os
import sys
import traceback
from pathlib import Path

from compression.errors import CompressionError
from compression.evaluate import evaluate
from compression.kept import Kept
from compression.models.source import ModelSource
from compression.preparation import prepare
from compression.protocol import Calibration, Evaluation, Output


def main() -> None:
    protocol = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    print(json.dumps({"outcome": "ready"}), file=protocol, flush=True)
    for line in sys.stdin:
        print(json.dumps(_outcome(Path(line.strip()))), file=protocol, flush=True)


def _outcome(case: Path) -> dict[str, str]:
    try:
        _open(case)
    except CompressionError as error:
        return {"outcome": type(error).__name__, "detail": str(error)[:500].encode(errors="replace").decode()}
    except BaseException as error:  # whatever else comes is what this benchmark looks for
        return {"outcome": f"escaped: {type(error).__name__}", "detail": traceback.format_exc()[-3000:]}
    return {"outcome": "success", "detail": ""}


def _open(case: Path) -> None:
    """Everything that a compression settles before it solves, then every block and the head by an evaluation."""
    text = case / "text.txt"
    texts = Evaluation(sources=(str(text),), windows=2, seqlen=16)
    evaluate(case / "model", evaluation=texts, out=case / "out", work=case / "work", cache=case / "cache", device="cpu")
    if not (case / "model" / "scalpel.json").is_file():
        calibration = Calibration(source=str(text), nsamples=2, seqlen=16)
        source = ModelSource(case / "model", "mutated")
        prepare(source, {"method": "sparsegpt", "sparsity": 0.5}, calibration, texts, Output(), {}, case / "cache", Kept())


if __name__ == "__main__":
    main()
