"""DeepSeek-V2 and V3: latent attention, then a mixture of experts with shared ones; the first blocks are dense."""

from compression.families.base import MAX_BLOCKS, Architecture, Config, Matrix
from compression.families.blocks import decoder, experts, gated


def deepseek(config: Config) -> Architecture:
    d, ffn = config.positive("hidden_size"), config.positive("moe_intermediate_size")
    routed = experts(d, ffn, config.positive("n_routed_experts", "num_local_experts"), stage=3)
    shared = gated(d, ffn * config.positive("n_shared_experts"), "mlp.shared_experts", stage=3)
    dense = (*_attention(config, d), *gated(d, config.positive("intermediate_size"), stage=3))
    first = config.data.get("first_k_dense_replace")
    count = 0 if first == 0 else config.positive("first_k_dense_replace")
    return decoder(
        config,
        "deepseek",
        (*_attention(config, d), *routed, *shared),
        exceptions=dict.fromkeys(range(min(count, MAX_BLOCKS)), dense),
    )


def _attention(config: Config, d: int) -> tuple[Matrix, ...]:
    """Queries and keys/values each through a narrow latent; small models have plain queries."""
    heads, kv_rank = config.positive("num_attention_heads"), config.positive("kv_lora_rank")
    nope, rope, value = (config.positive(f"{name}_head_dim") for name in ("qk_nope", "qk_rope", "v"))
    q = heads * (nope + rope)
    if config.data.get("q_lora_rank") is None:
        queries = [Matrix("self_attn.q_proj", (q, d), reads="attention", stage=0)]
    else:
        rank = config.positive("q_lora_rank")
        queries = [
            Matrix("self_attn.q_a_proj", (rank, d), reads="attention", stage=0),
            Matrix("self_attn.q_b_proj", (q, rank), reads="query_latent", stage=1),
        ]
    return (
        *queries,
        Matrix("self_attn.kv_a_proj_with_mqa", (kv_rank + rope, d), reads="attention", stage=0),
        Matrix("self_attn.kv_b_proj", (heads * (nope + value), kv_rank), reads="key_value_latent", stage=1),
        Matrix("self_attn.o_proj", (d, heads * value), reads="attention_output", stage=2),
    )


READERS = {"deepseek_v2": deepseek, "deepseek_v3": deepseek}
