"""What families declare against what transformers builds, and configs that are refused."""

import json
from contextlib import suppress
from functools import cache
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from transformers import PreTrainedModel

from compression.block import matrix_weight
from compression.errors import UnsupportedModel
from compression.families import known_model_types, read_architecture
from compression.families.base import Matrix
from compression.inputs import AllHeard, listening
from compression.plan import PlannedLayer
from tests import tiny_models
from tests.compression.examples import many

TRIED = (*tiny_models.FAMILIES, *tiny_models.ENCODERS)
families = pytest.mark.parametrize("family", TRIED)


def saved_config(model: PreTrainedModel) -> dict[str, Any]:
    """config.json as `save_pretrained` writes it."""
    model.config.architectures = [type(model).__name__]
    config: dict[str, Any] = json.loads(model.config.to_json_string())
    return config


def test_each_known_model_type_is_tried_here() -> None:
    assert {saved_config(tiny_models.build(family))["model_type"] for family in TRIED} == set(known_model_types())


@families
def test_declared_matrices_are_all_of_a_block_without_a_gap_or_an_overlap(family: str) -> None:
    model = tiny_models.build(family)
    architecture = read_architecture(saved_config(model))
    blocks = model.get_submodule(architecture.block_path)
    assert isinstance(blocks, nn.ModuleList)
    assert len(blocks) == architecture.blocks
    for index, block in enumerate(blocks):
        covered = {name: torch.zeros(p.shape, dtype=torch.int) for name, p in block.named_parameters() if p.ndim >= 2}
        for matrix in architecture.block(index):
            part = covered[matrix.parameter]
            if matrix.slot:
                part = part[matrix.slot.index, matrix.slot.rows[0] : matrix.slot.rows[1]]
            assert tuple(part.shape) == (matrix.shape[::-1] if matrix.is_transposed else matrix.shape), matrix.name
            part += 1
        assert all(bool((count == 1).all()) for count in covered.values())


@families
def test_config_is_read_as_transformers_reads_it(family: str) -> None:
    model = tiny_models.build(family)
    architecture = read_architecture(saved_config(model))
    assert architecture.class_name == type(model).__name__
    assert architecture.model_type == model.config.model_type
    assert architecture.task == tiny_models.TASKS.get(family, "causal-lm")
    assert architecture.base_prefix == ("" if architecture.task == "hidden-states" else model.base_model_prefix)
    positions = {"bloom": 2048, "mpt": tiny_models.POSITIONS}  # biases by distance: their configs have no last position
    positions |= dict.fromkeys(tiny_models.ENCODERS, tiny_models.POSITIONS)  # RoBERTa's table has two rows more
    assert architecture.max_positions == (positions.get(family) or model.config.max_position_embeddings)
    assert architecture.vocab_size == model.get_input_embeddings().get_parameter("weight").shape[0]
    matrix = architecture.matrices[0]
    assert model.get_submodule(architecture.module_name(1, matrix)).get_parameter("weight").shape.numel() == (
        matrix.shape[0] * matrix.shape[1]
    )


@families
@torch.inference_mode()
def test_matrices_share_a_label_exactly_if_they_read_one_tensor(family: str) -> None:
    model = tiny_models.build(family).eval()
    architecture = read_architecture(saved_config(model))
    for index in (0, architecture.blocks - 1):
        alone = [matrix for matrix in architecture.block(index) if not matrix.slot]
        seen = read_tensors(model, f"{architecture.block_path}.{index}", alone)
        assert len(seen) == len(alone)
        for matrix, X in seen:
            for other, Y in seen:
                assert (matrix.reads == other.reads) == torch.equal(X, Y), (matrix.name, other.name)


