"""Single layers of real shapes on whatever device is there: Hessian, factor and sweep, each beside the plain baseline's.

Times are medians after one run that warms up. The Hessian's is that of one window of 2048 random tokens, times as many
windows as `--tokens` makes: it grows with their number alone. On a GPU its inputs are bfloat16 numbers, as in a pass. Factor
and sweep are those of SparseGPT 50%; the sweep of OPTQ, 4 bit in groups of 128 with act-order, follows. Peak memory is what
these take beyond what was there before.
Shapes that do not fit the memory are named and skipped. R = out_features, C = in_features, N = tokens of a window.
"""

import argparse
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from benchmarks.plain import solver as plain
from benchmarks.results import Row
from benchmarks.speed.chart import Bar
from benchmarks.speed.floor import factor_operations, rate, sweep_operations
from benchmarks.speed.timing import median_seconds
from compression import environment, methods  # noqa: F401  registers the solvers
from compression.hessian import Accumulator, Hessian
from compression.layer import LayerProblem
from compression.memory import MemoryMeter, available_bytes
from compression.options import OptqOptions, SparseGptOptions
from compression.registry import solve

SHAPES = (
    (576, 576),
    (1536, 576),
    (576, 1536),
    (4096, 4096),
    (11008, 4096),
    (4096, 11008),
    (12288, 12288),
    (49152, 12288),
    (12288, 49152),
)
QUICK_SHAPES = ((64, 64), (64, 128))
QUICK_WINDOW = 128
WINDOW = 2048
CPU_COLUMNS = 4096  # wider ones take minutes on a CPU; --max-columns asks for them
REPEATS = 3
COPIES = 6  # of a Hessian, and of the weights, that the plain baseline holds at its worst moment
BAR = 5.0
PLAIN = "plain baseline"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--tokens", type=int, default=128 * 2048, help="calibration tokens that the Hessian is counted for")
    parser.add_argument("--shape", action="append", type=_shape, metavar="RxC", help="only this; may be repeated")
    parser.add_argument("--repeats", type=int, default=REPEATS, help="runs whose median is taken, after one that warms up")
    parser.add_argument("--max-columns", type=int, help=f"skip wider layers; default: {CPU_COLUMNS} on a CPU")


def _shape(text: str) -> tuple[int, int]:
    rows, columns = map(int, text.split("x"))
    return rows, columns


def run(args: argparse.Namespace, show: Callable[[list[Row]], None]) -> tuple[list[Row], list[Bar]]:
    """Args: show: is given rows as they come."""
    device = environment.pick_device(args.device)
    most = args.max_columns or (CPU_COLUMNS if device.type == "cpu" else max(columns for _, columns in SHAPES))
    rows: list[Row] = []
    bars: list[Bar] = []
    for R, C in args.shape or (QUICK_SHAPES if args.quick else SHAPES):
        need_bytes, free_bytes = 4 * COPIES * (C * C + R * C), _free_bytes(device)
        if most < C:
            print(f"{R}x{C}: skipped, wider than {most} columns")
        elif need_bytes > free_bytes:
            print(f"{R}x{C}: skipped, needs about {need_bytes / 2**30:.0f} GiB of {free_bytes / 2**30:.0f} GiB")
        else:
            window = QUICK_WINDOW if args.quick else WINDOW
            new, drawn = Layer(R, C, device, window, args.repeats).measure(args.tokens / window)
            show(new)
            rows += new
            bars += drawn
    return rows, bars


def _free_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return available_bytes()


Steps = dict[str, tuple[Callable[[Any], object], Callable[[], Any]]]
"""By name: what is timed, and what makes the argument that it is given, each time anew."""


