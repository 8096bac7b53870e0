"""Recipe + architecture -> what happens to each matrix, decided and checked before any weight is read. Torch-free."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase

from compression.errors import InvalidOptions
from compression.exact import cost
from compression.families.base import Architecture, Matrix
from compression.options import LayerOptions, ObcOptions
from compression.recipe import ResolvedRecipe

DEFAULT_SEQLEN = 2048
DEFAULT_GROUP_SIZES = (128, 64, 32)
MAX_NAMED = 8  # matrices in a refusal
IN_RECIPE = "left alone by the recipe"


@dataclass(frozen=True)
class PlannedLayer:
    """One matrix and its fate: `options`, or the reason it is left alone."""

    name: str
    block: int
    matrix: Matrix
    options: LayerOptions | None
    skipped: str | None = None


@dataclass(frozen=True)
class Plan:
    layers: tuple[PlannedLayer, ...]
    recipe: ResolvedRecipe  # group sizes filled in

    def block(self, index: int) -> tuple[PlannedLayer, ...]:
        return tuple(layer for layer in self.layers if layer.block == index)

    @property
    def targeted(self) -> tuple[PlannedLayer, ...]:
        return tuple(layer for layer in self.layers if layer.options is not None)


def plan(recipe: ResolvedRecipe, architecture: Architecture) -> Plan:
    """Decide every matrix of every block.

    Raises: InvalidOptions: a pattern that matches nothing, a block out of range, widths that n:m or a group does not divide,
        or nothing left to compress.
    """
    skipped_blocks = _skipped_blocks(recipe, architecture.blocks)
    matrices = [(k, matrix) for k in range(architecture.blocks) for matrix in architecture.block(k)]
    _check_patterns(recipe, [architecture.module_name(k, matrix) for k, matrix in matrices])
    layers = [_fate(recipe, architecture, k, matrix, skipped_blocks) for k, matrix in matrices]
    if not any(layer.options for layer in layers):
        raise InvalidOptions("recipe", "nothing is left to compress: ignore, overrides and skip_blocks cover every matrix")
    if recipe.asymmetric_calibration and any(matrix.slot for _, matrix in matrices):
        reason = "the dense and the compressed model route other tokens to an expert, so that there is nothing to compare"
        raise InvalidOptions("recipe.asymmetric_calibration", reason, "0 for mixtures of experts")
    layers, group_size = settle(layers)
    return Plan(tuple(layers), _resolved(recipe, group_size))


def settle(layers: list[PlannedLayer]) -> tuple[list[PlannedLayer], int | None]:
    """Fill in the default group size, None for whole rows; check that groups and patterns fit every width, and what obc costs.

    Raises: InvalidOptions: naming the option, the matrix and what would fit.
    """
    group_size = _default_group_size(layers)
    layers = [_with_group_size(layer, group_size) for layer in layers]
    _check_widths(layers)
    _check_cost(layers)
    return layers, group_size


def window_length(field: str, seqlen: int | None, architecture: Architecture) -> int:
    """The seqlen that a calibration or evaluation uses: as asked, else the papers' 2048, within the model's positions.

    Raises: InvalidOptions: beyond the model's positions.
    """
    return length_within(field, seqlen, architecture.max_positions)


def length_within(field: str, seqlen: int | None, positions: int) -> int:
    """The same for a model of which no more than its longest window is known."""
    if seqlen is None:
        return min(DEFAULT_SEQLEN, positions)
    if seqlen > positions:
        raise InvalidOptions(field, f"{seqlen} exceeds the model's {positions} positions", f"<= {positions}")
    return seqlen


def _skipped_blocks(recipe: ResolvedRecipe, blocks: int) -> set[int]:
    for index in recipe.skip_blocks:
        if not -blocks <= index < blocks:
            raise InvalidOptions("recipe.skip_blocks", f"the model has no block {index}", f"{-blocks} to {blocks - 1}")
    return {index % blocks for index in recipe.skip_blocks}


def _check_patterns(recipe: ResolvedRecipe, names: list[str]) -> None:
    fields = [("recipe.ignore", pattern) for pattern in recipe.ignore]
    fields += [("recipe.overrides", pattern) for pattern in recipe.overrides]
    for field, pattern in fields:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise InvalidOptions(field, f"pattern {pattern!r} matches no module", f"patterns over names such as {names[0]}")


def _fate(
    recipe: ResolvedRecipe, architecture: Architecture, k: int, matrix: Matrix, skipped_blocks: set[int]
) -> PlannedLayer:
    name = architecture.module_name(k, matrix)
    if matrix.kept_dense:
        return PlannedLayer(name, k, matrix, None, matrix.kept_dense)
    if k in skipped_blocks:
        return PlannedLayer(name, k, matrix, None, f"{IN_RECIPE} (skip_blocks)")
    for pattern in recipe.ignore:
        if fnmatchcase(name, pattern):
            return PlannedLayer(name, k, matrix, None, f"{IN_RECIPE} (ignore {pattern})")
    options: LayerOptions | None = recipe.options
    reason = None
    for pattern, override in recipe.overrides.items():
        if fnmatchcase(name, pattern):
            options, reason = override, f"{IN_RECIPE} (overrides {pattern})"
    return PlannedLayer(name, k, matrix, options, None if options else reason)


def _default_group_size(layers: list[PlannedLayer]) -> int | None:
    """The largest of 128, 64, 32 that divides every width that takes the default and that n:m tiles; None: whole rows."""
    pairs = [(layer.matrix.shape[1], layer.options.tile) for layer in layers if layer.options and _is_ungrouped(layer.options)]
    fitting = (size for size in DEFAULT_GROUP_SIZES if pairs and all(width % size == size % m == 0 for width, m in pairs))
    return next(fitting, None)


def _is_ungrouped(options: LayerOptions) -> bool:
    """Whether it quantises and leaves the group size to the model's widths."""
    return options.quantization is not None and options.quantization.group_size is None


