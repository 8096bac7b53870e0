"""Llama-like decoders: rotary positions, RMS norms, separate q/k/v and a gated feed-forward.

Where the norms stand, and what they are of, differs between them and makes no difference here.
"""

from compression.families.base import Architecture, Config
from compression.families.blocks import attention, decoder, gated
from compression.families.structure import Structure, gated_ffn, grouped_attention

NORMS_OVER_HEADS = frozenset({"olmo2", "olmo3"})
"""Their norms of queries and keys are over all heads together, so that no head can go without changing the others."""


def llama(config: Config) -> Architecture:
    """Shapes of Llama and of the families that share its block, grouped-query attention included."""
    d, ffn = config.positive("hidden_size"), config.positive("intermediate_size")
    return decoder(config, "llama", (*attention(config), *gated(d, ffn)), structure=_structure(config))


def _structure(config: Config) -> Structure | None:
    if config.model_type in NORMS_OVER_HEADS:
        return None
    return grouped_attention(config, "input_layernorm"), gated_ffn(config, "post_attention_layernorm")


READERS = dict.fromkeys(
    ("llama", "mistral", "qwen2", "qwen3", "smollm3", "olmo", "olmo2", "olmo3", "granite"),
    llama,
)
