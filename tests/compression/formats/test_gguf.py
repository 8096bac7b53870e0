"""The whole way to model.gguf, read back by transformers' reader and the gguf package, against what the pass evaluated."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gguf import GGUFReader
from gguf.quants import dequantize
from transformers import AutoModelForCausalLM, AutoTokenizer

from compression.errors import InvalidOptions, UnsupportedModel
from compression.formats import gguf, load
from compression.formats.catalog import check_model, check_output
from compression.formats.export import Export
from compression.formats.gguf_file import open_gguf
from compression.models.checkpoint import Checkpoint
from compression.models.gguf_source import dequantize_once
from compression.plan import plan
from compression.protocol import Output
from compression.recipe import parse_recipe, resolve
from compression.weights import DenseWeights, Weights
from tests import tiny_models
from tests.compression.formats.artifacts import cross_entropy, make, some_ids

TYPES = {0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 8: "Q8_0", 30: "BF16"}


def types(folder: Path) -> dict[str, str]:
    return {tensor.name: TYPES[tensor.tensor_type] for tensor in GGUFReader(folder / "out" / "model.gguf").tensors}


@pytest.mark.parametrize(
    ("family", "recipe", "embeddings", "kinds"),
    [
        ("llama", {"bits": 4}, "keep", {"F32", "Q4_1"}),
        ("llama-untied", {"bits": 4, "symmetric": True}, "int8", {"F32", "Q4_0", "Q8_0"}),
        ("llama", {"bits": 8}, "keep", {"F32", "Q8_0"}),
        ("llama", {"bits": 4, "pattern": "2:4"}, "int8", {"F32", "Q4_0", "Q8_0"}),
        ("llama", {"pattern": "2:4"}, "keep", {"F32"}),
        ("qwen2", {"bits": 4, "method": "rtn"}, "keep", {"F32", "Q4_1"}),
    ],
    ids=["4 bit", "4 bit symmetric", "8 bit", "joint", "2:4", "qwen2"],
)
def test_transformers_reads_the_model_that_was_evaluated(
    family: str, recipe: dict[str, Any], embeddings: Any, kinds: set[str], tmp_path: Path
) -> None:
    report = make(tmp_path, recipe, Output(format="gguf", embeddings=embeddings), family)
    assert set(types(tmp_path).values()) == kinds
    folder, _ = dequantize_once(tmp_path / "out" / "model.gguf", tmp_path / "cache")  # transformers' reader, that file alone
    theirs = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    ours = load(tmp_path / "out")
    assert theirs.state_dict().keys() == ours.state_dict().keys()
    for name, tensor in ours.state_dict().items():
        assert torch.equal(theirs.state_dict()[name], tensor), name
    with torch.inference_mode():
        assert torch.equal(theirs(some_ids()).logits, ours(some_ids()).logits)
    assert np.log(report.results[0].compressed.value) == pytest.approx(cross_entropy(theirs, tmp_path), abs=1e-5)
    text = tiny_models.text()[:50] + " é 漢!"
    read = AutoTokenizer.from_pretrained(tmp_path / "out", gguf_file="model.gguf")
    assert read(text)["input_ids"] == AutoTokenizer.from_pretrained(tmp_path / "model")(text)["input_ids"]


def test_file_alone_tells_the_config(tmp_path: Path) -> None:
    make(tmp_path, {"bits": 4, "method": "rtn"}, Output(format="gguf"), "llama-untied")
    source = AutoModelForCausalLM.from_pretrained(tmp_path / "model").config
    folder, _ = dequantize_once(tmp_path / "out" / "model.gguf", tmp_path / "cache")
    read = AutoModelForCausalLM.from_pretrained(folder).config
    for name in (
        "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim",
        "max_position_embeddings", "vocab_size", "tie_word_embeddings", "rope_parameters", "hidden_act",
    ):  # fmt: skip
        assert getattr(read, name) == getattr(source, name), name
    assert read.rms_norm_eps == pytest.approx(source.rms_norm_eps, rel=1e-6)


def test_rotary_rows_of_llama_lie_as_llama_cpp_takes_them(tmp_path: Path) -> None:
    """Row 2i of a head is the source's row i, and row 2i + 1 its row i + half a head."""
    make(tmp_path, {"pattern": "2:4", "method": "magnitude"}, Output(format="gguf"))
    written = {tensor.name: tensor for tensor in GGUFReader(tmp_path / "out" / "model.gguf").tensors}
    stored = load(tmp_path / "out").state_dict()
    for ours, theirs, heads in (("q_proj", "attn_q", 4), ("k_proj", "attn_k", 2)):
        found = dequantize(written[f"blk.1.{theirs}.weight"].data, written[f"blk.1.{theirs}.weight"].tensor_type)
        weight = stored[f"model.layers.1.self_attn.{ours}.weight"].numpy()
        half = weight.shape[0] // heads // 2
        for head in range(heads):
            for i in range(half):
                first = head * 2 * half
                assert np.array_equal(found[first + 2 * i], weight[first + i])
                assert np.array_equal(found[first + 2 * i + 1], weight[first + half + i])