class Layer:
    """One shape with random weights and inputs."""

    def __init__(self, R: int, C: int, device: torch.device, window: int, repeats: int) -> None:
        self.R, self.C, self.device, self.repeats = R, C, device, repeats
        generator = torch.Generator(device).manual_seed(0)
        self.W_RC = torch.randn(R, C, device=device, generator=generator)
        self.X_NC = torch.randn(window, C, device=device, generator=generator)
        if self._on_gpu:
            self.X_NC = self.X_NC.bfloat16()
        self.prune = SparseGptOptions(sparsity=0.5)
        self.round = OptqOptions(bits=4, group_size=128 if C % 128 == 0 else 64)

    def measure(self, windows: float) -> tuple[list[Row], list[Bar]]:
        """Args: windows: that the Hessian is counted for."""
        ours, ours_bytes = self._times(self._scalpel(), windows)
        theirs, theirs_bytes = self._times(self._plain(), windows)
        floor = self._floor(windows)
        case = f"{self.R}x{self.C}"
        rows = [Row(case, step, ours[step], "s", theirs[step], PLAIN) for step in ours]
        rows += [Row(case, f"{step} over floor", ours[step] / floor[step], "x") for step in floor]
        solved = ("Hessian products", "factorisation", "sweep")
        speedup = sum(theirs[step] for step in solved) / sum(ours[step] for step in solved)
        rows.append(Row(case, "plain / scalpel, all three", speedup, "x", *((BAR, "the bar") if self._on_gpu else ())))
        rows.append(Row(case, "peak memory", ours_bytes / 2**20, "MiB", theirs_bytes / 2**20, PLAIN))
        bars = [Bar(f"{case}: plain", theirs), Bar("scalpel", ours), Bar("floor", floor)]
        return rows, [Bar(bar.label, {step: bar.seconds[step] for step in solved}) for bar in bars]

    @property
    def _on_gpu(self) -> bool:
        return self.device.type == "cuda"

    def _times(self, steps: Steps, windows: float) -> tuple[dict[str, float], int]:
        """Seconds of each step, and the peak of memory over all of them."""
        with MemoryMeter(self.device) as meter:
            before_bytes = torch.cuda.memory_allocated(self.device) if self._on_gpu else meter.now_bytes()
            times = {
                name: median_seconds(timed, prepare, self.device, repeats=self.repeats)
                for name, (timed, prepare) in steps.items()
            }
            peak = meter.peak()
        times["Hessian products"] *= windows
        return times, max(0, (peak.device_peak_bytes or peak.host_peak_bytes) - before_bytes)

    def _scalpel(self) -> Steps:
        def fresh() -> Accumulator:
            return Accumulator(self.C, self.device, self.X_NC.dtype)

        def hessian() -> Hessian:
            """A fresh one each time: it keeps its factors, and may be overwritten by them."""
            accumulator = fresh()
            accumulator.add(self.X_NC)
            return accumulator.finish("layer")

        def factored(*, by_activity: bool) -> LayerProblem:
            found = hessian()
            found.factor(self.prune.damp, by_activity=by_activity)
            return LayerProblem("layer", self.W_RC, found)

        return {
            "Hessian products": (lambda empty: empty.add(self.X_NC), fresh),
            "factorisation": (lambda found: found.factor(self.prune.damp), hessian),
            "sweep": (lambda problem: solve(problem, self.prune), lambda: factored(by_activity=False)),
            "sweep of OPTQ": (lambda problem: solve(problem, self.round), lambda: factored(by_activity=True)),
        }

    def _plain(self) -> Steps:
        def hessian() -> Tensor:
            accumulator = plain.Hessian(self.C, self.device)
            accumulator.add(self.X_NC)
            return accumulator.H_CC

        def ordered() -> tuple[Tensor, Tensor]:
            H_CC = hessian()
            order_C = H_CC.diagonal().argsort(descending=True)
            return plain.upper_factor(H_CC[order_C][:, order_C], self.round.damp), order_C

        return {
            "Hessian products": (lambda fresh: fresh.add(self.X_NC), lambda: plain.Hessian(self.C, self.device)),
            "factorisation": (lambda H_CC: plain.upper_factor(H_CC, self.prune.damp), hessian),
            "sweep": (self._plain_prune, lambda: plain.upper_factor(hessian(), self.prune.damp)),
            "sweep of OPTQ": (lambda given: self._plain_round(*given), ordered),
        }

    def _plain_prune(self, U_CC: Tensor) -> Tensor:
        return plain.prune(self.W_RC.clone(), U_CC, self.prune.sparsity, self.prune.block_size)

    def _plain_round(self, U_CC: Tensor, order_C: Tensor) -> Tensor:
        assert isinstance(self.round.bits, int) and isinstance(self.round.group_size, int)
        grids = plain.grids(self.W_RC, self.round.bits, self.round.group_size)
        return plain.round_columns(self.W_RC, U_CC, order_C, *grids, self.round.bits, self.round.block_size)

    def _floor(self, windows: float) -> dict[str, float]:
        """At the rate of X^T X in full, in float32."""
        window = self.X_NC.shape[0]
        per_second = rate([(self.C, window, self.C)], torch.float32, self.device)
        done = {
            "Hessian products": windows * window * self.C**2,
            "factorisation": factor_operations(self.C),
            "sweep": float(sweep_operations(self.R, self.C)),
        }
        return {step: count / per_second for step, count in done.items()}
