"""The format `compressed-tensors` (pack-quantized): integer codes in 32-bit words along the inputs, one scale to each group.

docs/formats.md has the layout bit by bit. Scales are stored in the model's dtype, which holds them exactly.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from compression.families.base import Architecture
from compression.formats import rules_packed
from compression.formats.codes import Codes, middle
from compression.formats.export import Export, stored_dense, write_config, write_tensors
from compression.formats.packing import pack, unpack
from compression.formats.rules_packed import Layout
from compression.formats.stored import StoredMatrix
from compression.models.names import read_names
from compression.plan import Plan, PlannedLayer
from compression.weights import GridWeights, Weights


def write(export: Export) -> None:
    """Write the whole artifact folder but report and manifest."""
    is_symmetric = rules_packed.is_symmetric(export.plan)
    packed: set[str] = set()

    def pack_layer(layer: PlannedLayer, weights: Weights, storage_dtype: torch.dtype) -> Mapping[str, Tensor]:
        if not isinstance(weights, GridWeights):
            return stored_dense(layer, weights, storage_dtype)
        packed.add(layer.name)
        return pack_matrix(Codes.of(weights), storage_dtype, is_symmetric=is_symmetric)

    names = read_names(export.checkpoint)
    write_tensors(export, pack_layer, names.of_stored)
    config = quantization_config(export.plan, export.checkpoint.architecture, packed, names.linears)
    write_config(export, {"quantization_config": config})


def pack_matrix(codes: Codes, storage_dtype: torch.dtype, *, is_symmetric: bool) -> dict[str, Tensor]:
    """The tensors of one matrix by their last name. Args: is_symmetric: leave the zero points out."""
    tensors = {
        "weight_packed": pack(codes.codes_RC, codes.bits, dim=1),
        "weight_scale": codes.scale_RG.to(storage_dtype).contiguous(),
        "weight_shape": torch.tensor(codes.codes_RC.shape, dtype=torch.int64),
    }
    if is_symmetric:
        assert codes.is_symmetric
        return tensors
    return tensors | {"weight_zero_point": pack(codes.zero_RG, codes.bits, dim=0)}


def quantization_config(plan: Plan, architecture: Architecture, packed: set[str], linears: tuple[str, ...]) -> dict[str, Any]:
    """The entry of config.json.

    A single layout targets all Linear modules but the ignored ones; several name their matrices, and a module that no group
    names stays dense. `dequantize` is transformers' own switch, which other readers do not look at.

    Args: packed: names of the matrices that are stored as codes. linears: of all nn.Linear of the model.
    """
    is_symmetric = rules_packed.is_symmetric(plan)
    names: dict[Layout, list[str]] = {}
    for layer in plan.targeted:
        found = rules_packed.layout(layer.options) if layer.options and layer.name in packed else None
        if found is not None:
            names.setdefault(found, []).append(layer.name)
    groups = {
        f"group_{k}": {
            "targets": ["Linear"] if len(names) == 1 else targets,
            "weights": _scheme(found, is_symmetric),
            "input_activations": None,
            "output_activations": None,
        }
        for k, (found, targets) in enumerate(names.items())
    }
    return {
        "quant_method": "compressed-tensors",
        "format": "pack-quantized",
        "quantization_status": "compressed",
        "config_groups": groups,
        "ignore": [name for name in linears if name not in packed],
        "kv_cache_scheme": None,
        "global_compression_ratio": None,
    } | ({"dequantize": True} if rules_packed.unpacks_while_loading(plan, architecture) else {})


def read_matrix(folder: Path, layer: PlannedLayer) -> Tensor:
    """The values (R, C) of one matrix of a written artifact."""
    stored = StoredMatrix(folder, layer.name)
    if "weight" in stored.tensors:
        return stored.tensors["weight"]
    scheme = _scheme_of(stored.quantization_config, layer.name)
    bits, scale_RG = int(scheme["num_bits"]), stored.tensors["weight_scale"]
    rows, columns = stored.tensors["weight_shape"].tolist()
    zeros = stored.tensors.get("weight_zero_point")
    zero_RG = torch.full(scale_RG.shape, middle(bits)) if zeros is None else unpack(zeros, bits, rows, dim=0)
    group_size = columns if scheme["strategy"] == "channel" else int(scheme["group_size"])
    codes_RC = unpack(stored.tensors["weight_packed"], bits, columns, dim=1)
    return Codes(codes_RC, zero_RG, scale_RG, torch.arange(columns) // group_size, bits).to_dense()


def _scheme(found: Layout, is_symmetric: bool) -> dict[str, Any]:
    is_row = found.group_size == "row"
    return {
        "num_bits": found.bits,
        "type": "int",
        "symmetric": is_symmetric,
        "strategy": "channel" if is_row else "group",
        "group_size": None if is_row else found.group_size,
        "dynamic": False,
    }


def _scheme_of(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    groups = config["config_groups"].values()
    found: Mapping[str, Any] = next(group["weights"] for group in groups if {"Linear", name} & set(group["targets"]))
    return found
