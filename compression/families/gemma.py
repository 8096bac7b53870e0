"""Gemma 1, 2 and 3 (text): Llama's matrices, but heads of a width of their own; local and global attention alternate."""

from compression.families.base import Architecture, Config
from compression.families.blocks import attention, decoder, gated

HEAD_DIM = 256  # transformers' default, whatever the width


def gemma(config: Config) -> Architecture:
    d, ffn = config.positive("hidden_size"), config.positive("intermediate_size")
    return decoder(config, "gemma", (*attention(config, head_dim=HEAD_DIM), *gated(d, ffn)))


READERS = {"gemma": gemma, "gemma2": gemma, "gemma3_text": gemma}
