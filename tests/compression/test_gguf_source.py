"""GGUF files, written here with the reference writer, against the models that they were made from."""

import io
from collections.abc import Callable
from contextlib import redirect_stderr
from pathlib import Path

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType, GGUFReader, GGUFWriter, TokenType
from gguf.quants import dequantize, quantize
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM
from transformers.utils import logging as transformers_logging

from compression.errors import UnsupportedModel
from compression.models.gguf_source import dequantize_once

HEADS, KV_HEADS, HIDDEN, BLOCKS = 4, 2, 64, 2
TOKENS = ["<|end|>", *(chr(sign) for sign in range(33, 127)), "Ġ", "he", "ll", "hell", "hello"]
MERGES = ["h e", "l l", "he ll", "hell o"]
NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    **{f"self_attn.{one}_proj": f"attn_{one}" for one in "qkv"},
    "self_attn.o_proj": "attn_output",
    **{f"mlp.{one}_proj": f"ffn_{one}" for one in ("gate", "up", "down")},
    "model.layers": "blk",
}
Q4_1, Q8_0, F32 = GGMLQuantizationType.Q4_1, GGMLQuantizationType.Q8_0, GGMLQuantizationType.F32


def tiny_llama() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=HIDDEN,
        intermediate_size=96,
        num_hidden_layers=BLOCKS,
        num_attention_heads=HEADS,
        num_key_value_heads=KV_HEADS,
        vocab_size=len(TOKENS),
        max_position_embeddings=128,
        rope_parameters={"rope_type": "default", "rope_theta": 5000.0},
        tie_word_embeddings=True,
    )
    model = LlamaForCausalLM(config)
    model.eval()
    return model


def gguf_name(name: str) -> str:
    for ours, theirs in NAMES.items():
        name = name.replace(ours, theirs)
    return name


def paired_rotary(weight: np.ndarray, heads: int) -> np.ndarray:
    """llama.cpp's row order of the q and k projections, in which rotary pairs are neighbours."""
    return weight.reshape(heads, 2, -1, weight.shape[1]).swapaxes(1, 2).reshape(weight.shape)


def write_gguf(
    path: Path,
    kind: GGMLQuantizationType = Q4_1,
    *,
    architecture: str = "llama",
    without: str = "no such tensor",
    more: Callable[[GGUFWriter], None] = lambda writer: None,
) -> LlamaForCausalLM:
    """Write a tiny model's matrices in `kind`; gives the model back with the values that the file holds."""
    model = tiny_llama()
    writer = GGUFWriter(path, architecture)
    writer.add_block_count(BLOCKS)
    writer.add_context_length(128)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(96)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_rope_freq_base(5000.0)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_vocab_size(len(TOKENS))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(TOKENS)
    writer.add_token_merges(MERGES)
    writer.add_token_types([TokenType.CONTROL, *[TokenType.NORMAL] * (len(TOKENS) - 1)])
    writer.add_eos_token_id(0)
    more(writer)
    for name, tensor in model.named_parameters():
        stored = F32 if tensor.ndim == 1 else Q8_0 if "embed" in name and kind != F32 else kind
        packed = quantize(tensor.detach().numpy(), stored)
        tensor.data = torch.from_numpy(dequantize(packed, stored).copy())
        if without not in name:
            heads = {"q_proj": HEADS, "k_proj": KV_HEADS}.get(name.split(".")[-2])
            ordered = paired_rotary(packed, heads) if heads else packed
            writer.add_tensor(gguf_name(name), ordered, raw_dtype=stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return model


@pytest.fixture
def gguf(tmp_path: Path) -> Path:
    return tmp_path / "tiny.gguf"


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def test_weights_are_the_grids_values_exactly(gguf: Path, cache: Path) -> None:
    model = write_gguf(gguf)
    folder, _ = dequantize_once(gguf, cache)
    stored = load_file(folder / "model.safetensors")
    assert stored.keys() == dict(model.named_parameters()).keys()  # the tied head is stored once
    for name, tensor in model.named_parameters():
        assert stored[name].dtype == torch.float32
        assert torch.equal(stored[name], tensor), name


def test_loaded_folder_computes_what_the_source_model_does(gguf: Path, cache: Path) -> None:
    model = write_gguf(gguf)
    folder, _ = dequantize_once(gguf, cache)
    loaded = AutoModelForCausalLM.from_pretrained(folder)
    ids = torch.arange(20)[None]
    with torch.no_grad():
        assert torch.equal(loaded(ids).logits, model(ids).logits)


def test_config_says_what_the_file_says(gguf: Path, cache: Path) -> None:
    write_gguf(gguf)
    config = AutoModelForCausalLM.from_pretrained(dequantize_once(gguf, cache)[0]).config
    assert config.model_type == "llama"
    assert config.architectures == ["LlamaForCausalLM"]
    assert (config.num_hidden_layers, config.num_attention_heads, config.num_key_value_heads) == (BLOCKS, HEADS, KV_HEADS)
    assert config.rope_parameters["rope_theta"] == 5000.0
    assert config.tie_word_embeddings


def test_tokenizer_reads_as_the_files_own(gguf: Path, cache: Path) -> None:
    write_gguf(gguf)
    saved = AutoTokenizer.from_pretrained(dequantize_once(gguf, cache)[0])
    assert saved.convert_ids_to_tokens(saved("hello hell<|end|>")["input_ids"]) == ["hello", "Ġ", "hell", "<|end|>"]
    assert saved.eos_token == "<|end|>"


@pytest.mark.parametrize(
    ("kind", "notes"),
    [(Q4_1, ["Q4_1 (4 bit in groups of 32)", "Q8_0 (8 bit in groups of 32)"]), (F32, [])],
    ids=["quantised", "float"],
)
def test_notes_name_the_grids_that_the_tensors_lie_on(
    kind: GGMLQuantizationType, notes: list[str], gguf: Path, cache: Path
) -> None:
    write_gguf(gguf, kind)
    said = dequantize_once(gguf, cache)[1]
    assert len(said) == bool(notes)
    assert all(note in said[0] for note in notes)


def test_second_call_for_the_same_bytes_writes_nothing(gguf: Path, cache: Path) -> None:
    write_gguf(gguf)
    first = dequantize_once(gguf, cache)
    written = (first[0] / "model.safetensors").stat().st_mtime_ns
    assert dequantize_once(gguf.rename(gguf.with_name("renamed.gguf")), cache) == first
    assert (first[0] / "model.safetensors").stat().st_mtime_ns == written
    assert list(cache.iterdir()) == [first[0]]


def test_call_is_silent_and_leaves_transformers_as_it_was(gguf: Path, cache: Path, capfd: pytest.CaptureFixture[str]) -> None:
    write_gguf(gguf)
    capfd.readouterr()
    before = transformers_logging.get_verbosity()
    with redirect_stderr(io.StringIO()) as said:
        dequantize_once(gguf, cache)
    assert transformers_logging.get_verbosity() == before
    assert said.getvalue() == ""
    assert capfd.readouterr() == ("", "")


def add_rope_scaling(writer: GGUFWriter) -> None:
    writer.add_string("llama.rope.scaling.type", "yarn")


def add_rope_factors(writer: GGUFWriter) -> None:
    writer.add_tensor("rope_freqs.weight", np.ones(8, dtype=np.float32))


def add_unknown_tensor(writer: GGUFWriter) -> None:
    writer.add_tensor("blk.0.surprise.weight", np.ones(8, dtype=np.float32))


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        (add_rope_scaling, "rotary"),
        (add_rope_factors, r"rope_freqs\.weight"),
        (add_unknown_tensor, r"tiny\.gguf: 1 of its 21 tensors"),
    ],
)
def test_file_that_would_lose_something_is_refused(
    more: Callable[[GGUFWriter], None], reason: str, gguf: Path, cache: Path
) -> None:
    write_gguf(gguf, more=more)
    with pytest.raises(UnsupportedModel, match=reason):
        dequantize_once(gguf, cache)


