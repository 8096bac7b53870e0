"""Decoders whose attention and feed-forward stand side by side behind one norm: all first matrices read one tensor."""

from compression.families.base import Architecture, Config
from compression.families.blocks import attention, decoder, gated, plain


def cohere(config: Config) -> Architecture:
    d, ffn = config.positive("hidden_size"), config.positive("intermediate_size")
    return decoder(config, "cohere", (*attention(config), *gated(d, ffn, reads="attention", stage=0)))


def stablelm(config: Config) -> Architecture:
    """In parallel or one after the other, as the config says."""
    if config.flag("use_parallel_residual", default=False):
        return cohere(config)
    d, ffn = config.positive("hidden_size"), config.positive("intermediate_size")
    return decoder(config, "stablelm", (*attention(config), *gated(d, ffn)))


def phi(config: Config) -> Architecture:
    d, ffn = config.positive("hidden_size"), config.positive("intermediate_size")
    feed_forward = plain(d, ffn, "mlp.fc1", "mlp.fc2", reads="attention", stage=0)
    return decoder(config, "phi", (*attention(config, output="dense"), *feed_forward))


READERS = {"cohere": cohere, "cohere2": cohere, "stablelm": stablelm, "phi": phi}
