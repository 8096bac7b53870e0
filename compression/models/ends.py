"""Embedding and head in 8 bits, rounded to nearest. Shapes: V = vocabulary, D = hidden size, G = groups in a row.

The file holds codes on the grid of GGUF's Q8_0: scale = max |w| / 127 over 32 neighbours, codes -127 .. 127. A pass that
writes such a file must run its compressed streams through the rounded values; both sides round here.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from compression.block import scale_dtype
from compression.grids import SMALLEST_SCALE
from compression.models.checkpoint import Checkpoint
from compression.models.skeleton import frozen, parameters_on_meta
from compression.options import Bits
from compression.weights import GridWeights

BITS: Bits = 8
LARGEST, MIDDLE = 127, 128
GROUP_SIZE = 32
ROWS_AT_ONCE = 4096  # so that the work needs little more memory than its result


def round_end(weight_VD: Tensor, scale_dtype: torch.dtype) -> GridWeights:
    """Round to the nearest of 255 values in groups of 32, or whole rows where 32 does not divide D.

    Args: scale_dtype: the dtype that scales are rounded to before the codes are chosen.
    """
    width = weight_VD.shape[1]
    size = GROUP_SIZE if width % GROUP_SIZE == 0 else width
    parts = [_round_rows(rows.float().unflatten(1, (-1, size)), scale_dtype) for rows in weight_VD.split(ROWS_AT_ONCE)]
    scale_VG = torch.cat([scale for scale, _ in parts])
    group_D = torch.arange(width, dtype=torch.int32, device=weight_VD.device) // size
    codes_VD = torch.cat([codes for _, codes in parts])
    return GridWeights(codes_VD, scale_VG, torch.full_like(scale_VG, MIDDLE), group_D, BITS)


def _round_rows(W_RGS: Tensor, scale_dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    scale_RG = (W_RGS.abs().amax(-1) / LARGEST).to(scale_dtype).float().clamp_(min=SMALLEST_SCALE[scale_dtype])
    codes_RGS = (W_RGS / scale_RG[..., None]).round_().clamp_(-LARGEST, LARGEST)
    return scale_RG, (codes_RGS + MIDDLE).to(torch.uint8).flatten(1)


class RoundedEnds:
    """Embedding and head of a model, dense and rounded, and the means to change between them.

    Args:
        model: with its dense weights, on its device.
        storage_dtype: of a parameter, by its name in the model.
    """

    def __init__(self, model: PreTrainedModel, storage_dtype: Callable[[str], torch.dtype]) -> None:
        rounded: dict[int, nn.Parameter] = {}
        self._swaps: list[tuple[nn.Module, nn.Parameter, nn.Parameter]] = []
        for name, module in end_modules(model):
            dense = module.get_parameter("weight")
            if id(dense) not in rounded:  # tied ones stay tied
                stored = storage_dtype(name)
                values = round_end(dense, scale_dtype(stored)).to_dense().to(stored).to(dense.dtype)
                rounded[id(dense)] = frozen(values)
            self._swaps.append((module, dense, rounded[id(dense)]))

    @contextmanager
    def installed(self) -> Iterator[None]:
        """While inside, the model embeds and predicts with the rounded weights."""
        for module, _, rounded in self._swaps:
            module._parameters["weight"] = rounded
        try:
            yield
        finally:
            for module, dense, _ in self._swaps:
                module._parameters["weight"] = dense


@contextmanager
def predicting(head: nn.Module, part: slice) -> Iterator[None]:
    """While inside, the head gives the logits of this part of the vocabulary alone."""
    whole = {name: parameter for name, parameter in head._parameters.items() if parameter is not None}
    for name, parameter in whole.items():  # a weight, and of some families a bias: a row for each token
        head._parameters[name] = frozen(parameter[part])
    try:
        yield
    finally:
        head._parameters.update(whole)


def end_modules(model: PreTrainedModel) -> list[tuple[str, nn.Module]]:
    """Embedding and, where the model has one, head: each with the name of its weight; tied ones have one name."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    ends = (model.get_input_embeddings(), model.get_output_embeddings())
    return [(names[id(module.get_parameter("weight"))], module) for module in ends if module is not None]


def stored_ends(checkpoint: Checkpoint) -> tuple[str, ...]:
    """Names of the tensors that hold embedding and head, as the checkpoint spells them; a tied head has none."""
    config = AutoConfig.from_pretrained(checkpoint.folder, trust_remote_code=False)
    with parameters_on_meta():
        model = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    stored = [checkpoint.stored_name(name) for name, _ in end_modules(model)]
    return tuple(dict.fromkeys(name for name in stored if name is not None))