def test_missing_weights_are_never_made_up(gguf: Path, cache: Path) -> None:
    write_gguf(gguf, without="layers.1.mlp.up_proj")
    with pytest.raises(UnsupportedModel, match=r"lacks 1 tensors, the first model\.layers\.1\.mlp\.up_proj\.weight"):
        dequantize_once(gguf, cache)


def test_unknown_architecture_is_refused_by_name(gguf: Path, cache: Path) -> None:
    write_gguf(gguf, architecture="dragon")
    with pytest.raises(UnsupportedModel, match="dragon"):
        dequantize_once(gguf, cache)


@pytest.mark.parametrize("kept", [0, 3, 100, 5000, -1])
def test_cut_off_file_is_refused_by_name_and_leaves_nothing(kept: int, gguf: Path, cache: Path) -> None:
    write_gguf(gguf)
    gguf.write_bytes(gguf.read_bytes()[:kept])
    with pytest.raises(UnsupportedModel, match=r"tiny\.gguf"):
        dequantize_once(gguf, cache)
    assert not cache.exists() or not list(cache.iterdir())


def test_other_bytes_are_refused(gguf: Path, cache: Path) -> None:
    gguf.write_bytes(b"PK\x03\x04" + bytes(4096))
    with pytest.raises(UnsupportedModel, match=r"tiny\.gguf cannot be read"):
        dequantize_once(gguf, cache)


def test_missing_file_is_refused(gguf: Path, cache: Path) -> None:
    with pytest.raises(UnsupportedModel, match="no such file"):
        dequantize_once(gguf, cache)


@pytest.mark.slow
def test_demo_model_is_dequantised_whole(tmp_path: Path) -> None:
    from jobs.settings import Settings
    from jobs.sourcing.fetch import fetch_model

    gguf = fetch_model("demo:smollm2-135m", Settings(data_dir=tmp_path)).path
    folder, notes = dequantize_once(gguf, tmp_path / "dense")
    assert "Q4_1 (4 bit in groups of 32) for 78.9% of the weights" in notes[0]
    model = AutoModelForCausalLM.from_pretrained(folder)
    config = model.config
    assert (config.num_hidden_layers, config.num_attention_heads, config.num_key_value_heads) == (30, 9, 3)
    assert (config.model_type, config.tie_word_embeddings, config.rope_parameters["rope_theta"]) == ("llama", True, 100_000.0)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        said = model(**tokenizer("The capital of France is", return_tensors="pt")).logits[0, -1].argmax()
    assert tokenizer.decode(said) == " Paris"
    down = next(tensor for tensor in GGUFReader(gguf).tensors if tensor.name == "blk.29.ffn_down.weight")
    assert np.array_equal(model.model.layers[29].mlp.down_proj.weight.detach(), dequantize(down.data, down.tensor_type))
