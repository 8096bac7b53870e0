"""What families declare against what transformers builds, and configs that are refused."""

import json
from functools import cache
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from transformers import PreTrainedModel

from compression.errors import UnsupportedModel
from compression.families import known_model_types, read_architecture
from tests import tiny_models
from tests.compression.examples import many

families = pytest.mark.parametrize("family", tiny_models.FAMILIES)


def saved_config(model: PreTrainedModel) -> dict[str, Any]:
    """config.json as `save_pretrained` writes it."""
    model.config.architectures = [type(model).__name__]
    config: dict[str, Any] = json.loads(model.config.to_json_string())
    return config


def test_each_known_model_type_is_tried_here() -> None:
    assert {saved_config(tiny_models.build(family))["model_type"] for family in tiny_models.FAMILIES} == set(
        known_model_types()
    )


@families
def test_declared_matrices_are_exactly_those_of_a_block_in_shape_and_order_of_storage(family: str) -> None:
    model = tiny_models.build(family)
    architecture = read_architecture(saved_config(model))
    blocks = model.get_submodule(architecture.block_path)
    assert isinstance(blocks, nn.ModuleList)
    assert len(blocks) == architecture.blocks
    declared = {
        f"{matrix.name}.weight": matrix.shape[::-1] if matrix.is_transposed else matrix.shape
        for matrix in architecture.matrices
    }
    for block in blocks:
        assert {name: tuple(p.shape) for name, p in block.named_parameters() if p.ndim >= 2} == declared


@families
def test_config_is_read_as_transformers_reads_it(family: str) -> None:
    model = tiny_models.build(family)
    architecture = read_architecture(saved_config(model))
    assert architecture.class_name == type(model).__name__
    assert architecture.model_type == model.config.model_type
    assert architecture.base_prefix == model.base_model_prefix
    assert architecture.max_positions == model.config.max_position_embeddings
    assert architecture.vocab_size == model.get_input_embeddings().get_parameter("weight").shape[0]
    matrix = architecture.matrices[0]
    assert model.get_submodule(architecture.module_name(1, matrix)).get_parameter("weight").shape.numel() == (
        matrix.shape[0] * matrix.shape[1]
    )


@families
@torch.inference_mode()
def test_matrices_with_one_label_read_one_tensor_and_stages_follow_the_forward_pass(family: str) -> None:
    model = tiny_models.build(family).eval()
    architecture = read_architecture(saved_config(model))
    block = model.get_submodule(f"{architecture.block_path}.0")
    seen: list[tuple[str, torch.Tensor]] = []
    for matrix in architecture.matrices:
        block.get_submodule(matrix.name).register_forward_pre_hook(
            lambda _, args, name=matrix.name: seen.append((name, args[0]))
        )
    model(input_ids=torch.arange(8)[None], use_cache=False)
    by_name = {matrix.name: matrix for matrix in architecture.matrices}
    assert len(seen) == len(by_name)
    stages = [by_name[name].stage for name, _ in seen]
    assert stages == sorted(stages)
    for name, X in seen:
        assert X.shape[-1] == by_name[name].shape[1]
        for other, Y in seen:
            is_same = X.shape[-1] == Y.shape[-1] and torch.equal(X.flatten(0, -2), Y.flatten(0, -2))
            assert is_same == (by_name[name].reads == by_name[other].reads), (name, other)


def llama_config(**changes: Any) -> dict[str, Any]:
    return {**saved_config(tiny_models.build("llama")), **changes}


def without(config: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in config.items() if name not in names}


def test_grouped_query_attention_and_a_head_size_of_its_own_change_the_shapes() -> None:
    config = llama_config(num_attention_heads=4, num_key_value_heads=1, head_dim=24)
    shapes = {matrix.name: matrix.shape for matrix in read_architecture(config).matrices}
    assert shapes["self_attn.q_proj"] == (96, 32)
    assert shapes["self_attn.k_proj"] == shapes["self_attn.v_proj"] == (24, 32)
    assert shapes["self_attn.o_proj"] == (32, 96)


