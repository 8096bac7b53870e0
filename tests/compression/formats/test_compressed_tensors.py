"""The format compressed-tensors, opened by its package and transformers, and held against dense files of the same solution."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from compressed_tensors.compressors import BaseCompressor
from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from transformers import AutoModelForCausalLM, CompressedTensorsConfig

from compression.errors import InvalidOptions
from compression.formats.codes import Codes
from compression.formats.compressed_tensors import pack_matrix, read_matrix
from tests.compression.examples import few
from tests.compression.formats.exported import export, grid_weights, logits, planned, source

HALVES = (torch.float16, torch.bfloat16)


def quantization_config(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "config.json").read_text())["quantization_config"]
    return found


def tensor_names(folder: Path) -> set[str]:
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    return set(index["weight_map"])


@few
@given(
    bits=st.sampled_from([2, 3, 4, 5, 6, 8, "ternary"]),
    rows=st.integers(1, 40),
    groups=st.integers(1, 3),
    group_size=st.sampled_from([16, 48]),
    is_symmetric=st.booleans(),
    dtype=st.sampled_from(HALVES),
)
def test_compressed_tensors_reads_the_very_values(
    bits: Any, rows: int, groups: int, group_size: int, is_symmetric: bool, dtype: torch.dtype
) -> None:
    is_symmetric = is_symmetric or bits == "ternary"
    weights = grid_weights(rows, groups * group_size, bits, group_size, is_symmetric=is_symmetric, dtype=dtype)
    tensors = pack_matrix(Codes.of(weights), dtype, is_symmetric=is_symmetric)
    args = QuantizationArgs(
        num_bits=Codes.of(weights).bits, symmetric=is_symmetric, strategy="group", group_size=group_size, dynamic=False
    )
    scheme = QuantizationScheme(targets=["Linear"], weights=args)
    oracle = BaseCompressor.get_value_from_registry("pack-quantized").decompress(dict(tensors), scheme)["weight"]
    assert torch.equal(oracle, weights.to_dense().to(dtype))


RECIPES: dict[str, tuple[dict[str, Any], torch.dtype]] = {
    "4 bit": ({"bits": 4, "group_size": 16}, torch.float32),
    "4 bit asymmetric": ({"bits": 4, "group_size": 32, "symmetric": False}, torch.bfloat16),
    "8 bit row": ({"bits": 8, "group_size": "row", "method": "rtn"}, torch.float16),
    "3 bit row asymmetric": ({"bits": 3, "group_size": "row", "symmetric": False, "method": "rtn"}, torch.float32),
    "5 bit, act order with static groups": ({"bits": 5, "group_size": 16, "act_order": True}, torch.float32),
    "ternary": ({"bits": "ternary", "group_size": 16}, torch.float32),
    "2:4 and 4 bit": ({"bits": 4, "pattern": "2:4", "group_size": 16}, torch.bfloat16),
    "mixed": (
        {"bits": 4, "group_size": 16, "overrides": {"*.down_proj": {"bits": 8, "group_size": "row"}, "*.1.*": {"bits": 2}}},
        torch.float32,
    ),
    "skipped": (
        {"bits": 4, "group_size": 16, "skip_blocks": [-1], "ignore": ["*.o_proj"], "overrides": {"*.0.*.k_proj": None}},
        torch.float32,
    ),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:You passed `quantization_config`")
@pytest.mark.parametrize("name", RECIPES)
def test_transformers_loads_what_the_dense_file_of_the_same_solution_holds(name: str, tmp_path: Path) -> None:
    recipe, dtype = RECIPES[name]
    model = source(tmp_path / "model", dtype=dtype)
    report = export(model, tmp_path / "packed", "compressed-tensors", recipe)
    export(model, tmp_path / "dense", "dense", {"symmetric": True, **recipe})
    assert report.sizes.artifact_bytes < report.sizes.source_bytes
    expected = logits(tmp_path / "dense")
    assert not torch.equal(expected, logits(model))
    assert torch.equal(logits(tmp_path / "packed"), expected)
    if name != "mixed":  # transformers unpacks all layers by the first group there
        unpacked: Any = {"quantization_config": CompressedTensorsConfig(dequantize=True)}
        assert torch.equal(logits(tmp_path / "packed", **unpacked), expected)


@pytest.mark.parametrize("family", ["llama-untied", "opt-projected", "falcon-alibi"])
def test_modules_outside_the_plan_stay_dense_and_are_ignored_by_name(family: str, tmp_path: Path) -> None:
    recipe = {"bits": 4, "group_size": 16, "skip_blocks": [0]}
    model = source(tmp_path / "model", family)
    export(model, tmp_path / "packed", "compressed-tensors", recipe)
    export(model, tmp_path / "dense", "dense", {"symmetric": True, **recipe})
    assert torch.equal(logits(tmp_path / "packed"), logits(tmp_path / "dense"))
    loaded = AutoModelForCausalLM.from_pretrained(model)
    packed = {name.removesuffix(".weight_packed") for name in tensor_names(tmp_path / "packed") if "packed" in name}
    linears = [name for name, module in loaded.named_modules() if isinstance(module, torch.nn.Linear)]
    assert quantization_config(tmp_path / "packed")["ignore"] == [name for name in linears if name not in packed]
    assert "lm_head" in quantization_config(tmp_path / "packed")["ignore"]


def test_file_holds_what_the_layout_says_and_no_more(tmp_path: Path) -> None:
    model = source(tmp_path / "model", dtype=torch.bfloat16)
    export(model, tmp_path / "symmetric", "compressed-tensors", {"bits": 4, "group_size": 16, "method": "rtn"})
    asymmetric = {"bits": 3, "group_size": 16, "symmetric": False, "method": "rtn"}
    export(model, tmp_path / "asymmetric", "compressed-tensors", asymmetric)
    of_up = {name for name in tensor_names(tmp_path / "symmetric") if "0.mlp.up_proj" in name}
    assert {name.rpartition(".")[2] for name in of_up} == {"weight_packed", "weight_scale", "weight_shape"}
    up = "model.layers.0.mlp.up_proj"
    with safe_open(tmp_path / "asymmetric" / "model-00002-of-00004.safetensors", "pt") as shard:
        shapes = {last: shard.get_slice(f"{up}.{last}").get_shape() for last in ("weight_packed", "weight_zero_point")}
        assert shapes == {"weight_packed": [64, 3], "weight_zero_point": [6, 2]}
        assert shard.get_tensor(f"{up}.weight_shape").tolist() == [64, 32]
        assert shard.get_tensor(f"{up}.weight_scale").dtype == torch.bfloat16
    config = quantization_config(tmp_path / "symmetric")
    assert "sparsity_config" not in config and "dequantize" not in config
    assert config["config_groups"]["group_0"]["targets"] == ["Linear"]


def test_matrices_of_different_bits_are_named_in_groups_of_their_own(tmp_path: Path) -> None:
    recipe = {"bits": 4, "group_size": 16, "overrides": {"*.down_proj": {"bits": 8, "group_size": "row"}}}
    model = source(tmp_path / "model")
    export(model, tmp_path / "out", "compressed-tensors", recipe)
    four, eight = quantization_config(tmp_path / "out")["config_groups"].values()
    assert (four["weights"]["num_bits"], eight["weights"]["num_bits"]) == (4, 8)
    assert eight["weights"]["strategy"] == "channel" and eight["weights"]["group_size"] is None
    assert eight["targets"] == [f"model.layers.{k}.mlp.down_proj" for k in range(3)]
    assert len(four["targets"]) == 18


def test_pruned_weights_are_exact_zeros_in_the_pattern(tmp_path: Path) -> None:
    recipe = {"bits": 4, "pattern": "2:4", "group_size": 16, "symmetric": False}
    model = source(tmp_path / "model")
    export(model, tmp_path / "out", "compressed-tensors", recipe)
    for layer in planned(model, "compressed-tensors", recipe).targeted:
        values_RC = read_matrix(tmp_path / "out", layer)
        assert int((values_RC != 0).unflatten(1, (-1, 4)).sum(-1).max()) <= 2


def test_certificate_says_that_a_fresh_process_loads_it(tmp_path: Path) -> None:
    recipe = {"bits": 4, "group_size": 16, "symmetric": False}
    report = export(source(tmp_path / "model"), tmp_path / "out", "compressed-tensors", recipe, certificate=True)
    assert report.verification.verdict == "ok"
    assert report.verification.max_logit_difference == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize(
    ("family", "recipe", "reason"),
    [
        ("llama", {"sparsity": 0.5}, "only prunes"),
        ("llama", {"bits": 4, "overrides": {"*.up_proj": {"bits": None, "sparsity": 0.5}}}, r"overrides.*only prunes"),
        ("llama", {"bits": 4, "static_groups": False}, "scatters them"),
        ("llama", {"bits": 4, "offset": "minimum"}, "no minimum"),
        ("gpt2", {"bits": 4}, r"transformer\.h\.0\.attn\.c_attn: .*Conv1D; gptq holds it"),
        ("llama", {"bits": 4, "symmetric": False, "overrides": {"*.up_proj": {"bits": 8}}}, "same bits and group_size"),
        ("falcon-alibi", {"bits": 4, "overrides": {"*.dense": {"bits": 8}}}, "same bits and group_size"),
        ("mixtral", {"bits": 4, "ignore": ["*.experts.*"]}, "mixture of experts"),
    ],
    ids=[
        "pruned",
        "pruned override",
        "dynamic groups",
        "minimum",
        "Conv1D",
        "mixed and asymmetric",
        "mixed Falcon",
        "experts",
    ],
)
def test_what_no_loader_reads_is_refused_before_any_work(
    family: str, recipe: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    with pytest.raises(InvalidOptions, match=rf"output\.format: compressed-tensors cannot hold .*{reason}"):
        export(source(tmp_path / "model", family), tmp_path / "out", "compressed-tensors", recipe)
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".out*"))