def read_tensors(model: PreTrainedModel, block: str, matrices: list[Matrix]) -> list[tuple[Matrix, torch.Tensor]]:
    """What each matrix reads, (N, C), in the order of the forward pass."""
    seen: list[tuple[Matrix, torch.Tensor]] = []
    for matrix in matrices:
        model.get_submodule(f"{block}.{matrix.name}").register_forward_pre_hook(
            lambda _, args, matrix=matrix: seen.append((matrix, args[0].flatten(0, -2)))
        )
    model(input_ids=torch.arange(8)[None], use_cache=False)
    return seen


@families
@torch.inference_mode()
def test_a_matrix_has_a_later_stage_than_every_matrix_that_changes_its_input(family: str) -> None:
    model = tiny_models.build(family).eval()
    architecture = read_architecture(saved_config(model))
    for index in {0, architecture.blocks - 1}:
        block = model.get_submodule(f"{architecture.block_path}.{index}")
        layers = [PlannedLayer(matrix.name, index, matrix, None) for matrix in architecture.block(index)]
        first = {layer.matrix.reads: layer.matrix.stage for layer in layers}  # those that share a label share a stage
        before = inputs(model, block, layers)
        feeds = set()
        for layer in layers:
            if layer.matrix.kept_dense:
                continue
            weight_RC = matrix_weight(block, layer)
            dense_RC = weight_RC.clone()
            weight_RC.mul_(0.5)
            changed = {label for label, H_CC in inputs(model, block, layers).items() if not torch.equal(H_CC, before[label])}
            weight_RC.copy_(dense_RC)
            assert all(first[label] > layer.matrix.stage for label in changed), (layer.name, changed)
            feeds |= changed
        assert len(feeds) >= 2  # the output of attention and that of the feed-forward's first half, at least


def run(model: PreTrainedModel) -> None:
    """As far as the hooks need it."""
    with suppress(AllHeard):
        model(input_ids=torch.arange(24)[None], use_cache=False)


def inputs(model: PreTrainedModel, block: nn.Module, layers: list[PlannedLayer]) -> dict[str, torch.Tensor]:
    """X^T X of every distinct input of a block."""
    with listening(block, layers, torch.device("cpu")) as accumulators:
        run(model)
    return {label: accumulator.finish(label).H_CC for label, accumulator in accumulators.items()}


@pytest.mark.parametrize("family", tiny_models.MIXTURES)
@torch.inference_mode()
def test_tokens_of_all_experts_sum_to_the_tokens_times_the_experts_each_goes_to(family: str) -> None:
    model = tiny_models.build(family).eval()
    architecture = read_architecture(saved_config(model))
    index = next(k for k in range(architecture.blocks) if any(matrix.slot for matrix in architecture.block(k)))
    layers = [PlannedLayer(matrix.name, index, matrix, None) for matrix in architecture.block(index)]
    block = model.get_submodule(f"{architecture.block_path}.{index}")
    with listening(block, layers, torch.device("cpu")) as accumulators:
        run(model)
    tokens = {label: accumulator.finish(label).tokens for label, accumulator in accumulators.items()}
    routed = {layer.matrix.reads for layer in layers if layer.matrix.slot and not layer.matrix.slot.is_second}
    second = {layer.matrix.reads for layer in layers if layer.matrix.slot and layer.matrix.slot.is_second}
    assert len(routed) == len(second) == 4
    assert sum(tokens[label] for label in routed) == sum(tokens[label] for label in second) == 24 * 2
    assert all(count == 24 for label, count in tokens.items() if label not in routed | second)


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
        ({"model_type": "mamba"}, "'mamba' is unknown; known are bert, bloom, cohere, "),
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
@given(data=st.data(), family=st.sampled_from(TRIED))
def test_no_config_does_worse_than_be_refused(data: st.DataObject, family: str) -> None:
    config = whole_config(family)
    changes = data.draw(st.dictionaries(st.sampled_from(sorted(config)), json_values, max_size=3))
    try:
        architecture = read_architecture({**config, **changes})
    except UnsupportedModel:
        return
    blocks = range(architecture.blocks)
    assert all(size >= 1 for block in blocks for matrix in architecture.block(block) for size in matrix.shape)
