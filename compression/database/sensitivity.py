"""How much each matrix matters: what the whole model's loss rises by for a unit of its relative error.

For small errors the rise of the loss is linear in each matrix's relative error, and the rises of several matrices add up
(the linearity theorem of arXiv:2411.17525, there for errors of weights). So one measurement a matrix, at one level with all
else dense, tells how its errors at all levels weigh. All of them are measured in one walk over the model: a window is copied
for each matrix, goes through that matrix's compressed version in its own block and through dense blocks otherwise.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import torch
from torch import Tensor

from compression.block import install, matrix_weight
from compression.database.files import SENSITIVITIES_FILE, Database
from compression.divergence import Divergence
from compression.durable import write_durably
from compression.events import ActivityStarted, OnEvent
from compression.lanes import Lane, enter
from compression.models.activations import Spill, Stream
from compression.models.streamed import StreamedModel

LEAST_ERROR = 1e-12
TOKENS = 256  # of the window; more change the measured order of matrices little, and each costs a run through half the model


def sensitivities(
    model: StreamedModel, database: Database, ids_1L: Tensor, spill: Spill, compute_dtype: torch.dtype, on_event: OnEvent
) -> tuple[float, ...]:
    """Rise of the loss by relative error, by matrix; kept with the database.

    Args: ids_1L: token ids of one window; its first `TOKENS` are used.
    Raises: InvalidOptions: the database is damaged. NumericalError.
    """
    path = database.folder / SENSITIVITIES_FILE
    kept = _kept(path, database.names)
    if kept is not None:
        return kept
    found = _measured(model, database, ids_1L[:, :TOKENS], spill, compute_dtype, on_event)
    write_durably(path, json.dumps(dict(zip(database.names, found, strict=True)), indent=1).encode() + b"\n")
    return found


def _kept(path: Path, names: Sequence[str]) -> tuple[float, ...] | None:
    try:
        found = json.loads(path.read_bytes())
        return tuple(float(found[name]) for name in names)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def probed_level(database: Database) -> int:
    """The level that is measured with: the one in the middle of those that are not dense, by their median error."""
    typical = {
        number: median(levels[number] for levels in database.errors)
        for number, level in enumerate(database.levels)
        if level.plan is not None
    }
    return sorted(typical, key=lambda number: typical[number])[len(typical) // 2]


@torch.inference_mode()
def _measured(
    model: StreamedModel, database: Database, ids_1L: Tensor, spill: Spill, compute_dtype: torch.dtype, on_event: OnEvent
) -> tuple[float, ...]:
    level, blocks = probed_level(database), database.architecture.blocks
    profile = [level] * len(database.planned)
    entered = enter(model, ids_1L, spill)
    (length, hidden), copies = entered.stream.states_WLD.shape[1:], len(database.planned)
    stream = Stream(1 + copies, length, hidden, model.compute_dtype, spill, model.device)
    stream[0] = entered.stream[0]
    begun = 1  # windows that are on their way: the dense one, and those of the blocks before
    for index in range(blocks):
        on_event(ActivityStarted(activity="evaluating", block=index + 1, blocks=blocks))
        block = model.load_block(index)
        try:
            layers = [layer for layer in database.planned if layer.block == index]
            for copy in range(begun, begun + len(layers)):
                stream[copy] = stream[0]
            weights, _ = database.block(index, profile)
            for number, layer in enumerate(layers):
                dense_RC = matrix_weight(block, layer).clone()
                install(block, layer, weights[layer.name], model.storage_dtype_of(layer))
                _advance(model, block, index, entered, stream, range(begun + number, begun + number + 1), compute_dtype)
                matrix_weight(block, layer).copy_(dense_RC)
            _advance(model, block, index, entered, stream, range(begun), compute_dtype)
            begun += len(layers)
        finally:
            model.free_block(index)
    windows = [Stream.of(stream.states_WLD[copy : copy + 1], model.device) for copy in range(1 + copies)]
    judge = Divergence(model, windows[0], compute_dtype)
    risen = []
    for window in windows[1:]:
        on_event(ActivityStarted(activity="evaluating", block=0, blocks=blocks))  # whoever wants to stop is heard in between
        risen.append(judge.of(window))
    errors = [levels[level] for levels in database.errors]
    return tuple(max(rise, 0.0) / max(error, LEAST_ERROR) for rise, error in zip(risen, errors, strict=True))


def _advance(
    model: StreamedModel,
    block: torch.nn.Module,
    index: int,
    entered: Lane,
    stream: Stream,
    windows: range,
    compute_dtype: torch.dtype,
) -> None:
    """Some windows of the stream, through the block as it is."""
    part = Stream.of(stream.states_WLD[windows.start : windows.stop], model.device)
    Lane(part, entered.calls).advance(model, block, index, compute_dtype)
