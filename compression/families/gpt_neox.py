"""GPT-NeoX and Pythia: fused q/k/v, rotary positions on part of each head, attention and feed-forward mostly in parallel."""

from compression.families.base import Architecture, Config, Matrix
from compression.families.blocks import decoder, plain


def gpt_neox(config: Config) -> Architecture:
    """Each branch has a norm of its own, so that in parallel, too, the two read different tensors."""
    d, ffn = config.positive("hidden_size"), config.positive("intermediate_size")
    stage = 0 if config.flag("use_parallel_residual", default=True) else 2
    return decoder(
        config,
        "gpt_neox",
        (
            Matrix("attention.query_key_value", (3 * d, d), reads="attention", stage=0),
            Matrix("attention.dense", (d, d), reads="attention_output", stage=1),
            *plain(d, ffn, "mlp.dense_h_to_4h", "mlp.dense_4h_to_h", stage=stage),
        ),
        block_path="gpt_neox.layers",
        base_prefix="gpt_neox",
        renames=(("lm_head.", "embed_out."),),
    )


READERS = {"gpt_neox": gpt_neox}
