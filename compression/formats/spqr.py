"""The format `spqr`: 3-bit codes, their statistics and outliers as spqr-quant's kernel reads them.

docs/formats.md has the layout bit by bit. A tile of 16 rows and 16 columns is 16 words of 64 bits, one to each row; the four
float16 of a tile lie in the words of its rows, a byte to every two. Outliers are *added* to the value of their code, as the
kernel does, and columns are in the order of the sweep, in which the inputs are gathered.

Shapes: R = out_features, C = in_features in the order of the sweep, T = tiles down, G = tiles across.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from compression.errors import UnsupportedModel
from compression.formats.export import Export, write_config, write_tensors
from compression.formats.rules_spqr import BITS, TILE
from compression.formats.stored import StoredMatrix
from compression.models.checkpoint import Checkpoint
from compression.models.names import read_names
from compression.plan import Plan, PlannedLayer
from compression.spqr_weights import SpqrWeights
from compression.weights import Weights

# A word: the codes of scale, zero point and 16 weights, then a byte of the tile's statistics, then two idle bits.
META_SHIFT = BITS * (2 + TILE)
IN_FILE = [0, 2, 1, 3]  # of our (step, zero) of scales and (step, zero) of zero points: the file has both steps first


def check_source(checkpoint: Checkpoint, plan: Plan) -> None:
    """Refuse a bias on a matrix that would be packed: the reader's linear layer has none, and would drop it without a word.

    Raises: UnsupportedModel: naming it.
    """
    for layer in plan.targeted:
        if checkpoint.stored_name(f"{layer.name}.bias"):
            raise UnsupportedModel(
                f"{layer.name} has a bias, which spqr-quant's linear layer lacks; leave it alone (ignore), or write dense"
            )


def write(export: Export) -> None:
    """Write the whole artifact folder but report and manifest."""
    shapes: dict[str, int] = {}
    packed: set[str] = set()

    def pack_layer(layer: PlannedLayer, weights: Weights, _: torch.dtype) -> Mapping[str, Tensor]:
        assert isinstance(weights, SpqrWeights), "the method gives nothing else, in its fallback either"
        packed.add(layer.name)
        tensors = pack_matrix(weights)
        shapes.update({f"{layer.name}.{last}.shape": tensor.numel() for last, tensor in tensors.items()})
        return tensors

    names = read_names(export.checkpoint)
    write_tensors(export, pack_layer, names.of_stored)
    dense = [name for name in names.linears if name not in packed]
    config: dict[str, Any] = {
        "quant_method": "spqr",
        "bits": BITS,
        "beta1": TILE,
        "beta2": TILE,
        # transformers 5 compares names of modules, earlier ones names of weights
        "modules_to_not_convert": [*dense, *(f"{name}.weight" for name in dense)],
        "shapes": shapes,
    }
    write_config(export, {"quantization_config": config, **_half_precision(export.checkpoint.config)})


def read_matrix(folder: Path, layer: PlannedLayer) -> Tensor:
    """The values (R, C) of one matrix of a written artifact."""
    tensors = StoredMatrix(folder, layer.name).tensors
    if "weight" in tensors:  # left alone
        return tensors["weight"].T if layer.matrix.is_transposed else tensors["weight"]
    return unpack_matrix(tensors, *layer.matrix.shape).to_dense()


def pack_matrix(weights: SpqrWeights) -> dict[str, Tensor]:
    """The tensors of one matrix by their last name, all one-dimensional."""
    order = weights.codes_RC.new_empty(0) if weights.order_C is None else weights.order_C
    columns, values = weights.outlier_columns.to(torch.int16), weights.outlier_values.view(torch.int16)
    return {
        "dense_weights": _words(weights).flatten(),
        "row_offsets": weights.row_offsets,
        "col_vals": torch.stack([columns, values], -1).view(torch.int32).flatten(),  # the column is the low half
        "in_perm": order.to(torch.int16).view(torch.int32),
    }


def unpack_matrix(tensors: Mapping[str, Tensor], rows: int, columns: int) -> SpqrWeights:
    """The weights that the tensors of one matrix hold. Args: rows, columns: its shape."""
    words_TGK = tensors["dense_weights"].unflatten(0, (rows // TILE, columns // TILE, TILE))
    fields_TGKF = (words_TGK[..., None] >> (BITS * torch.arange(2 + TILE, device=words_TGK.device))) & (2**BITS - 1)
    fields = fields_TGKF.to(torch.uint8).transpose(1, 2).flatten(0, 1)  # (R, G, scale and zero and 16 weight codes)
    bytes_TGK = (words_TGK[..., ::2] >> META_SHIFT).to(torch.uint8)
    outliers = tensors["col_vals"].view(torch.int16).unflatten(0, (-1, 2))
    in_perm = tensors["in_perm"].view(torch.int16)
    return SpqrWeights(
        fields[..., 2:].flatten(1),
        fields[..., 0],
        fields[..., 1],
        bytes_TGK.view(torch.float16)[..., IN_FILE].movedim(-1, 0).contiguous(),
        tensors["row_offsets"],
        outliers[:, 0].to(torch.int32),
        outliers[:, 1].contiguous().view(torch.float16),
        in_perm.to(torch.int32) if len(in_perm) else None,
        BITS,
        TILE,
        TILE,
        (BITS, BITS),
    )


def _words(weights: SpqrWeights) -> Tensor:
    """int64 (T, G, 16): tiles of a band of 16 rows lie side by side, a word to each row of a tile."""
    codes = weights.codes_RC.unflatten(1, (-1, TILE))  # (R, G, 16)
    fields = torch.cat([weights.scale_codes_RG[..., None], weights.zero_codes_RG[..., None], codes], -1).long()
    words_RG = (fields << (BITS * torch.arange(2 + TILE, device=fields.device))).sum(-1)
    meta_TG4 = weights.meta_4TG[IN_FILE].movedim(0, -1).contiguous()
    bytes_TGK = meta_TG4.view(torch.uint8).repeat_interleave(2, -1).long()
    words_TGK: Tensor = words_RG.reshape(-1, TILE, words_RG.shape[1]).transpose(1, 2) | (bytes_TGK << META_SHIFT)
    return words_TGK


def _half_precision(config: Mapping[str, Any]) -> dict[str, str]:
    """The reader computes in float16 and refuses every other dtype."""
    return dict.fromkeys(["dtype", *(["torch_dtype"] if "torch_dtype" in config else [])], "float16")
