"""BLOOM: fused q/k/v, and biases on the attention by distance (ALiBi) in place of positions."""

from compression.errors import UnsupportedModel
from compression.families.base import Architecture, Config, Matrix
from compression.families.blocks import decoder, plain

TRAINED_POSITIONS = 2048  # ALiBi has no last position; longer windows are not what the model was trained on


def bloom(config: Config) -> Architecture:
    if config.flag("slow_but_exact", default=False):
        raise UnsupportedModel("config.json: slow_but_exact goes around the modules of the output matrices; set it to false")
    d = config.positive("n_embed", "hidden_size")
    return decoder(
        config,
        "bloom",
        (
            Matrix("self_attention.query_key_value", (3 * d, d), reads="attention", stage=0),
            Matrix("self_attention.dense", (d, d), reads="attention_output", stage=1),
            *plain(d, 4 * d, "mlp.dense_h_to_4h", "mlp.dense_4h_to_h"),
        ),
        blocks=config.positive("n_layer", "num_hidden_layers"),
        block_path="transformer.h",
        base_prefix="transformer",
        max_positions=config.positive("seq_length", default=TRAINED_POSITIONS),
        block_returns_tuple=True,
    )


READERS = {"bloom": bloom}
