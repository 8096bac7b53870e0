"""The format `gptq`: integer codes in 32-bit words along the inputs, stored as (inputs, outputs), and a group to each input.

docs/formats.md has the layout bit by bit. Symmetric grids are written as version 1, whose zero points are stored less one;
asymmetric ones as version 2, because version 1 cannot hold a zero point of 0 (fields would borrow from each other).
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import compression
from compression.families.base import Architecture
from compression.formats import rules_packed
from compression.formats.codes import Codes
from compression.formats.export import Export, stored_dense, write_config, write_json, write_tensors
from compression.formats.packing import pack, unpack
from compression.formats.rules_packed import Layout
from compression.formats.stored import StoredMatrix
from compression.models.names import read_names
from compression.plan import Plan, PlannedLayer
from compression.weights import GridWeights, Weights

V1, V2 = "gptq", "gptq_v2"
CONFIG_FILE = "quantize_config.json"


def write(export: Export) -> None:
    """Write the whole artifact folder but report and manifest."""
    version = V1 if rules_packed.is_symmetric(export.plan) else V2
    packed: set[str] = set()

    def pack_layer(layer: PlannedLayer, weights: Weights, storage_dtype: torch.dtype) -> Mapping[str, Tensor]:
        if not isinstance(weights, GridWeights):
            return stored_dense(layer, weights, storage_dtype)
        packed.add(layer.name)
        return pack_matrix(Codes.of(weights), scale_dtype(storage_dtype), version)

    write_tensors(export, pack_layer, read_names(export.checkpoint).of_stored)
    config = quantization_config(export.plan, export.checkpoint.architecture, packed)
    write_config(export, {"quantization_config": config})
    write_json(export.folder / CONFIG_FILE, config)


def scale_dtype(storage_dtype: torch.dtype) -> torch.dtype:
    """Half precision, as the kernels want it; every solved scale is exact in it."""
    return torch.float16 if storage_dtype in (torch.float32, torch.float64) else storage_dtype


def pack_matrix(codes: Codes, dtype: torch.dtype, version: str) -> dict[str, Tensor]:
    """The tensors of one matrix by their last name."""
    zero_RG = codes.zero_RG
    if version == V1:
        assert bool((zero_RG > 0).all())
        zero_RG = zero_RG - 1
    return {
        "qweight": pack(codes.codes_RC.T, codes.bits, dim=0),
        "qzeros": pack(zero_RG.T, codes.bits, dim=1),
        "scales": codes.scale_RG.T.to(dtype).contiguous(),
        "g_idx": codes.group_C.to(torch.int32).contiguous(),
    }


def quantization_config(plan: Plan, architecture: Architecture, packed: set[str]) -> dict[str, Any]:
    """What quantize_config.json and the entry of config.json say.

    Matrices unlike most have a rule in `dynamic`, which gptqmodel and vLLM read. Those that stay dense are in `dynamic` too,
    and the packed ones in `modules_in_block_to_quantize`, which is what optimum and so transformers read.

    Args: packed: names of the matrices that are stored as codes.
    """
    main, is_symmetric = rules_packed.main_layout(plan), rules_packed.is_symmetric(plan)
    rules = {pattern: rule for layer in plan.layers for pattern, rule in _rules(layer, main, layer.name in packed)}
    stays_dense = any(pattern.startswith("-:") for pattern in rules)
    return (
        {"quant_method": "gptq"}
        | _numbers(main)
        | {
            "desc_act": any(rules_packed.has_dynamic_groups(layer.options) for layer in plan.targeted),
            "sym": is_symmetric,
            "true_sequential": plan.recipe.true_sequential,
            "lm_head": False,
            "checkpoint_format": V1 if is_symmetric else V2,
            "pack_dtype": "int32",
            "block_name_to_quantize": architecture.block_path,  # optimum guesses it otherwise, and does not know all families
            "meta": {"quantizer": [f"scalpel:{compression.__version__}"]},
        }
        | ({"dynamic": rules} if rules else {})
        | ({"modules_in_block_to_quantize": [sorted(packed)]} if stays_dense else {})
    )


def read_matrix(folder: Path, layer: PlannedLayer) -> Tensor:
    """The values (R, C) of one matrix of a written artifact."""
    stored = StoredMatrix(folder, layer.name)
    if "weight" in stored.tensors:
        weight = stored.tensors["weight"]
        return weight.T if layer.matrix.is_transposed else weight
    config, bits = stored.quantization_config, _bits(stored.quantization_config, layer.name)
    scale_RG, group_C = stored.tensors["scales"].T, stored.tensors["g_idx"]
    codes_RC = unpack(stored.tensors["qweight"], bits, len(group_C), dim=0).T
    zero_RG = unpack(stored.tensors["qzeros"], bits, len(scale_RG), dim=1).T
    return Codes(codes_RC, zero_RG + (config["checkpoint_format"] == V1), scale_RG, group_C, bits).to_dense()


def _rules(layer: PlannedLayer, main: Layout, is_packed: bool) -> list[tuple[str, dict[str, Any]]]:
    """The rule of `dynamic` that a matrix needs, if any: pattern (matched from the start of the name) and what differs."""
    name = f"{re.escape(layer.name)}$"
    if not is_packed:
        return [(f"-:{name}", {})]
    found = rules_packed.layout(layer.options) if layer.options else None
    return [] if found is None or found == main else [(f"+:{name}", _numbers(found))]


def _numbers(layout: Layout) -> dict[str, Any]:
    return {"bits": layout.bits, "group_size": -1 if layout.group_size == "row" else layout.group_size}


def _bits(config: Mapping[str, Any], name: str) -> int:
    rules = config.get("dynamic", {}).items()
    matching = (rule["bits"] for pattern, rule in rules if re.match(pattern.removeprefix("+:"), name))
    return int(next(matching, config["bits"]))
