"""The exact method on every matrix of one real block, beside the fast ones: layer errors as ratios, and seconds.

    python -m benchmarks.obc --block 5 --calibration windows.safetensors

Protocol: float32 forward; the calibration windows run through the dense blocks before the chosen one, whose matrices are then
solved one by one on their dense inputs. Error: tr(D H D^T) / tr(W H W^T), H undamped. Of each matrix at most `--rows` random
rows are solved, by all methods the same. Time is the processor's, not the wall's. Without `--model` the demo model is fetched.
"""

import argparse
import math
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.demo import demo_model
from benchmarks.results import Row, print_table, write_json
from compression import environment, methods  # noqa: F401  registers the solvers
from compression.block import matrix_weight
from compression.inputs import AllHeard, by_input, hessian_of, listening
from compression.kept import Kept
from compression.layer import LayerProblem, relative_error
from compression.models.source import ModelSource
from compression.models.streamed import StreamedModel
from compression.options import (
    MagnitudeOptions,
    MethodOptions,
    ObcOptions,
    OptqOptions,
    RtnOptions,
    SparseGptOptions,
    WandaOptions,
)
from compression.preparation import Job, prepare
from compression.protocol import Calibration, Evaluation, Output
from compression.registry import solve

CASES: dict[str, tuple[MethodOptions, ...]] = {
    "50%": tuple(method(sparsity=0.5) for method in (ObcOptions, SparseGptOptions, WandaOptions, MagnitudeOptions)),
    "2:4": tuple(
        method(sparsity=0.5, pattern="2:4") for method in (ObcOptions, SparseGptOptions, WandaOptions, MagnitudeOptions)
    ),
    "4 bit g64": tuple(method(bits=4, group_size=64) for method in (ObcOptions, OptqOptions, RtnOptions)),
}
DTYPE = torch.float32


def main() -> None:
    args = _arguments()
    with tempfile.TemporaryDirectory(prefix="scalpel-obc-") as scratch:
        model = ModelSource(args.model, args.model.name) if args.model else demo_model()
        calibration = Calibration(source=args.calibration, nsamples=args.nsamples, seqlen=args.calibration_seqlen)
        cache = args.cache or Path(scratch)
        job = prepare(model, {"sparsity": 0.5}, calibration, Evaluation(sources=()), Output(), {}, cache, Kept())
        problems = _problems(job, args.block, args.rows)
    rows: list[Row] = []
    for case in args.case or CASES:
        errors: dict[str, list[float]] = {}
        for problem in problems:
            new = _measure(case, problem, errors)
            print_table(new)
            rows += new
        rows += _means(case, errors)
    print()
    print_table([row for row in rows if row.case.endswith("geometric mean")])
    if args.json:
        machine = environment.describe(torch.device("cpu"), DTYPE).model_dump()
        write_json(args.json, "obc", {**machine, "block": args.block, "rows": args.rows, "model": job.info.source}, rows)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="checkpoint folder or .gguf file; default: the demo model")
    parser.add_argument("--block", type=int, default=5)
    parser.add_argument("--calibration", default="sotu", help="token windows (.safetensors), text, or sotu")
    parser.add_argument("--nsamples", type=int, default=64)
    parser.add_argument("--calibration-seqlen", type=int, default=1024)
    parser.add_argument("--rows", type=int, default=192, help="rows solved of each matrix, at most")
    parser.add_argument("--case", action="append", choices=tuple(CASES), help="only this case; may be repeated")
    parser.add_argument("--cache", type=Path, help="where a .gguf model is de-quantised to")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


@torch.inference_mode()
def _problems(job: Job, index: int, most_rows: int) -> list[LayerProblem]:
    """The matrices of one block with the Hessians of their dense inputs."""
    model = StreamedModel(job.checkpoint, torch.device("cpu"), DTYPE)
    hidden, calls = model.enter(job.calibration.ids_WL[:1])
    windows = [hidden, *(model.enter(ids_L[None])[0] for ids_L in job.calibration.ids_WL[1:])]
    for before in range(index):
        print(f"calibration windows through block {before}")
        block, call = model.load_block(before), calls[before]
        outputs = [block(window, *call.args, **call.kwargs) for window in windows]
        windows = [output[0] if isinstance(output, tuple) else output for output in outputs]
        model.free_block(before)
    block, call = model.load_block(index), calls[index]
    layers = [layer for layer in job.plan.block(index) if layer.options]
    with listening(block, layers, model.device) as accumulators:
        for window in windows:
            with suppress(AllHeard):
                block(window, *call.args, **call.kwargs)
    return [
        LayerProblem(layer.name, _some_rows(matrix_weight(block, layer).float(), most_rows), hessian)
        for label, readers in by_input(layers).items()
        for hessian in [hessian_of(accumulators[label], readers[0].name, readers[0].matrix)]
        for layer in readers
    ]


def _some_rows(W_RC: Tensor, most: int) -> Tensor:
    return W_RC[torch.randperm(W_RC.shape[0], generator=torch.Generator().manual_seed(0))[:most].sort().values]


@torch.inference_mode()
def _measure(case: str, problem: LayerProblem, errors: dict[str, list[float]]) -> list[Row]:
    """Errors of all methods of a case on one matrix, each beside the exact method's, and the time that each took."""
    rows: list[Row] = []
    label = f"{case} {problem.name.rpartition('.')[2]} {tuple(problem.W_RC.shape)}"
    for options in CASES[case]:
        begin = time.process_time()
        solution = solve(problem, options)
        seconds = time.process_time() - begin
        assert solution.fallbacks == (), solution.fallbacks
        error = relative_error(problem.W_RC, solution.weights.to_dense(), problem.hessian)
        assert error is not None
        errors.setdefault(options.method, []).append(error)
        rows.append(Row(label, f"error {options.method}", error, "", errors["obc"][-1], "obc"))
        rows.append(Row(label, f"time {options.method}", seconds, "s"))
    return rows


def _means(case: str, errors: dict[str, list[float]]) -> list[Row]:
    """Geometric means over the matrices: the mean of ratios is then the ratio of means."""
    means = {method: math.exp(sum(map(math.log, found)) / len(found)) for method, found in errors.items()}
    return [Row(f"{case} geometric mean", f"error {m}", mean, "", means["obc"], "obc") for m, mean in means.items()]


if __name__ == "__main__":
    main()
