"""MPT: fused q/k/v and biases on the attention by distance (ALiBi) in place of positions."""

from compression.families.base import Architecture, Config, Matrix
from compression.families.blocks import decoder, plain


def mpt(config: Config) -> Architecture:
    d = config.positive("d_model", "hidden_size")
    return decoder(
        config,
        "mpt",
        (
            Matrix("attn.Wqkv", (3 * d, d), reads="attention", stage=0),
            Matrix("attn.out_proj", (d, d), reads="attention_output", stage=1),
            *plain(d, 4 * d, "ffn.up_proj", "ffn.down_proj"),
        ),
        blocks=config.positive("n_layers", "num_hidden_layers"),
        block_path="transformer.blocks",
        base_prefix="transformer",
        max_positions=config.positive("max_seq_len", default=2048),
        block_returns_tuple=True,
    )


READERS = {"mpt": mpt}
