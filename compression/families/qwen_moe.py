"""Qwen2-MoE, Qwen3-MoE and OLMoE: Llama's attention, small experts, some blocks without; Qwen2-MoE has a shared expert."""

from compression.errors import UnsupportedModel
from compression.families.base import MAX_BLOCKS, Architecture, Config, Matrix
from compression.families.blocks import attention, decoder, experts, gated


def qwen2_moe(config: Config) -> Architecture:
    d = config.positive("hidden_size")
    shared = gated(d, config.positive("shared_expert_intermediate_size"), "mlp.shared_expert")
    gate = Matrix("mlp.shared_expert_gate", (1, d), reads="mlp", stage=2, kept_dense="gate of the shared expert: kept dense")
    return _mixture(config, (*_routed(config, "moe_intermediate_size"), *shared, gate))


def qwen3_moe(config: Config) -> Architecture:
    return _mixture(config, _routed(config, "moe_intermediate_size"))


def olmoe(config: Config) -> Architecture:
    return decoder(config, "olmoe", (*attention(config), *_routed(config, "intermediate_size")))


def _routed(config: Config, width: str) -> tuple[Matrix, ...]:
    count = config.positive("num_experts", "num_local_experts")
    return experts(config.positive("hidden_size"), config.positive(width), count)


def _mixture(config: Config, mixture: tuple[Matrix, ...]) -> Architecture:
    """Every `decoder_sparse_step`-th block has the mixture, but those in `mlp_only_layers`."""
    step, alone = config.positive("decoder_sparse_step", default=1), config.data.get("mlp_only_layers") or []
    if not isinstance(alone, list):
        raise UnsupportedModel(f"config.json: mlp_only_layers is {alone!r}, not a list of blocks")
    dense = (*attention(config), *gated(config.positive("hidden_size"), config.positive("intermediate_size")))
    blocks = config.positive("num_hidden_layers")
    without = {k: dense for k in range(min(blocks, MAX_BLOCKS)) if k in alone or (k + 1) % step}
    return decoder(config, config.model_type, (*attention(config), *mixture), exceptions=without)


READERS = {"qwen2_moe": qwen2_moe, "qwen3_moe": qwen3_moe, "olmoe": olmoe}
