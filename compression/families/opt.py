"""OPT: learned positions, biases, a plain feed-forward; small embeddings are projected in and out (left dense)."""

from compression.families.base import Architecture, Config, Matrix
from compression.families.structure import Feed, Half, StandIn, Structure


def opt(config: Config) -> Architecture:
    d, ffn = config.positive("hidden_size"), config.positive("ffn_dim")
    return Architecture(
        family="opt",
        class_name=config.class_name,
        model_type=config.model_type,
        blocks=config.positive("num_hidden_layers"),
        block_path="model.decoder.layers",
        base_prefix="model",
        matrices=(
            Matrix("self_attn.q_proj", (d, d), reads="attention", stage=0),
            Matrix("self_attn.k_proj", (d, d), reads="attention", stage=0),
            Matrix("self_attn.v_proj", (d, d), reads="attention", stage=0),
            Matrix("self_attn.out_proj", (d, d), reads="attention_output", stage=1),
            Matrix("fc1", (ffn, d), reads="mlp", stage=2),
            Matrix("fc2", (d, ffn), reads="mlp_output", stage=3),
        ),
        max_positions=config.positive("max_position_embeddings"),
        vocab_size=config.positive("vocab_size"),
        structure=_structure(config, d, ffn),
    )


def _structure(config: Config, d: int, ffn: int) -> Structure:
    heads = config.positive("num_attention_heads")
    size = d // heads
    is_norm_before = config.flag("do_layer_norm_before", default=True)  # one after a half is of the residual stream, and stays

    def norm(name: str) -> tuple[tuple[str, StandIn], ...]:
        return ((name, "identity"),) if is_norm_before else ()

    attention = Half(
        name="attention",
        output="self_attn.out_proj",
        units=heads,
        width=size,
        feeds=tuple(Feed(f"self_attn.{part}_proj", size) for part in "qkv"),
        stand_ins=(("self_attn", "attention"), *norm("self_attn_layer_norm")),
        counts=(("self_attn", "num_heads", 1),),
    )
    feed_forward = Half(
        name="ffn",
        output="fc2",
        units=ffn,
        width=1,
        feeds=(Feed("fc1", 1),),
        stand_ins=(("fc1", "identity"), ("activation_fn", "identity"), ("fc2", "zero"), *norm("final_layer_norm")),
        config=(("ffn_dim", 1),),
    )
    return attention, feed_forward


READERS = {"opt": opt}
