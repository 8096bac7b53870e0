"""What a compression will need, from config and tensor headers alone: pure functions on shapes, all results in bytes.

Every term is something that the pass really holds (pipeline.py, hessian.py, block.py); what the allocator and the
interpreter add was measured on CPU and is named where it stands. Memory means anonymous memory, as the report measures it: a
float32 source is mapped from its file and costs none. Torch-free.

Shapes: R = out_features, C = in_features, D = hidden size, V = vocabulary, L = tokens of a window.
"""

import math
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass

from compression.budgets import (
    ABREAST_NUMBERS,
    ABREAST_SQUARE,
    ABREAST_SUMS_BYTES,
    BATCH_BYTES,
    CHUNK_LOGITS,
    MAX_ABREAST,
    MAX_DEVICE_HESSIANS_BYTES,
    MAX_HESSIANS_BYTES,
    SPILL_BYTES,
)
from compression.families import Architecture
from compression.formats.block_names import names_by_block
from compression.models.headers import DTYPE_BYTES, TensorInfo
from compression.options import ObcOptions, SpqrOptions
from compression.plan import Plan, PlannedLayer
from compression.protocol import Output
from compression.text_load import TextLoad

FLOAT32, FLOAT64 = 4, 8
RUNTIME_BYTES = 270_000_000  # interpreter, torch and transformers, before any work
CUDA_RUNTIME_BYTES = 1_500_000_000  # the same with a CUDA context; 1.3 GB was measured on an H200, torch 2.11
PINNED = 2  # of a tensor in pinned memory, which is handed out in powers of two: at most twice its size
ENCODING_BYTES = 120  # while a text is encoded, per byte of it: tokens with their offsets, then a list of Python's integers
ENCODING_KEPT_BYTES = 80  # of that, what the heap does not give back afterwards
FACTOR_COPIES = 1  # of C x C while H is factorised, which every step does in the same memory
EXACT_COPIES = 5  # of C x C in float64 while OBC inverts H: H damped, its Cholesky factor, the inverse, and what LAPACK copies
SOLVE_COPIES = 7  # of R x C while a matrix is solved and its error is measured
SCORE_COPIES = 6  # of a chunk of logits while two models are compared
SLACK = 1.25  # what freed blocks of a size that the allocator keeps add to the work of a block
EXPERTS_AT_ONCE = 1  # of a mixture: transformers runs one expert after the other
PROBE_TOKENS = 2 * 128
STACKABLE = ("sparsegpt", "optq", "joint")  # as their solvers are registered
WITHOUT_FACTOR = ("magnitude", "rtn", "wanda")


@dataclass(frozen=True)
class MemoryEstimate:
    """Peaks of one job's runner process.

    Args:
        host_peak_bytes: anonymous memory.
        device_peak_bytes: allocated on the device; None on CPU.
        parts: what the peak of the pass is made of, by name; where it runs on a device, of the device.
    """

    host_peak_bytes: int
    device_peak_bytes: int | None
    parts: Mapping[str, int]


@dataclass(frozen=True)
class Sizing:
    """What one compression holds, term by term.

    Args: dtype_bytes: of the source's weights, as the file stores them.
    """

    plan: Plan
    architecture: Architecture
    load: TextLoad
    output: Output
    outside: int  # numbers outside the blocks
    largest_block: int  # numbers in it
    parameters: int
    dtype_bytes: int

    @property
    def hidden(self) -> int:
        """D: what the first matrix of a block reads."""
        return self.architecture.block(0)[0].shape[1]

    @property
    def is_mapped(self) -> bool:
        """A float32 source is computed with where it lies, in its file."""
        return self.dtype_bytes == FLOAT32

    def streams(self) -> list[int]:
        """Hidden states of all windows, one entry a stream: calibration (with asymmetric calibration twice) and evaluation,
        dense and compressed."""
        load = self.load
        calibrations = 2 if self.plan.recipe.asymmetric_calibration else 1
        counts = [load.calibration_tokens] * calibrations + [load.evaluation_tokens] * 2
        return [count * self.hidden * FLOAT32 for count in counts]

    def hessians(self, limit_bytes: int = MAX_HESSIANS_BYTES) -> int:
        """All Hessians that one forward of calibration sums up. Args: limit_bytes: for them, see `budgets.hessians_bytes`."""
        copies = 2 if self.plan.recipe.asymmetric_calibration else 1
        return max((copies * _hessians_of(block, limit_bytes) for block in _groups(self.plan)), default=0)

    def factor(self) -> int:
        """What one factorisation holds beside H."""
        return max((_factor(layer) for layer in self.plan.targeted), default=0)

    def solve(self) -> int:
        """What solving one matrix, or several on top of each other, holds beside H."""
        return max((_solve(layers) for layers in _stacks(self.plan)), default=0)

    def abreast(self) -> int:
        """What solving and summing up hold beside one set of Hessians on a CPU, where small pieces go abreast."""
        widest = max((layer.matrix.shape[1] for layer in self.plan.targeted), default=0)
        hessians = self.hessians()
        sums = (MAX_ABREAST - 1) * hessians if hessians <= ABREAST_SUMS_BYTES else 0
        at_once = MAX_ABREAST if widest**2 <= ABREAST_SQUARE else 1
        return max(sums, at_once * max(self.factor(), self.solve()))

    def solutions(self) -> int:
        """The largest block's answers, until they are written."""
        by_block: dict[int, int] = {}
        for layer in self.plan.targeted:
            by_block[layer.block] = by_block.get(layer.block, 0) + solution_bytes(layer, self.dtype_bytes)
        return max(by_block.values(), default=0)

    def forward(self, *, on_device: bool) -> int:
        """Windows in a block: what its matrices give, the states around them, and a packed copy of the largest matrix."""
        tokens = max(self.load.calibration_seqlen, self.load.evaluation_seqlen)
        matrices = [m for m in self.architecture.block(0) if m.slot is None or m.slot.index < EXPERTS_AT_ONCE]
        widths = sum(m.shape[0] for m in matrices) + 2 * max(max(m.shape) for m in matrices) + 6 * self.hidden
        at_once = tokens_at_once(tokens, self.hidden, on_device=on_device)
        return FLOAT32 * (at_once * (widths + 2 * tokens) + max(math.prod(m.shape) for m in matrices))

    def scoring(self) -> int:
        """Logits of one chunk under both models, and those of the probe twice."""
        if self.architecture.is_encoder:
            return SCORE_COPIES * FLOAT32 * self.load.evaluation_seqlen * self.hidden
        vocabulary, longest = self.architecture.vocab_size, max(self.load.evaluation_seqlen, self.load.calibration_seqlen)
        chunk = min(max(CHUNK_LOGITS, vocabulary), longest * vocabulary)
        return FLOAT32 * (SCORE_COPIES * chunk + 2 * min(PROBE_TOKENS, 2 * longest) * vocabulary)


