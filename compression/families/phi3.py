"""Phi-3: Llama's block with q, k and v in one matrix, and gate and up in another."""

from compression.families.base import Architecture, Config, Matrix
from compression.families.blocks import attention_widths, decoder


def phi3(config: Config) -> Architecture:
    d, ffn = config.positive("hidden_size"), config.positive("intermediate_size")
    q, kv = attention_widths(config)
    return decoder(
        config,
        "phi3",
        (
            Matrix("self_attn.qkv_proj", (q + 2 * kv, d), reads="attention", stage=0),
            Matrix("self_attn.o_proj", (d, q), reads="attention_output", stage=1),
            Matrix("mlp.gate_up_proj", (2 * ffn, d), reads="mlp", stage=2),
            Matrix("mlp.down_proj", (d, ffn), reads="mlp_output", stage=3),
        ),
    )


READERS = {"phi3": phi3}
