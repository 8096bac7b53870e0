"""GPT-2: learned positions, fused q/k/v, and Conv1D modules that store their weights as (in, out)."""

from compression.errors import UnsupportedModel
from compression.families.base import Architecture, Config, Matrix
from compression.families.structure import Feed, Half, Structure


def gpt2(config: Config) -> Architecture:
    if config.data.get("add_cross_attention"):
        raise UnsupportedModel("config.json: GPT-2 with cross-attention is not a plain decoder")
    d = config.positive("n_embd", "hidden_size")
    ffn = config.positive("n_inner", default=4 * d)
    return Architecture(
        family="gpt2",
        class_name=config.class_name,
        model_type=config.model_type,
        blocks=config.positive("n_layer", "num_hidden_layers"),
        block_path="transformer.h",
        base_prefix="transformer",
        matrices=(
            Matrix("attn.c_attn", (3 * d, d), reads="attention", stage=0, is_transposed=True),
            Matrix("attn.c_proj", (d, d), reads="attention_output", stage=1, is_transposed=True),
            Matrix("mlp.c_fc", (ffn, d), reads="mlp", stage=2, is_transposed=True),
            Matrix("mlp.c_proj", (d, ffn), reads="mlp_output", stage=3, is_transposed=True),
        ),
        max_positions=config.positive("n_positions", "max_position_embeddings"),
        vocab_size=config.positive("vocab_size"),
        structure=_structure(config, d, ffn),
    )


def _structure(config: Config, d: int, ffn: int) -> Structure:
    """One matrix holds the rows of all queries, then of all keys, then of all values."""
    heads = config.positive("n_head", "num_attention_heads")
    size = d // heads
    attention = Half(
        name="attention",
        output="attn.c_proj",
        units=heads,
        width=size,
        feeds=tuple(Feed("attn.c_attn", size, first=part * d) for part in range(3)),
        stand_ins=(("attn", "attention"), ("ln_1", "identity")),
        counts=(("attn", "num_heads", 1), ("attn", "split_size", size)),
    )
    feed_forward = Half(
        name="ffn",
        output="mlp.c_proj",
        units=ffn,
        width=1,
        feeds=(Feed("mlp.c_fc", 1),),
        stand_ins=(("mlp", "zero"), ("ln_2", "identity")),
        config=(("n_inner", 1),),
    )
    return attention, feed_forward


READERS = {"gpt2": gpt2}