@pytest.mark.parametrize(("dtype", "kind"), [(torch.float16, "F16"), (torch.bfloat16, "BF16")], ids=["float16", "bfloat16"])
def test_half_precision_stays_as_it_is_and_vectors_are_float32(dtype: torch.dtype, kind: str, tmp_path: Path) -> None:
    make(tmp_path, {"sparsity": 0.5, "method": "wanda"}, Output(format="gguf"), dtype=dtype)
    assert {found for name, found in types(tmp_path).items() if "norm" in name} == {"F32"}
    assert {found for name, found in types(tmp_path).items() if "norm" not in name} == {kind}
    assert next(load(tmp_path / "out").parameters()).dtype == dtype


def test_layers_may_have_types_of_their_own(tmp_path: Path) -> None:
    overrides: dict[str, Any] = {
        "*.down_proj": {"bits": 8, "symmetric": True},
        "*.up_proj": {"bits": None, "method": "magnitude", "sparsity": 0.5},
        "*.o_proj": None,
    }
    make(tmp_path, {"bits": 4, "method": "rtn", "overrides": overrides}, Output(format="gguf"))
    found = types(tmp_path)
    expected = {"attn_q": "Q4_1", "ffn_gate": "Q4_1", "ffn_down": "Q8_0", "ffn_up": "F32", "attn_output": "F32"}
    for name, kind in expected.items():
        assert found[f"blk.0.{name}.weight"] == kind


def test_interrupted_file_is_refused_and_never_looks_like_an_artifact(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tiny_models.save(tmp_path / "model"))
    planned = plan(resolve(parse_recipe({"pattern": "2:4"})), checkpoint.architecture)
    calls = []

    def solved(block: int) -> dict[str, Weights]:
        calls.append(block)
        if len(calls) == tiny_models.BLOCKS + 2:  # the table is written, and of the data the first block
            raise KeyboardInterrupt
        names = {layer.name: f"{layer.name}.weight" for layer in planned.block(block)}
        tensors = checkpoint.read(names.values())
        return {name: DenseWeights(tensors[stored]) for name, stored in names.items()}

    (tmp_path / "partial").mkdir()
    with pytest.raises(KeyboardInterrupt):
        gguf.write(Export(checkpoint, planned, solved, Output(format="gguf"), tmp_path / "partial"))
    with pytest.raises(UnsupportedModel, match=r"model\.gguf: .*truncated"):
        open_gguf(tmp_path / "partial" / "model.gguf")
    with pytest.raises(UnsupportedModel, match=r"has no scalpel\.json"):
        load(tmp_path / "partial")


