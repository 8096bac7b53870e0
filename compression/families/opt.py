"""OPT: learned positions, biases, a plain feed-forward; small embeddings are projected in and out (left dense)."""

from compression.families.base import Architecture, Config, Matrix


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
    )


READERS = {"opt": opt}
