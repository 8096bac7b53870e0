"""StarCoder2: Llama's attention with biases, and a feed-forward of two matrices."""

from compression.families.base import Architecture, Config
from compression.families.blocks import attention, decoder, plain


def starcoder2(config: Config) -> Architecture:
    d, ffn = config.positive("hidden_size"), config.positive("intermediate_size")
    return decoder(config, "starcoder2", (*attention(config), *plain(d, ffn, "mlp.c_fc", "mlp.c_proj")))


READERS = {"starcoder2": starcoder2}
