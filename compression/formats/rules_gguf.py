"""What `gguf` can hold. Torch-free; each function gives the reason of a refusal, or None.

A model is written only where llama.cpp and transformers' reader, which know it from the file alone, both compute what the
source does; what the file has no words for is refused.
"""

from collections.abc import Mapping
from typing import Any

from compression.options import LayerOptions, QuantizationOptions
from compression.protocol import Output

FILE = "model.gguf"  # of an artifact
BLOCK = 32  # weights that share a scale in Q4_0, Q4_1 and Q8_0
ARCHITECTURES = {"llama": "llama", "mistral": "llama", "qwen2": "qwen2", "qwen3": "qwen3"}  # model_type -> GGUF's name
QWEN3_HEAD_DIM = 128  # of every published Qwen3; transformers' reader takes it for granted
WITHOUT_A_TYPE = ("spqr", "aqlm")  # methods whose results are no integer grids


def defaults(given: Mapping[str, Any]) -> Mapping[str, Any]:
    """Groups of 32, and the grid of Q8_0, Q4_0 or Q4_1 where the user named none."""
    wanted: dict[str, Any] = {"group_size": BLOCK}
    needs_zero = bool(given.get("sparsity"))  # Q4_1 need not have it
    if given.get("bits") == 8 or (needs_zero and "offset" not in given):
        wanted["symmetric"] = True
    elif given.get("bits") == 4 and not given.get("symmetric") and not needs_zero:
        wanted["offset"] = "minimum"
    return wanted


def refuses(options: LayerOptions) -> str | None:
    if options.method in WITHOUT_A_TYPE:
        return f"none of its tensor types holds what {options.method} gives"
    if not isinstance(options, QuantizationOptions):
        return None
    if options.bits not in (4, 8):
        return f"its types with one scale to a group have 4 bits (Q4_0, Q4_1) or 8 (Q8_0), not {options.bits}"
    if options.group_size != BLOCK:
        return f"its groups have {BLOCK} inputs, not {options.group_size}; leave group_size out"
    if getattr(options, "act_order", False) and not getattr(options, "static_groups", True):
        return "its groups are runs of consecutive inputs; leave static_groups true, or set act_order false"
    if options.bits == 8 and not options.symmetric:
        return "Q8_0 has no zero point; leave symmetric out, or set it true"
    if options.bits == 4 and not options.symmetric and options.offset == "zero_point":
        return _no_zero_point(options)
    return None


def _no_zero_point(options: QuantizationOptions) -> str:
    if getattr(options, "sparsity", None):
        return "Q4_1 keeps a minimum, and zero need not be on its grid; with sparsity set symmetric true, for Q4_0"
    return "its 4-bit types have no integer zero point; leave offset out, for Q4_1, or set symmetric true, for Q4_0"


def refuses_model(config: Mapping[str, Any], output: Output) -> str | None:
    model_type = str(config.get("model_type"))
    if model_type not in ARCHITECTURES:
        return f"only {', '.join(ARCHITECTURES)} models are written as GGUF, not {model_type}"
    if config.get("hidden_act", "silu") != "silu":
        return f"its readers compute silu, and hidden_act is {config['hidden_act']!r}"
    for name in ("attention_bias", "mlp_bias"):
        if config.get(name):
            return f"transformers' reader of GGUF drops the biases that {name} adds"
    if model_type == "qwen3" and config.get("head_dim", QWEN3_HEAD_DIM) != QWEN3_HEAD_DIM:
        return f"transformers' reader of GGUF takes heads of {QWEN3_HEAD_DIM} for granted, not {config['head_dim']}"
    if output.embeddings == "int8" and _width(config) % BLOCK:
        return f"Q8_0 has groups of {BLOCK}, and {BLOCK} does not divide the {_width(config)} columns of the embedding"
    return _refuses_rotary(config) or _refuses_window(config)


def _refuses_rotary(config: Mapping[str, Any]) -> str | None:
    """Scaled rotary embeddings need factors that transformers' reader drops."""
    for name in ("rope_scaling", "rope_parameters"):
        rotary = config.get(name)
        if not isinstance(rotary, Mapping):
            continue
        kind = rotary.get("rope_type", rotary.get("type", "default"))
        if kind != "default" or rotary.get("partial_rotary_factor", 1) != 1:
            return f"its rotary embeddings are scaled ({name}: {kind}), and readers of GGUF would lose that"
    return None


def _refuses_window(config: Mapping[str, Any]) -> str | None:
    window, positions = config.get("sliding_window"), config.get("max_position_embeddings")
    uses_window = config.get("use_sliding_window", config.get("model_type") == "mistral")
    if uses_window and isinstance(window, int) and isinstance(positions, int) and window < positions:
        return f"it attends to the last {window} tokens only, and readers of GGUF would attend to all"
    return None


def _width(config: Mapping[str, Any]) -> int:
    width = config.get("hidden_size")
    return width if isinstance(width, int) else 0