@pytest.mark.parametrize("absent", ["removed", "null"])
def test_llama_without_key_value_heads_and_head_size_has_as_many_as_heads(absent: str) -> None:
    names = ("num_key_value_heads", "head_dim")
    config = without(llama_config(), *names) if absent == "removed" else llama_config(**dict.fromkeys(names))
    shapes = {matrix.name: matrix.shape for matrix in read_architecture(config).matrices}
    assert shapes["self_attn.q_proj"] == shapes["self_attn.k_proj"] == (32, 32)


def test_gpt2_without_inner_size_has_four_times_its_width() -> None:
    config = without(saved_config(tiny_models.build("gpt2")), "n_inner")
    shapes = {matrix.name: matrix.shape for matrix in read_architecture(config).matrices}
    assert shapes["mlp.c_fc"] == (128, 32)
    inner = read_architecture({**config, "n_inner": 48})
    assert {matrix.name: matrix.shape for matrix in inner.matrices}["mlp.c_proj"] == (32, 48)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"auto_map": {"AutoModelForCausalLM": "modeling.Evil"}}, "remote code"),
        ({"quantization_config": {"quant_method": "gptq"}}, "already quantised"),
        ({"quantization_config": {}}, "already quantised"),
        ({"model_type": "mamba"}, "'mamba' is unknown; known are gpt2, llama, mistral, opt, qwen2, qwen3"),
        ({"model_type": None}, "None is unknown"),
        ({"model_type": ["llama"]}, "is unknown"),
        (
            {"architectures": ["LlamaForSequenceClassification"]},
            "LlamaForSequenceClassification is not a causal language model",
        ),
        ({"architectures": ["LlamaModel"]}, "not a causal language model"),
        ({"hidden_size": None}, "has no hidden_size, which a llama model needs"),
        ({"hidden_size": 0}, "hidden_size is 0"),
        ({"hidden_size": -32}, "hidden_size is -32"),
        ({"hidden_size": 32.0}, r"hidden_size is 32\.0"),
        ({"hidden_size": "32"}, "hidden_size is '32'"),
        ({"num_attention_heads": True}, "num_attention_heads is True"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers|blocks"),
        ({"num_hidden_layers": 5000}, "5000 blocks"),
        ({"num_attention_heads": 64, "head_dim": None}, r"would have the shape \(0, 32\)"),
        ({"vocab_size": []}, "vocab_size"),
    ],
    ids=str,
)
def test_config_is_refused_with_the_reason(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UnsupportedModel, match=message):
        read_architecture(llama_config(**changes))


@pytest.mark.parametrize(
    ("family", "needed"),
    [
        ("llama", ("hidden_size", "intermediate_size", "num_attention_heads", "num_hidden_layers", "vocab_size")),
        ("opt", ("hidden_size", "ffn_dim", "num_hidden_layers", "max_position_embeddings", "vocab_size")),
        ("gpt2", ("n_embd", "n_layer", "n_positions", "vocab_size")),
    ],
)
def test_each_missing_entry_is_named(family: str, needed: tuple[str, ...]) -> None:
    config = saved_config(tiny_models.build(family))
    for name in needed:
        with pytest.raises(UnsupportedModel, match=f"has no {name}"):
            read_architecture(without(config, name))


def test_gpt2_with_cross_attention_is_refused() -> None:
    with pytest.raises(UnsupportedModel, match="cross-attention"):
        read_architecture({**saved_config(tiny_models.build("gpt2")), "add_cross_attention": True})


@pytest.mark.parametrize("classes", [None, [], "absent"], ids=str)
def test_config_that_names_no_class_is_taken_by_its_model_type(classes: Any) -> None:
    config = without(llama_config(), "architectures") if classes == "absent" else llama_config(architectures=classes)
    assert read_architecture(config).family == "llama"


@cache
def whole_config(family: str) -> dict[str, Any]:
    return {**saved_config(tiny_models.build(family)), "auto_map": None, "quantization_config": None}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)


@many
@given(data=st.data(), family=st.sampled_from(["llama", "opt", "gpt2"]))
def test_no_config_does_worse_than_be_refused(data: st.DataObject, family: str) -> None:
    config = whole_config(family)
    changes = data.draw(st.dictionaries(st.sampled_from(sorted(config)), json_values, max_size=3))
    try:
        architecture = read_architecture({**config, **changes})
    except UnsupportedModel:
        return
    assert all(size >= 1 for matrix in architecture.matrices for size in matrix.shape)