def tokens_at_once(window: int, hidden: int, *, on_device: bool) -> int:
    """The most that a block is run on. Small windows go abreast on a CPU (`abreast.py`); larger ones never count as less.

    Args: window: tokens of one.
    """
    return window if on_device else max(window, MAX_ABREAST * min(window, ABREAST_NUMBERS // hidden))


def sizing(
    plan: Plan, architecture: Architecture, tensors: Mapping[str, TensorInfo], load: TextLoad, output: Output
) -> Sizing:
    """Read the shapes that matter from a checkpoint's headers."""
    outside, *blocks = (
        sum(math.prod(tensors[name].shape) for name in names) for names in names_by_block(tensors, architecture)
    )
    total = sum(math.prod(info.shape) for info in tensors.values())
    return Sizing(plan, architecture, load, output, outside, max(blocks, default=0), total, main_dtype_bytes(tensors))


def main_dtype_bytes(tensors: Mapping[str, TensorInfo]) -> int:
    """Bytes of a number in the dtype that holds most of the weights."""
    held: dict[str, int] = {}
    for info in tensors.values():
        held[info.dtype] = held.get(info.dtype, 0) + info.size_bytes
    return DTYPE_BYTES[max(held, key=lambda dtype: held[dtype])] if held else FLOAT32


def memory_on_cpu(sizes: Sizing) -> MemoryEstimate:
    """Peak while preparing (the longest text is encoded whole), in the pass, or in the sample's dense model at the end."""
    text = sizes.load.longest_text_bytes
    ends = 0 if sizes.is_mapped else sizes.outside * FLOAT32
    parts = {
        "runtime": RUNTIME_BYTES + ENCODING_KEPT_BYTES * text,
        "embedding and head": ends + _rounded_ends(sizes),
        "streams": sum(size for size in sizes.streams() if size <= SPILL_BYTES),
        **_block_parts(sizes),
    }
    kept = parts["streams"] // 2 + parts["work"] // 2
    sample = 0 if sizes.is_mapped or sizes.architecture.is_encoder else sizes.parameters * FLOAT32
    peaks = (RUNTIME_BYTES + ENCODING_BYTES * text, sum(parts.values()), parts["runtime"] + kept + sample)
    return MemoryEstimate(max(peaks), None, parts)


def memory_on_device(sizes: Sizing) -> MemoryEstimate:
    """The same where blocks run on an accelerator: streams stay on the host, everything else goes over.

    A block is read beside the one before and pinned, and what was solved is pinned on its way to disk. A host with room to
    spare holds larger streams as well (`budgets.pinned_bytes`); that is no need, and not counted.
    """
    streams = sum(size for size in sizes.streams() if size <= SPILL_BYTES)
    runtime = CUDA_RUNTIME_BYTES + ENCODING_KEPT_BYTES * sizes.load.longest_text_bytes
    block = sizes.largest_block * sizes.dtype_bytes
    loading = PINNED * block + (0 if sizes.is_mapped else block + sizes.outside * FLOAT32)
    host = max(
        CUDA_RUNTIME_BYTES + ENCODING_BYTES * sizes.load.longest_text_bytes,
        runtime + streams + loading + PINNED * sizes.solutions(),
    )
    parts = {
        "embedding and head": sizes.outside * FLOAT32 + _rounded_ends(sizes),
        **_block_parts(sizes, on_device=True),
    }
    sample = 0 if sizes.architecture.is_encoder else sizes.parameters * FLOAT32
    return MemoryEstimate(host, max(sum(parts.values()), sample), parts)


def scratch_bytes(sizes: Sizing, artifact_bytes: int) -> int:
    """Peak of a job's folder: finished blocks (the kept solutions are links to them), streams that memory did not take, and
    the artifact."""
    spilled = sum(size for size in sizes.streams() if size > SPILL_BYTES)
    return kept_solution_bytes(sizes) + spilled + artifact_bytes


def kept_solution_bytes(sizes: Sizing) -> int:
    """What is stored for later exports."""
    return sum(solution_bytes(layer, sizes.dtype_bytes) for layer in sizes.plan.targeted)


def solution_bytes(layer: PlannedLayer, dtype_bytes: int) -> int:
    """One solved matrix in a finished block: weights in the source's dtype, or a byte a code with its grids."""
    rows, columns = layer.matrix.shape
    options = layer.options
    if isinstance(options, SpqrOptions):
        groups = columns // options.group_size if isinstance(options.group_size, int) else 1
        return rows * columns + 2 * rows * groups + rows * columns // 100 * 6  # about 1% outliers: a column and a value
    grid = options.quantization if options else None
    if grid is None:
        return rows * columns * dtype_bytes
    groups = columns // grid.group_size if isinstance(grid.group_size, int) else 1
    return rows * columns + rows * groups * (FLOAT32 + 1) + FLOAT32 * columns


def _block_parts(sizes: Sizing, *, on_device: bool = False) -> dict[str, int]:
    """What one block needs at its worst moment, in solving, or in scoring after the last; the larger of the two."""
    block = 0 if sizes.is_mapped and not on_device else sizes.largest_block * FLOAT32
    hessians = sizes.hessians(MAX_DEVICE_HESSIANS_BYTES if on_device else MAX_HESSIANS_BYTES)
    forward = sizes.forward(on_device=on_device)
    working = max(sizes.factor(), sizes.solve()) if on_device else sizes.abreast()
    solving = hessians + working + sizes.solutions() + forward
    if block + SLACK * solving >= sizes.scoring() + forward:
        return {"block": block, "work": int(SLACK * solving)}
    return {"block": 0, "work": sizes.scoring() + forward}


def _rounded_ends(sizes: Sizing) -> int:
    """Embedding and head a second time, in 8 bits, as the file will hold them."""
    return sizes.outside * FLOAT32 if sizes.output.embeddings == "int8" else 0


def _groups(plan: Plan) -> Iterable[list[PlannedLayer]]:
    """Layers that are calibrated together: those of a block, with true_sequential those of one stage of it."""
    groups: dict[tuple[int, int], list[PlannedLayer]] = {}
    for layer in plan.targeted:
        stage = layer.matrix.stage if plan.recipe.true_sequential else 0
        groups.setdefault((layer.block, stage), []).append(layer)
    return groups.values()


def _hessians_of(layers: Iterable[PlannedLayer], limit_bytes: int) -> int:
    widths = {layer.matrix.reads: layer.matrix.shape[1] for layer in layers}
    whole = sum(FLOAT32 * width**2 for width in widths.values())
    return min(whole, max(limit_bytes, max(FLOAT32 * width**2 for width in widths.values())))


def _factor(layer: PlannedLayer) -> int:
    assert layer.options is not None
    square = layer.matrix.shape[1] ** 2
    if layer.options.method in WITHOUT_FACTOR:
        return FLOAT32 * square  # one triangle is mirrored onto the other
    if isinstance(layer.options, ObcOptions):
        return EXACT_COPIES * FLOAT64 * square + 3 * max(BATCH_BYTES, FLOAT64 * square)
    return FACTOR_COPIES * FLOAT32 * square


def _stacks(plan: Plan) -> Iterable[list[PlannedLayer]]:
    """Layers that are solved at once: readers of one input with the same options, where the method can."""
    stacks: dict[Hashable, list[PlannedLayer]] = {}
    for layer in plan.targeted:
        assert layer.options is not None
        alone = layer.name if layer.options.method not in STACKABLE else ""
        stacks.setdefault((layer.block, layer.matrix.reads, layer.options, alone), []).append(layer)
    return stacks.values()


def _solve(layers: list[PlannedLayer]) -> int:
    options, columns = layers[0].options, layers[0].matrix.shape[1]
    assert options is not None
    factor = 0 if options.method in WITHOUT_FACTOR else FLOAT32 * columns**2
    return factor + SOLVE_COPIES * FLOAT32 * sum(layer.matrix.shape[0] for layer in layers) * columns
