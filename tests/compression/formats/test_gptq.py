"""The format gptq against a reading of its words bit by bit. scripts/check-formats.sh loads such files with gptqmodel."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor

from compression.errors import InvalidOptions
from compression.formats.codes import Codes
from compression.formats.gptq import V1, V2, pack_matrix
from compression.weights import GridWeights
from tests.compression.examples import few
from tests.compression.formats.exported import export, grid_weights, planned, source
from tests.compression.problems import seeded

BITS = [2, 3, 4, 8, "ternary"]


def field(words: list[int], number: int, bits: int) -> int:
    """Field `number` of a stream of words, bit by bit."""
    places = range(number * bits, (number + 1) * bits)
    return sum((words[place // 32] >> place % 32 & 1) << k for k, place in enumerate(places))


def read_bit_by_bit(tensors: dict[str, Tensor], bits: int, version: str) -> Tensor:
    """Values (R, C) by the layout's definition: loops over single weights, plain integers."""
    g_idx, scales = tensors["g_idx"].tolist(), tensors["scales"].float()
    columns, rows = len(g_idx), scales.shape[1]
    values_RC = torch.empty(rows, columns)
    for o in range(rows):
        down = tensors["qweight"][:, o].tolist()
        for i in range(columns):
            zero = field(tensors["qzeros"][g_idx[i]].tolist(), o, bits)
            zero = zero + 1 if version == V1 else zero
            values_RC[o, i] = scales[g_idx[i], o] * (field(down, i, bits) - zero)
    return values_RC


def stored(folder: Path) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for shard in folder.glob("*.safetensors"):
        found |= load_file(shard)
    return found


def config_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "config.json").read_text())["quantization_config"]
    return found


