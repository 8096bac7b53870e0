"""Tiny random checkpoints with a real tokenizer, for tests that need a model and not its wits."""

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import AutoConfig, PreTrainedModel, PreTrainedTokenizerFast

from compression.families import Task
from compression.models.auto import AUTO_CLASSES

VOCABULARY = 256
POSITIONS = 64
BLOCKS = 3
_BASE: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "num_hidden_layers": BLOCKS,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "pad_token_id": None,
}
_LLAMA: dict[str, Any] = _BASE | {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": POSITIONS,
}
_ALTERNATING: dict[str, Any] = _LLAMA | {
    "sliding_window": 8,
    "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
    "head_dim": 8,
}
_OPT: dict[str, Any] = _BASE | {
    "hidden_size": 32,
    "ffn_dim": 64,
    "num_attention_heads": 4,
    "max_position_embeddings": POSITIONS,
    "pad_token_id": 1,
    "dropout": 0.0,
}
_GPT2: dict[str, Any] = {name: value for name, value in _BASE.items() if name != "num_hidden_layers"} | {
    "n_embd": 32,
    "n_layer": BLOCKS,
    "n_head": 4,
    "n_positions": POSITIONS,
}
_FALCON: dict[str, Any] = _BASE | {"hidden_size": 32, "num_attention_heads": 4, "max_position_embeddings": POSITIONS}
_EXPERTS: dict[str, Any] = {"num_experts_per_tok": 2, "moe_intermediate_size": 32}
_DEEPSEEK: dict[str, Any] = (
    _LLAMA
    | _EXPERTS
    | {
        "num_key_value_heads": 4,
        "n_routed_experts": 4,
        "n_shared_experts": 2,
        "first_k_dense_replace": 1,
        "kv_lora_rank": 32,
        "qk_rope_head_dim": 4,
        "qk_nope_head_dim": 8,
        "v_head_dim": 8,
    }
)

CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", _LLAMA | {"tie_word_embeddings": True}),
    "llama-untied": ("llama", _LLAMA | {"tie_word_embeddings": False, "head_dim": 16}),
    "mistral": ("mistral", _LLAMA | {"sliding_window": 8}),
    "qwen2": ("qwen2", _LLAMA),
    "qwen3": ("qwen3", _LLAMA | {"head_dim": 8}),
    "smollm3": ("smollm3", _LLAMA | {"no_rope_layers": [1, 0, 1]}),
    "olmo": ("olmo", _LLAMA | {"clip_qkv": 1.0}),
    "olmo2": ("olmo2", _LLAMA),
    "olmo3": ("olmo3", {name: value for name, value in _ALTERNATING.items() if name != "head_dim"}),
    "granite": ("granite", _LLAMA | {"logits_scaling": 2.0, "residual_multiplier": 0.5}),
    "gemma": ("gemma", _LLAMA | {"head_dim": 16}),
    "gemma2": ("gemma2", _ALTERNATING),
    "gemma3": ("gemma3_text", _ALTERNATING),
    "stablelm": ("stablelm", _LLAMA),
    "stablelm-parallel": ("stablelm", _LLAMA | {"use_parallel_residual": True}),
    "cohere": ("cohere", _LLAMA),
    "cohere2": ("cohere2", _ALTERNATING),
    "phi": ("phi", _LLAMA),
    "phi3": ("phi3", _LLAMA | {"pad_token_id": 0}),
    "starcoder2": ("starcoder2", _LLAMA),
    "opt": ("opt", _OPT | {"word_embed_proj_dim": 32, "do_layer_norm_before": True}),
    # as OPT-350M: projected embeddings, norms after, no final norm
    "opt-projected": ("opt", _OPT | {"word_embed_proj_dim": 16, "do_layer_norm_before": False}),
    "gpt2": ("gpt2", _GPT2),
    "gpt_bigcode": ("gpt_bigcode", _GPT2 | {"attention_softmax_in_fp32": False}),
    "gpt_bigcode-heads": ("gpt_bigcode", _GPT2 | {"multi_query": False}),
    "gptj": ("gptj", _GPT2 | {"rotary_dim": 4}),
    "gpt_neox": ("gpt_neox", _LLAMA),
    "gpt_neox-sequential": ("gpt_neox", _LLAMA | {"use_parallel_residual": False}),
    "bloom": ("bloom", _BASE | {"hidden_size": 32, "num_attention_heads": 4}),
    "falcon-one-key": ("falcon", _FALCON),
    "falcon-alibi": ("falcon", _FALCON | {"alibi": True, "parallel_attn": False, "multi_query": False}),
    "falcon-grouped": ("falcon", _FALCON | {"new_decoder_architecture": True, "num_kv_heads": 2}),
    "falcon-grouped-one-norm": (
        "falcon",
        _FALCON | {"new_decoder_architecture": True, "num_kv_heads": 2, "num_ln_in_parallel_attn": 1},
    ),
    "mpt": ("mpt", _BASE | {"d_model": 32, "n_heads": 4, "max_seq_len": POSITIONS}),
    "mixtral": ("mixtral", _LLAMA | {"num_local_experts": 4}),
    "qwen2_moe": (
        "qwen2_moe",
        _LLAMA | _EXPERTS | {"num_experts": 4, "shared_expert_intermediate_size": 64, "decoder_sparse_step": 2},
    ),
    "qwen3_moe": ("qwen3_moe", _LLAMA | _EXPERTS | {"num_experts": 4, "head_dim": 8, "mlp_only_layers": [1]}),
    "olmoe": ("olmoe", _LLAMA | {"num_experts": 4, "num_experts_per_tok": 2}),
    "deepseek_v2": ("deepseek_v2", _DEEPSEEK | {"q_lora_rank": None, "n_group": 1, "topk_group": 1}),
    "deepseek_v3": ("deepseek_v3", _DEEPSEEK | {"q_lora_rank": 32, "n_group": 2, "topk_group": 1}),
}
FAMILIES = tuple(CONFIGS)
MIXTURES = ("mixtral", "qwen2_moe", "qwen3_moe", "olmoe", "deepseek_v2", "deepseek_v3")

