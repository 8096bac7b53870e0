"""How much arithmetic each activity of a pass is, as a number that grows with its time: to carry measured rates over from one
job to another. Torch-free.

Units are multiply-adds, for reading and writing numbers of the model. They need no more than the right proportions: a rate
(seconds a unit) is measured for each device, activity and method, and absorbs the rest.

Shapes: R = out_features, C = in_features, V = vocabulary, D = hidden size.
"""

from collections.abc import Iterable, Mapping

from compression.estimate import WITHOUT_FACTOR, Sizing
from compression.exact.cost import FLOPS_PER_SECOND, obc_seconds
from compression.families.base import Matrix
from compression.options import ObcOptions
from compression.plan import PlannedLayer

HESSIAN_SHARE = 9 / 16  # of X^T X that is computed: the upper triangle, in eight strips
FEW_EXPERTS, ROUTED_TO_FEW, ROUTED_TO_MANY = 16, 2, 8  # experts that a token goes to, which an architecture does not tell
START_PARAMETERS = 1e8  # as many as take the time of starting the process that loads the artifact
ENCODING_UNITS = 300  # a byte of text is encoded in the time that so many weights are read and hashed in
SMALL_CHANGE = 1e7  # of preparing: configs and tokenizers are read, too
BY_METHOD = "solving"  # the activity whose rate depends on the method


def work_of(sizes: Sizing) -> Mapping[str, float]:
    """Units by activity, as the report's `seconds` names them."""
    moved = float(sizes.parameters)
    forward = sum(_active(sizes.architecture.block(k)) for k in range(sizes.architecture.blocks))
    return {
        "preparing": SMALL_CHANGE + moved + ENCODING_UNITS * sizes.load.longest_text_bytes,
        "loading": SMALL_CHANGE + moved,
        "calibrating": sizes.load.calibration_tokens * (_forwards(sizes) * forward + _hessians(sizes.plan.targeted)),
        "solving": sum(_solving(layer) for layer in sizes.plan.targeted) + _factors(sizes.plan.targeted),
        "evaluating": 2 * sizes.load.evaluation_tokens * (forward + _head(sizes)),
        "exporting": SMALL_CHANGE + moved,
        "verifying": START_PARAMETERS + moved,
    }


def method_of(sizes: Sizing) -> str:
    """The method that most weights are solved with."""
    counts: dict[str, int] = {}
    for layer in sizes.plan.targeted:
        if layer.options:
            rows, columns = layer.matrix.shape
            counts[layer.options.method] = counts.get(layer.options.method, 0) + rows * columns
    return max(counts, key=lambda method: counts[method])


def _forwards(sizes: Sizing) -> float:
    """Times that the calibration windows go through a block: once for each stage, and once more compressed."""
    recipe = sizes.plan.recipe
    stages = len({layer.matrix.stage for layer in sizes.plan.targeted}) if recipe.true_sequential else 1
    return stages + 1 + (2 if recipe.asymmetric_calibration else 0)


def _active(matrices: Iterable[Matrix]) -> float:
    """Weights that one token meets in a block."""
    matrices = tuple(matrices)
    experts = len({matrix.slot.index for matrix in matrices if matrix.slot})
    routed = ROUTED_TO_FEW if experts <= FEW_EXPERTS else ROUTED_TO_MANY
    share = min(1.0, routed / experts) if experts else 0.0
    return sum(matrix.shape[0] * matrix.shape[1] * (share if matrix.slot else 1.0) for matrix in matrices)


def _hessians(layers: Iterable[PlannedLayer]) -> float:
    """One token's part in all sums X^T X."""
    return HESSIAN_SHARE * sum(columns**2 for columns in _inputs(layers).values())


def _factors(layers: Iterable[PlannedLayer]) -> float:
    """A Cholesky factor and a triangular inverse of each Hessian, where the method needs them."""
    needing = [layer for layer in layers if layer.options and layer.options.method not in WITHOUT_FACTOR]
    return 2 / 3 * sum(columns**3 for columns in _inputs(needing).values())


def _inputs(layers: Iterable[PlannedLayer]) -> dict[tuple[int, str], int]:
    return {(layer.block, layer.matrix.reads): layer.matrix.shape[1] for layer in layers}


def _solving(layer: PlannedLayer) -> float:
    """The sweep, R C^2 / 2, or what exact solving takes, and twice R C^2 for the error."""
    options, (rows, columns) = layer.options, layer.matrix.shape
    assert options is not None
    error = 2.0 * rows * columns**2
    if isinstance(options, ObcOptions):
        seconds = obc_seconds(rows, columns, sparsity=options.sparsity, quantizes=options.bits is not None)
        return error + seconds * FLOPS_PER_SECOND / 2
    return error + (0 if options.method in WITHOUT_FACTOR else rows * columns**2 / 2)


def _head(sizes: Sizing) -> int:
    return 0 if sizes.architecture.is_encoder else sizes.architecture.vocab_size * sizes.hidden
