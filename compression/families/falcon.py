"""Falcon: fused q/k/v in three layouts; attention and feed-forward in parallel behind one norm or two, or in sequence."""

from compression.families.base import Architecture, Config, Matrix
from compression.families.blocks import decoder, plain


def falcon(config: Config) -> Architecture:
    d = config.positive("n_embed", "hidden_size")
    reads, stage = _feed_forward(config)
    return decoder(
        config,
        "falcon",
        (
            Matrix("self_attention.query_key_value", (_fused(config, d), d), reads="attention", stage=0),
            Matrix("self_attention.dense", (d, d), reads="attention_output", stage=1),
            *plain(
                d,
                config.positive("ffn_hidden_size", default=4 * d),
                "mlp.dense_h_to_4h",
                "mlp.dense_4h_to_h",
                reads=reads,
                stage=stage,
            ),
        ),
        block_path="transformer.h",
        base_prefix="transformer",
        max_positions=config.positive("max_position_embeddings", default=2048),
        block_returns_tuple=True,
    )


def _fused(config: Config, d: int) -> int:
    """Rows of the fused matrix: grouped keys (the new architecture), one key for all heads, or one a head."""
    heads = config.positive("num_attention_heads")
    if config.flag("new_decoder_architecture", default=False):
        return (2 * config.positive("num_kv_heads", default=heads) + heads) * (d // heads)
    return d + 2 * (d // heads) if config.flag("multi_query", default=True) else 3 * d


def _feed_forward(config: Config) -> tuple[str, int]:
    """What the feed-forward reads, and its stage."""
    is_new = config.flag("new_decoder_architecture", default=False)
    is_parallel = config.flag("parallel_attn", default=True)
    if is_new and config.positive("num_ln_in_parallel_attn", default=2) == 2:
        return "mlp", 0
    return ("attention", 0) if is_parallel else ("mlp", 2)


READERS = {"falcon": falcon}
