"""GPT-J: separate q/k/v, attention and feed-forward in parallel behind one norm."""

from compression.families.base import Architecture, Config, Matrix
from compression.families.blocks import decoder, plain


def gptj(config: Config) -> Architecture:
    d = config.positive("n_embd", "hidden_size")
    ffn = config.positive("n_inner", default=4 * d)
    return decoder(
        config,
        "gptj",
        (
            *(Matrix(f"attn.{name}_proj", (d, d), reads="attention", stage=0) for name in ("q", "k", "v")),
            Matrix("attn.out_proj", (d, d), reads="attention_output", stage=1),
            *plain(d, ffn, "mlp.fc_in", "mlp.fc_out", reads="attention", stage=0),
        ),
        blocks=config.positive("n_layer", "num_hidden_layers"),
        block_path="transformer.h",
        base_prefix="transformer",
        max_positions=config.positive("n_positions", "max_position_embeddings"),
        block_returns_tuple=True,
    )


READERS = {"gptj": gptj}
