"""What each level of each matrix costs, and what is paid whatever is chosen. Torch-free.

Bytes are those of the files: where the format has an exact rule (`formats/sizes.py`) to the byte; of `sparse-packed` a bound,
since how many codes are zero is known only when they are solved.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from compression.errors import InvalidOptions
from compression.families import Architecture
from compression.formats.sizes import RULES, Rule, Stored, predicted_bytes
from compression.goals.goal import Goal
from compression.goals.levels import Level, kept_share, layer_names, multiplications
from compression.models.headers import TensorInfo
from compression.models.stored_names import stored_name
from compression.options import code_bits
from compression.plan import Plan, PlannedLayer
from compression.protocol import OutputFormat


@dataclass(frozen=True)
class CostTable:
    """Args: costs: by matrix and level. fixed: of everything else. dense: of the whole source."""

    names: tuple[str, ...]
    costs: tuple[tuple[float, ...], ...]
    fixed: float
    dense: float

    def total(self, profile: Sequence[int]) -> float:
        return self.fixed + math.fsum(layer[level] for layer, level in zip(self.costs, profile, strict=True))

    @property
    def least(self) -> float:
        """The least that can be reached at all."""
        return self.fixed + math.fsum(map(min, self.costs))


def cost_table(
    metric: str,
    levels: Sequence[Level],
    output_format: OutputFormat,
    architecture: Architecture,
    tensors: Mapping[str, TensorInfo],
) -> CostTable:
    """Raises: InvalidOptions: nobody can tell the metric, or the format's bytes."""
    if metric == "flops":
        return _flops(levels, architecture, tensors)
    return _bytes(levels, output_format, architecture, tensors)


def database_bytes(levels: Sequence[Level], tensors: Mapping[str, TensorInfo], architecture: Architecture) -> int:
    """About what a model database takes on disk: a byte for each code and its group's scales, or the source's width where a
    level only prunes."""
    total = 0.0
    for level in levels:
        for layer in level.plan.targeted if level.plan else ():
            rows, columns = layer.matrix.shape
            grid = layer.options.quantization if layer.options else None
            if grid is None:
                total += _stored(layer, architecture, tensors).size_bytes
            else:
                groups = columns // grid.group_size if isinstance(grid.group_size, int) else 1
                total += rows * columns + 8 * rows * groups
    return round(total)


def budget_of(goal: Goal, table: CostTable, parameters: int) -> float:
    """The whole budget in the table's unit.

    Raises: InvalidOptions: it cannot be reached; the reason has the best figure that can.
    """
    whole = table.dense / goal.factor if goal.factor is not None else goal.at_most or 0.0
    if goal.metric == "bits_per_weight":
        whole = whole * parameters / 8
    if table.least > whole:
        raise InvalidOptions("goal", f"{goal.in_words()} is out of reach", _best(goal, table, parameters))
    return whole


def _best(goal: Goal, table: CostTable, parameters: int) -> str:
    if goal.factor is not None:
        return f"a factor of at most {math.floor(100 * table.dense / table.least) / 100:g} with these levels"
    least = 8 * table.least / parameters if goal.metric == "bits_per_weight" else table.least
    return f"at least {math.ceil(1000 * least) / 1000:,g} with these levels, of which {table.fixed / table.least:.0%} is fixed"


def _flops(levels: Sequence[Level], architecture: Architecture, tensors: Mapping[str, TensorInfo]) -> CostTable:
    """Two operations for each weight that is left and each token; attention's own products are the same at every level.

    Raises: InvalidOptions: nobody can tell them of a mixture of experts.
    """
    if any(matrix.slot for k in range(architecture.blocks) for matrix in architecture.block(k)):
        reason = "of a mixture of experts a token uses some experts alone, and which ones no plan tells"
        raise InvalidOptions("goal.metric", reason, "bytes, bits_per_weight, perplexity_ratio")
    counts = multiplications(levels)
    names = layer_names(levels)
    chosen = sum(counts.values())
    matrices = sum(math.prod(m.shape) for k in range(architecture.blocks) for m in architecture.block(k) if not m.kept_dense)
    head = _head(architecture, tensors)
    costs = tuple(tuple(2.0 * counts[name] * kept_share(level) for level in levels) for name in names)
    fixed = 2.0 * (matrices - chosen + head)
    return CostTable(names, costs, fixed, fixed + 2.0 * chosen)