def test_defaults_are_the_grids_of_the_types() -> None:
    def options(recipe: dict[str, Any]) -> Any:
        return resolve(parse_recipe(recipe), "gguf").options

    four, eight, joint = options({"bits": 4}), options({"bits": 8}), options({"bits": 4, "sparsity": 0.5})
    assert (four.group_size, four.offset, four.symmetric) == (32, "minimum", False)
    assert (eight.group_size, eight.offset, eight.symmetric) == (32, "zero_point", True)
    assert (joint.group_size, joint.offset, joint.symmetric) == (32, "zero_point", True)
    assert options({"bits": 4, "symmetric": True}).offset == "zero_point"


@pytest.mark.parametrize(
    ("recipe", "reason"),
    [
        ({"bits": 3}, "not 3"),
        ({"bits": "ternary"}, "not ternary"),
        ({"bits": 4, "group_size": 64}, "groups have 32 inputs, not 64"),
        ({"bits": 4, "group_size": "row"}, "not row"),
        ({"bits": 8, "symmetric": False}, "no zero point"),
        ({"bits": 4, "offset": "zero_point"}, "no integer zero point"),
        ({"bits": 4, "sparsity": 0.5, "symmetric": False}, "zero need not be on its grid"),
        ({"bits": 4, "act_order": True, "static_groups": False}, "runs of consecutive inputs"),
        ({"bits": 4, "overrides": {"*.q_proj": {"bits": 5}}}, "not 5"),
    ],
)
def test_recipe_without_a_type_is_refused_when_it_is_submitted(recipe: dict[str, Any], reason: str) -> None:
    with pytest.raises(InvalidOptions, match=rf"^output\.format: gguf cannot hold .*{reason}"):
        resolve(parse_recipe(recipe), "gguf")


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"model_type": "gpt2"}, "not gpt2"),
        ({"hidden_act": "gelu"}, "'gelu'"),
        ({"attention_bias": True}, "attention_bias"),
        ({"mlp_bias": True}, "mlp_bias"),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, "llama3"),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, "linear"),
        ({"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}}, "scaled"),
        ({"model_type": "mistral", "sliding_window": 8, "max_position_embeddings": 64}, "last 8 tokens"),
        (
            {"model_type": "qwen2", "use_sliding_window": True, "sliding_window": 8, "max_position_embeddings": 64},
            "last 8 tokens",
        ),
        ({"model_type": "qwen3", "head_dim": 64}, "not 64"),
        ({"hidden_size": 48}, "48 columns of the embedding"),
    ],
    ids=lambda value: "" if isinstance(value, dict) else value,
)
def test_model_that_readers_would_get_wrong_is_refused(config: dict[str, Any], reason: str) -> None:
    output = Output(format="gguf", embeddings="int8")
    base = {"model_type": "llama", "hidden_size": 64, "hidden_act": "silu", "rope_scaling": None}
    with pytest.raises(InvalidOptions, match=f"gguf cannot hold this model: .*{reason}"):
        check_model(output, base | config)
    check_model(output, base)
    check_model(output, base | {"model_type": "mistral", "sliding_window": None, "max_position_embeddings": 64})
    check_model(output, base | {"model_type": "qwen2", "sliding_window": 8, "max_position_embeddings": 64})


def test_unreadable_tokenizer_is_refused_before_any_solving(tmp_path: Path) -> None:
    tiny_models.save(tmp_path / "model")
    tokenizer = tiny_models.byte_tokenizer()
    tokenizer.backend_tokenizer.pre_tokenizer = None
    tokenizer.save_pretrained(tmp_path / "model")
    with pytest.raises(UnsupportedModel, match="splits text"):
        make(tmp_path, {"bits": 4}, Output(format="gguf"))
    assert not (tmp_path / "out").exists()


def test_embeddings_of_the_dense_format_stay_as_they_are() -> None:
    with pytest.raises(InvalidOptions, match=r"^output\.embeddings: dense cannot store .*gguf"):
        check_output(Output(format="dense", embeddings="int8"))
    check_output(Output(format="sparse-packed", embeddings="int8"))
