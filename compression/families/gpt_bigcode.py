"""GPT-BigCode (StarCoder, SantaCoder): GPT-2 with plain linear modules and one key and value for all heads."""

from compression.errors import UnsupportedModel
from compression.families.base import Architecture, Config, Matrix
from compression.families.blocks import decoder, plain


def gpt_bigcode(config: Config) -> Architecture:
    if config.flag("add_cross_attention", default=False):
        raise UnsupportedModel("config.json: GPT-BigCode with cross-attention is not a plain decoder")
    d = config.positive("n_embd", "hidden_size")
    kv = d // config.positive("n_head", "num_attention_heads") if config.flag("multi_query", default=True) else d
    return decoder(
        config,
        "gpt_bigcode",
        (
            Matrix("attn.c_attn", (d + 2 * kv, d), reads="attention", stage=0),
            Matrix("attn.c_proj", (d, d), reads="attention_output", stage=1),
            *plain(d, config.positive("n_inner", default=4 * d), "mlp.c_fc", "mlp.c_proj"),
        ),
        blocks=config.positive("n_layer", "num_hidden_layers"),
        block_path="transformer.h",
        base_prefix="transformer",
        max_positions=config.positive("n_positions", "max_position_embeddings"),
    )


READERS = {"gpt_bigcode": gpt_bigcode}