def _head(architecture: Architecture, tensors: Mapping[str, TensorInfo]) -> int:
    """Multiplications of the output head, tied to the embedding or not."""
    shapes = [info.shape for info in tensors.values() if len(info.shape) == 2 and info.shape[0] == architecture.vocab_size]
    return math.prod(shapes[-1]) if shapes and not architecture.is_encoder else 0


def _bytes(
    levels: Sequence[Level], output_format: OutputFormat, architecture: Architecture, tensors: Mapping[str, TensorInfo]
) -> CostTable:
    rule = RULES.get(output_format) or BOUNDS.get(output_format)
    if rule is None:
        known = ", ".join([*RULES, *BOUNDS])
        raise InvalidOptions("output.format", f"nothing tells the bytes of {output_format} before it is written", known)
    names = layer_names(levels)
    planned = next(level.plan for level in levels if level.plan is not None)
    stored = {layer.name: _stored(layer, architecture, tensors) for layer in planned.targeted}
    costs = tuple(
        tuple(float(_layer_bytes(rule, level, index, stored[name])) for level in levels) for index, name in enumerate(names)
    )
    dense = float(sum(info.size_bytes for info in tensors.values()))
    rest = dense - sum(source.size_bytes for source in stored.values())
    return CostTable(names, costs, rest + _headers(output_format, levels, names, costs, rest, architecture, tensors), dense)


def _layer_bytes(rule: Rule, level: Level, index: int, source: Stored) -> int:
    if level.plan is None:
        return source.size_bytes
    return sum(part.size_bytes for part in rule(level.plan.targeted[index], source, level.plan).values())


def _headers(
    output_format: OutputFormat,
    levels: Sequence[Level],
    names: Sequence[str],
    costs: Sequence[Sequence[float]],
    rest: float,
    architecture: Architecture,
    tensors: Mapping[str, TensorInfo],
) -> float:
    """The most that the files' headers can take. They name every tensor, its shape and where it lies, so that they grow by
    digits: each tensor of the largest uniform choice is given room for the longest of these."""
    if output_format in BOUNDS:
        return HEADER_BYTES * (len(tensors) + MAX_PARTS * len(names))
    most = 0.0
    for index, level in enumerate(levels):
        if level.plan is None:
            continue
        whole = predicted_bytes(output_format, level.plan, architecture, tensors)
        assert whole is not None
        most = max(most, whole - rest - math.fsum(layer[index] for layer in costs))
    return most + DIGITS * (len(tensors) + MAX_PARTS * len(names))


def _stored(layer: PlannedLayer, architecture: Architecture, tensors: Mapping[str, TensorInfo]) -> Stored:
    name = stored_name(tensors, architecture, f"{layer.name}.weight")
    if name is None:
        raise InvalidOptions("goal", f"{layer.name} shares a tensor with other matrices, whose bytes cannot be told apart")
    return Stored(tensors[name].dtype, tensors[name].shape)


def _sparse_packed(layer: PlannedLayer, source: Stored, _: Plan) -> Mapping[str, Stored]:
    """The most that a matrix can take: its codes without a mask, which is written only where it saves space."""
    assert layer.options is not None
    (rows, columns), grid = layer.matrix.shape, layer.options.quantization
    if grid is None:
        kept = rows * columns - round(rows * columns * float(getattr(layer.options, "sparsity", 0.0)))
        masked = {"mask": Stored("U8", (rows, -(-columns // 8))), "values": Stored(source.dtype, (kept,))}
        is_masked = sum(part.size_bytes for part in masked.values()) < source.size_bytes
        return masked if is_masked else {"weight": source}
    groups, bits = columns // grid.group_size if isinstance(grid.group_size, int) else 1, code_bits(grid.bits)
    parts = {
        "bits": Stored("I32", (1,)),
        "scale": Stored("F16", (rows, groups)),
        "codes": Stored("I32", (-(-rows * columns * bits // 32) + 1,)),
        "group": Stored("I32", (columns,)),
    }
    return parts if grid.symmetric else parts | {"zero": Stored("F16", (rows, groups))}


BOUNDS: dict[str, Rule] = {"sparse-packed": _sparse_packed}
MAX_PARTS = 5  # tensors that a matrix is stored as
DIGITS = 16  # by which the header's entry of a tensor may be longer
HEADER_BYTES = 256  # of one entry, its name included
