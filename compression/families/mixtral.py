"""Mixtral: Llama's attention, and a mixture of experts in every block."""

from compression.families.base import Architecture, Config
from compression.families.blocks import attention, decoder, experts


def mixtral(config: Config) -> Architecture:
    d, ffn = config.positive("hidden_size"), config.positive("intermediate_size")
    mixture = experts(d, ffn, config.positive("num_local_experts", "num_experts"), names=("w1", "w3", "w2"))
    return decoder(config, "mixtral", (*attention(config), *mixture), renames=((".mlp.", ".block_sparse_moe."),))


READERS = {"mixtral": mixtral}
