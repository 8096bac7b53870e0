"""Tiny random checkpoints with a real tokenizer, for tests that need a model and not its wits."""

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

VOCABULARY = 256
POSITIONS = 64
BLOCKS = 3
_LLAMA: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": BLOCKS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": POSITIONS,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "pad_token_id": None,
}


def build(family: str) -> PreTrainedModel:
    """A random model of a family, the same one every time."""
    torch.manual_seed(0)
    match family:
        case "llama":
            return LlamaForCausalLM(LlamaConfig(**_LLAMA, tie_word_embeddings=True))
        case "llama-untied":
            return LlamaForCausalLM(LlamaConfig(**_LLAMA, tie_word_embeddings=False, head_dim=16))
        case "llama-wide":  # for groups of 64
            return LlamaForCausalLM(LlamaConfig(**_LLAMA | {"hidden_size": 64, "intermediate_size": 128}))
        case "mistral":
            return MistralForCausalLM(MistralConfig(**_LLAMA, sliding_window=8))
        case "qwen2":
            return Qwen2ForCausalLM(Qwen2Config(**_LLAMA))
        case "qwen3":
            return Qwen3ForCausalLM(Qwen3Config(**_LLAMA, head_dim=8))
        case "opt":
            return OPTForCausalLM(_opt(word_embed_proj_dim=32, do_layer_norm_before=True))
        case "opt-projected":  # as OPT-350M: projected embeddings, norms after, no final norm
            return OPTForCausalLM(_opt(word_embed_proj_dim=16, do_layer_norm_before=False))
        case "gpt2":
            config = GPT2Config(vocab_size=VOCABULARY, n_embd=32, n_layer=BLOCKS, n_head=4, n_positions=POSITIONS)
            config.bos_token_id = config.eos_token_id = 0
            return GPT2LMHeadModel(config)
    raise ValueError(family)


FAMILIES = ("llama", "llama-untied", "mistral", "qwen2", "qwen3", "opt", "opt-projected", "gpt2")


def _opt(**options: Any) -> OPTConfig:
    return OPTConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        ffn_dim=64,
        num_hidden_layers=BLOCKS,
        num_attention_heads=4,
        max_position_embeddings=POSITIONS,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=1,
        dropout=0.0,
        **options,
    )


def save(folder: Path, family: str = "llama", dtype: torch.dtype = torch.float32, **options: Any) -> Path:
    """Write model and tokenizer as users' checkpoints are written. Args: options: of `save_pretrained`."""
    model = build(family)
    torch.nn.Module.to(model, dtype)
    model.save_pretrained(folder, **options)
    byte_tokenizer().save_pretrained(folder)
    return folder


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """One token a byte: any text, no training, ids below 256."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={letter: index for index, letter in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=alphabet[0])


def text(tokens: int = 4000) -> str:
    """Some words, deterministic and not all alike."""
    generator = torch.Generator().manual_seed(1)
    letters = torch.randint(97, 123, (tokens,), generator=generator).tolist()
    return "".join(" " if index % 6 == 5 else chr(letter) for index, letter in enumerate(letters))