def _grouped(options: LayerOptions, group_size: int | None) -> LayerOptions:
    if _is_ungrouped(options):
        return options.model_copy(update={"group_size": group_size or "row"})
    return options


def _with_group_size(layer: PlannedLayer, group_size: int | None) -> PlannedLayer:
    options = _grouped(layer.options, group_size) if layer.options else None
    return PlannedLayer(layer.name, layer.block, layer.matrix, options, layer.skipped)


def _resolved(recipe: ResolvedRecipe, group_size: int | None) -> ResolvedRecipe:
    overrides = {name: _grouped(o, group_size) if o else None for name, o in recipe.overrides.items()}
    return recipe.model_copy(update={"options": _grouped(recipe.options, group_size), "overrides": overrides})


def _check_widths(layers: list[PlannedLayer]) -> None:
    faults: dict[tuple[str, int, int], list[PlannedLayer]] = {}
    for layer in layers:
        width = layer.matrix.shape[1]
        for option, size in _tiles(layer.options):
            if width % size:
                faults.setdefault((option, size, width), []).append(layer)
    for (option, size, width), unfit in faults.items():
        fitting = [str(s) for s in sorted(_divisors(layers)) if s >= 16]
        allowed = f"m that divides {width}"
        if option == "group_size":
            allowed = f"sizes that fit every targeted matrix: {', '.join([*fitting, 'row'])}"
        raise InvalidOptions(f"recipe.{option}", f"{size} does not divide the {width} inputs of {_names(unfit)}", allowed)


def _names(layers: list[PlannedLayer]) -> str:
    """`model.layers.*.mlp.up_proj, ...`: one pattern for what is alike in every block, the name where there is only one."""
    names = [layer.name for layer in layers]
    patterns = list(dict.fromkeys(re.sub(r"\.\d+(?=\.|$)", ".*", name) for name in names)) if len(names) > 1 else names
    more = len(patterns) - MAX_NAMED
    return ", ".join(patterns[:MAX_NAMED]) + (f" and {more} more" if more > 0 else "")


def _check_cost(layers: list[PlannedLayer]) -> None:
    """Refuse exact solving that would take absurdly long, one matrix or all together, unless it is forced."""
    needs = [
        (cost.obc_seconds(*layer.matrix.shape, sparsity=options.sparsity, quantizes=options.bits is not None), layer)
        for layer in layers
        if isinstance(options := layer.options, ObcOptions) and not options.force
    ]
    if not needs:
        return
    longest_s, layer = max(needs, key=lambda need: need[0])
    total_s = sum(seconds for seconds, _ in needs)
    rows, columns = layer.matrix.shape
    one = f"{cost.in_words(longest_s)} on one core for {layer.name} ({rows} x {columns})"
    cure = "force: true, or the faster methods sparsegpt, optq and joint"
    if longest_s > cost.MAX_MATRIX_S:
        reason = f"obc would need {one}; the limit for a matrix is {cost.in_words(cost.MAX_MATRIX_S)}"
        raise InvalidOptions("recipe.method", reason, cure)
    if total_s > cost.MAX_TOTAL_S:
        reason = f"obc would need {cost.in_words(total_s)} on one core for {len(needs)} matrices, among it {one}"
        raise InvalidOptions("recipe.method", f"{reason}; the limit is {cost.in_words(cost.MAX_TOTAL_S)}", cure)


def _tiles(options: LayerOptions | None) -> Iterator[tuple[str, int]]:
    if options is None:
        return
    if options.tile > 1:
        yield "pattern", options.tile
    if options.quantization and isinstance(options.quantization.group_size, int):
        yield "group_size", options.quantization.group_size


def _divisors(layers: list[PlannedLayer]) -> set[int]:
    """Powers of two up to 1024 that divide every targeted width."""
    widths = {layer.matrix.shape[1] for layer in layers if layer.options}
    return {2**e for e in range(11) if all(width % 2**e == 0 for width in widths)}
