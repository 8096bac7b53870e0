"""A plain pass over a whole model in memory, which the streaming pass must equal bit for bit."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from compression import methods  # noqa: F401  registers the solvers
from compression.block import alike, scale_dtype
from compression.hessian import Accumulator, Hessian
from compression.inputs import by_input, hessian_of
from compression.layer import LayerProblem
from compression.models.auto import AUTO_CLASSES
from compression.models.checkpoint import Checkpoint
from compression.plan import PlannedLayer, plan
from compression.recipe import parse_recipe, resolve
from compression.registry import solve_together


@torch.inference_mode()
def compress_in_memory(folder: Path, recipe: dict[str, Any], calibration_WL: Tensor) -> Any:
    """The whole model in memory, one full forward of every window for each block (and stage) before it is solved."""
    architecture = Checkpoint(folder).architecture
    model = AUTO_CLASSES[architecture.task].from_pretrained(folder, dtype=torch.float32).eval()
    planned = plan(resolve(parse_recipe(recipe)), architecture)
    if recipe.get("inputs") == "dense":
        hessians = whole_model_hessians(model, list(planned.targeted), calibration_WL)
        for block in range(architecture.blocks):
            for readers in by_input(layer for layer in planned.block(block) if layer.options).values():
                for together in alike(readers, lambda _: torch.float32):
                    solve_in_place(model, together, hessians[readers[0].name])
        return model
    for block in range(architecture.blocks):
        layers = [layer for layer in planned.block(block) if layer.options]
        every_stage = sorted({layer.matrix.stage for layer in layers}) if recipe.get("true_sequential") else [None]
        for stage in every_stage:
            group = [layer for layer in layers if stage is None or layer.matrix.stage == stage]
            hessians = whole_model_hessians(model, group, calibration_WL)
            for readers in by_input(group).values():
                for together in alike(readers, lambda _: torch.float32):
                    solve_in_place(model, together, hessians[readers[0].name])
    return model


def solve_in_place(model: PreTrainedModel, layers: list[PlannedLayer], hessian: Hessian) -> None:
    matrices = [whole_model_matrix(model, layer) for layer in layers]
    problems = [
        LayerProblem(layer.name, weight_RC.float(), hessian, scale_dtype(torch.float32))
        for layer, weight_RC in zip(layers, matrices, strict=True)
    ]
    assert layers[0].options is not None
    for weight_RC, solution in zip(matrices, solve_together(problems, layers[0].options), strict=True):
        weight_RC.copy_(solution.weights.to_dense())


def whole_model_matrix(model: PreTrainedModel, layer: PlannedLayer) -> Tensor:
    """The matrix inside the parameters of the model, as rows of outputs."""
    slot = layer.matrix.slot
    if slot is None:
        weight = model.get_submodule(layer.name).get_parameter("weight")
        return weight.T if layer.matrix.is_transposed else weight
    fused = model.get_parameter(layer.name.removesuffix(layer.matrix.name) + slot.parameter)
    return fused[slot.index][slot.rows[0] : slot.rows[1]]


def whole_model_hessians(model: PreTrainedModel, group: list[PlannedLayer], windows_WL: Tensor) -> dict[str, Hessian]:
    """One Hessian for each matrix. Of a mixture, the expert is run by itself on the tokens that name it."""
    accumulators = {layer.name: Accumulator(layer.matrix.shape[1], torch.device("cpu")) for layer in group}

    def listen(layer: PlannedLayer) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        slot, to = layer.matrix.slot, accumulators[layer.name]
        if slot is None:
            return lambda _, args: to.add(args[0])

        def hook(experts: Any, args: tuple[Any, ...]) -> None:
            rows = [row for row, chosen in enumerate(args[1].tolist()) if slot.index in chosen]
            X_NC = args[0][rows]
            if slot.is_second:
                gate, up = (X_NC @ experts.gate_up_proj[slot.index].T).chunk(2, dim=-1)
                X_NC = experts.act_fn(gate) * up
            to.add(X_NC)

        return hook

    handles = []
    for layer in group:
        inside = layer.matrix.slot.module if layer.matrix.slot else layer.matrix.name
        module = model.get_submodule(layer.name.removesuffix(layer.matrix.name) + inside)
        handles.append(module.register_forward_pre_hook(listen(layer)))
    for window_L in windows_WL:
        model(input_ids=window_L[None], **({"use_cache": False} if model.can_generate() else {}))
    for handle in handles:
        handle.remove()
    return {layer.name: hessian_of(accumulators[layer.name], layer.name, layer.matrix) for layer in group}