def matrix(tensors: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    return {last: tensors[f"{name}.{last}"] for last in ("qweight", "qzeros", "scales", "g_idx")}


@few
@given(bits=st.sampled_from(BITS), is_symmetric=st.booleans(), is_scattered=st.booleans(), seed=st.integers(0, 5))
def test_words_hold_the_very_values(bits: Any, is_symmetric: bool, is_scattered: bool, seed: int) -> None:
    weights = grid_weights(32, 64, bits, 16, is_symmetric=is_symmetric, seed=seed)
    if is_scattered:
        group_C = weights.group_C[torch.randperm(64, generator=seeded(seed))]
        weights = GridWeights(weights.codes_RC, weights.scale_RG, weights.zero_RG, group_C, bits)
    version = V1 if is_symmetric else V2
    codes = Codes.of(weights)
    tensors = pack_matrix(codes, torch.float16, version)
    assert {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in tensors.items()} == {
        "qweight": ((2 * codes.bits, 32), torch.int32),
        "qzeros": ((4, codes.bits), torch.int32),
        "scales": ((4, 32), torch.float16),
        "g_idx": ((64,), torch.int32),
    }
    assert torch.equal(read_bit_by_bit(tensors, codes.bits, version), weights.to_dense())


def test_symmetric_zero_points_are_the_words_that_everybody_writes() -> None:
    weights = grid_weights(32, 32, 4, 32, is_symmetric=True)
    words = {version: pack_matrix(Codes.of(weights), torch.float16, version)["qzeros"] for version in (V1, V2)}
    assert {version: {word & 0xFFFFFFFF for word in tensor[0].tolist()} for version, tensor in words.items()} == {
        V1: {0x77777777},
        V2: {0x88888888},
    }


@pytest.mark.parametrize(
    ("recipe", "dtype"),
    [
        ({"bits": 4, "group_size": 32}, torch.float16),
        ({"bits": 3, "group_size": 16, "symmetric": False}, torch.bfloat16),
        ({"bits": 4, "group_size": 16, "static_groups": False, "symmetric": False}, torch.float32),
        ({"bits": 8, "group_size": "row", "pattern": "2:4"}, torch.float16),
    ],
    ids=["4 bit", "3 bit asymmetric", "dynamic act-order", "2:4 and 8 bit rows"],
)
def test_artifact_holds_what_the_dense_one_of_the_same_solution_holds(
    recipe: dict[str, Any], dtype: torch.dtype, tmp_path: Path
) -> None:
    model = source(tmp_path / "model", "llama-wide", dtype)
    report = export(model, tmp_path / "packed", "gptq", recipe)
    export(model, tmp_path / "dense", "dense", {"symmetric": True, **recipe})
    packed, dense, config = stored(tmp_path / "packed"), stored(tmp_path / "dense"), config_of(tmp_path / "packed")
    name = "model.layers.1.self_attn.k_proj"
    values_RC = read_bit_by_bit(matrix(packed, name), config["bits"], config["checkpoint_format"])
    assert torch.equal(values_RC.to(dtype), dense[f"{name}.weight"])
    assert packed[f"{name}.scales"].dtype == (torch.float16 if dtype == torch.float32 else dtype)
    assert f"{name}.weight" not in packed
    assert config["group_size"] == (-1 if recipe["group_size"] == "row" else recipe["group_size"])
    assert config["sym"] == (config["checkpoint_format"] == V1) == recipe.get("symmetric", True)
    assert config == json.loads((tmp_path / "packed" / "quantize_config.json").read_text())
    assert report.sizes.artifact_bytes < report.sizes.source_bytes


def test_dynamic_act_order_scatters_the_groups_and_says_so(tmp_path: Path) -> None:
    recipe = {"bits": 4, "group_size": 16, "static_groups": False}
    model = source(tmp_path / "model", "llama-wide")
    export(model, tmp_path / "scattered", "gptq", recipe)
    export(model, tmp_path / "static", "gptq", {"bits": 4, "group_size": 16})
    assert [config_of(tmp_path / name)["desc_act"] for name in ("scattered", "static")] == [True, False]
    g_idx = stored(tmp_path / "scattered")["model.layers.0.self_attn.q_proj.g_idx"]
    assert g_idx.bincount().tolist() == [16] * 4
    in_order = stored(tmp_path / "static")["model.layers.0.self_attn.q_proj.g_idx"]
    assert torch.equal(in_order, torch.arange(64, dtype=torch.int32) // 16)
    assert not torch.equal(g_idx, in_order)


def test_matrices_unlike_most_have_rules_and_dense_ones_are_left_out(tmp_path: Path) -> None:
    recipe = {"bits": 4, "group_size": 32, "skip_blocks": [0], "overrides": {"*.down_proj": {"bits": 8, "group_size": 64}}}
    model = source(tmp_path / "model", "llama-wide")
    export(model, tmp_path / "out", "gptq", recipe)
    config, tensors = config_of(tmp_path / "out"), stored(tmp_path / "out")
    for layer in planned(model, "gptq", recipe).layers:
        rules = [(p, rule) for p, rule in config["dynamic"].items() if re.match(p.partition(":")[2], layer.name)]
        if layer.block == 0:
            assert f"{layer.name}.weight" in tensors
            assert [(pattern[:2], rule) for pattern, rule in rules] == [("-:", {})]
        else:
            down = [("+:", {"bits": 8, "group_size": 64})]
            assert [(pattern[:2], rule) for pattern, rule in rules] == (down if "down_proj" in layer.name else [])
            bits = rules[0][1]["bits"] if rules else config["bits"]
            assert len(tensors[f"{layer.name}.qweight"]) == layer.matrix.shape[1] * bits // 32
    (listed,) = config["modules_in_block_to_quantize"]
    assert listed == sorted(name.removesuffix(".qweight") for name in tensors if name.endswith(".qweight"))


def test_matrices_that_are_stored_transposed_are_packed_as_all_others(tmp_path: Path) -> None:
    recipe = {"bits": 2, "group_size": 32, "symmetric": False}
    model = source(tmp_path / "model", "gpt2")
    export(model, tmp_path / "packed", "gptq", recipe)
    export(model, tmp_path / "dense", "dense", recipe)
    packed, dense = stored(tmp_path / "packed"), stored(tmp_path / "dense")
    name = "transformer.h.2.attn.c_attn"
    assert packed[f"{name}.qweight"].shape == (2, 96)
    assert torch.equal(read_bit_by_bit(matrix(packed, name), 2, V2), dense[f"{name}.weight"].T)
    assert torch.equal(packed[f"{name}.bias"], dense[f"{name}.bias"])


def test_tensors_have_the_model_s_names_where_the_source_left_a_prefix_out(tmp_path: Path) -> None:
    model = source(tmp_path / "model", "gpt2")
    export(model, tmp_path / "whole", "gptq", {"bits": 4, "group_size": 32, "method": "rtn"})
    bare = {name.removeprefix("transformer."): tensor for name, tensor in load_file(model / "model.safetensors").items()}
    save_file(bare, model / "model.safetensors", {"format": "pt"})
    export(model, tmp_path / "bare", "gptq", {"bits": 4, "group_size": 32, "method": "rtn"})
    whole, found = stored(tmp_path / "whole"), stored(tmp_path / "bare")
    assert found.keys() == whole.keys() and all(torch.equal(found[name], whole[name]) for name in found)
    assert config_of(tmp_path / "bare")["block_name_to_quantize"] == "transformer.h"


@pytest.mark.parametrize(
    ("family", "recipe", "reason"),
    [
        ("llama-wide", {"sparsity": 0.5}, "only prunes"),
        ("llama-wide", {"method": "spqr", "bits": 3}, "no place for what spqr stores"),
        ("llama-wide", {"bits": 5}, "2, 3, 4 and 8 bits, not 5"),
        ("llama-wide", {"bits": 4, "group_size": 48}, "kernels take groups of 16, 32, .*, not 48"),
        ("llama-wide", {"bits": 4, "overrides": {"*.q_proj": {"bits": 6}}}, r"recipe\.overrides\.\*\.q_proj .*not 6"),
        ("falcon-alibi", {"bits": 4}, "FalconLinear"),
        ("llama", {"bits": 4}, r"0\.self_attn\.k_proj: codes are packed by 32, which does not divide its 16 outputs"),
    ],
    ids=["pruned", "SpQR", "5 bit", "group", "6 bit override", "Falcon", "narrow"],
)
def test_what_no_loader_reads_is_refused_before_any_work(
    family: str, recipe: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    with pytest.raises(InvalidOptions, match=rf"output\.format: gptq cannot hold .*{reason}"):
        export(source(tmp_path / "model", family), tmp_path / "out", "gptq", recipe)
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".out*"))
