"""Llama-like decoders: rotary positions, RMS norms, separate q/k/v and a gated feed-forward."""

from compression.families.base import Architecture, Config, Matrix


def llama(config: Config) -> Architecture:
    """Shapes of Llama and of the families that share its block, grouped-query attention included."""
    d, ffn = config.positive("hidden_size"), config.positive("intermediate_size")
    heads = config.positive("num_attention_heads")
    head_dim = config.positive("head_dim", default=d // heads)
    q, kv = heads * head_dim, config.positive("num_key_value_heads", default=heads) * head_dim
    return Architecture(
        family="llama",
        class_name=config.class_name,
        model_type=config.model_type,
        blocks=config.positive("num_hidden_layers"),
        block_path="model.layers",
        base_prefix="model",
        matrices=(
            Matrix("self_attn.q_proj", (q, d), reads="attention", stage=0),
            Matrix("self_attn.k_proj", (kv, d), reads="attention", stage=0),
            Matrix("self_attn.v_proj", (kv, d), reads="attention", stage=0),
            Matrix("self_attn.o_proj", (d, q), reads="attention_output", stage=1),
            Matrix("mlp.gate_proj", (ffn, d), reads="mlp", stage=2),
            Matrix("mlp.up_proj", (ffn, d), reads="mlp", stage=2),
            Matrix("mlp.down_proj", (d, ffn), reads="mlp_output", stage=3),
        ),
        max_positions=config.positive("max_position_embeddings"),
        vocab_size=config.positive("vocab_size"),
    )


READERS = {"llama": llama, "mistral": llama, "qwen2": llama, "qwen3": llama}
