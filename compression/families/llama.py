"""Llama-like decoders: rotary positions, RMS norms, separate q/k/v and a gated feed-forward.

Where the norms stand, and what they are of, differs between them and makes no difference here.
"""

from compression.families.base import Architecture, Config
from compression.families.blocks import attention, decoder, gated


def llama(config: Config) -> Architecture:
    """Shapes of Llama and of the families that share its block, grouped-query attention included."""
    d, ffn = config.positive("hidden_size"), config.positive("intermediate_size")
    return decoder(config, "llama", (*attention(config), *gated(d, ffn)))


READERS = dict.fromkeys(
    ("llama", "mistral", "qwen2", "qwen3", "smollm3", "olmo", "olmo2", "olmo3", "granite"),
    llama,
)