CONFIGS["llama-wide"] = ("llama", _LLAMA | {"hidden_size": 64, "intermediate_size": 128})  # for groups of 64
CONFIGS["llama-deep"] = ("llama", CONFIGS["llama-wide"][1] | {"num_hidden_layers": 4 * BLOCKS})  # for passes that take a while

_BERT: dict[str, Any] = {
    "vocab_size": VOCABULARY + 2,
    "num_hidden_layers": BLOCKS,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_attention_heads": 4,
    "max_position_embeddings": POSITIONS,
}
_DISTILBERT: dict[str, Any] = {
    "vocab_size": VOCABULARY + 2,
    "n_layers": BLOCKS,
    "dim": 32,
    "hidden_dim": 64,
    "n_heads": 4,
    "max_position_embeddings": POSITIONS,
}
_ROBERTA: dict[str, Any] = _BERT | {"max_position_embeddings": POSITIONS + 2, "pad_token_id": 1}
_LABELS: dict[str, Any] = {"id2label": {0: "calm", 1: "glad", 2: "sad"}, "label2id": {"calm": 0, "glad": 1, "sad": 2}}
TASKS: dict[str, Task] = {}
for _model_type, _options in {
    "bert": _BERT,
    "distilbert": _DISTILBERT,
    "roberta": _ROBERTA,
    "xlm-roberta": _ROBERTA,
}.items():
    for _end, _task in (("", "hidden-states"), ("-masked", "masked-lm"), ("-labels", "classification")):
        CONFIGS[f"{_model_type}{_end}"] = (_model_type, _options | (_LABELS if _task == "classification" else {}))
        TASKS[f"{_model_type}{_end}"] = _task  # type: ignore[assignment]
ENCODERS = tuple(TASKS)


def build(family: str) -> PreTrainedModel:
    """A random model of a family, the same one every time; norms and biases are not all ones and zeros."""
    model_type, options = CONFIGS[family]
    torch.manual_seed(0)
    auto_class = AUTO_CLASSES[TASKS.get(family, "causal-lm")]
    model: PreTrainedModel = auto_class.from_config(AutoConfig.for_model(model_type, **options))
    for tensor in model.state_dict().values():
        if tensor.ndim == 1:
            tensor.add_(torch.randn_like(tensor), alpha=0.1)
    return model


def save(folder: Path, family: str = "llama", dtype: torch.dtype = torch.float32, **options: Any) -> Path:
    """Write model and tokenizer as users' checkpoints are written. Args: options: of `save_pretrained`."""
    model = build(family)
    torch.nn.Module.to(model, dtype)
    model.save_pretrained(folder, **options)
    (framing_tokenizer() if family in ENCODERS else byte_tokenizer()).save_pretrained(folder)
    return folder


def framing_tokenizer() -> PreTrainedTokenizerFast:
    """The same with [CLS] (256) before and [SEP] (257) after a text, as encoders want it."""
    backend = byte_tokenizer().backend_tokenizer
    first, last = VOCABULARY, VOCABULARY + 1
    backend.add_special_tokens(["[CLS]", "[SEP]"])
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", first), ("[SEP]", last)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=backend, cls_token="[CLS]", sep_token="[SEP]")


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """One token a byte: any text, no training, ids below 256.

    GGUF readers want a merge: there is one, of two bytes that are in no UTF-8 text, in the place of a third such byte.
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {"ýþ" if letter == "ÿ" else letter: index for index, letter in enumerate(alphabet)}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[("ý", "þ")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=alphabet[0])


def text(tokens: int = 4000) -> str:
    """Some words, deterministic and not all alike."""
    generator = torch.Generator().manual_seed(1)
    letters = torch.randint(97, 123, (tokens,), generator=generator).tolist()
    return "".join(" " if index % 6 == 5 else chr(letter) for index, letter in enumerate(letters))
