"""The parts that many families' blocks are made of. A matrix has a later stage than every matrix that feeds it."""

from collections.abc import Mapping

from compression.errors import UnsupportedModel
from compression.families.base import Architecture, Config, Matrix, Slot
from compression.families.structure import Structure

ROUTER = "router: kept dense"
MAX_EXPERTS = 4096


def attention_widths(config: Config, head_dim: int | None = None) -> tuple[int, int]:
    """Widths of all queries together and of all keys together. Args: head_dim: where config.json does not say."""
    heads = config.positive("num_attention_heads")
    size = config.positive("head_dim", default=head_dim or config.positive("hidden_size") // heads)
    return heads * size, config.positive("num_key_value_heads", default=heads) * size


def attention(config: Config, output: str = "o_proj", head_dim: int | None = None) -> tuple[Matrix, ...]:
    """Separate projections of queries, keys and values, and the output."""
    d = config.positive("hidden_size")
    q, kv = attention_widths(config, head_dim)
    return (
        Matrix("self_attn.q_proj", (q, d), reads="attention", stage=0),
        Matrix("self_attn.k_proj", (kv, d), reads="attention", stage=0),
        Matrix("self_attn.v_proj", (kv, d), reads="attention", stage=0),
        Matrix(f"self_attn.{output}", (d, q), reads="attention_output", stage=1),
    )


def gated(d: int, ffn: int, module: str = "mlp", *, reads: str = "mlp", stage: int = 2) -> tuple[Matrix, ...]:
    """A feed-forward of gate, up and down."""
    return (
        Matrix(f"{module}.gate_proj", (ffn, d), reads=reads, stage=stage),
        Matrix(f"{module}.up_proj", (ffn, d), reads=reads, stage=stage),
        Matrix(f"{module}.down_proj", (d, ffn), reads=f"{module}_output", stage=stage + 1),
    )


def plain(d: int, ffn: int, up: str, down: str, *, reads: str = "mlp", stage: int = 2) -> tuple[Matrix, ...]:
    """A feed-forward of two matrices, named in full."""
    return (
        Matrix(up, (ffn, d), reads=reads, stage=stage),
        Matrix(down, (d, ffn), reads="mlp_output", stage=stage + 1),
    )


def experts(
    d: int, ffn: int, count: int, names: tuple[str, str, str] = ("gate_proj", "up_proj", "down_proj"), *, stage: int = 2
) -> tuple[Matrix, ...]:
    """A router and its experts, fused as transformers fuses them.

    Args: names: of gate, up and down in checkpoints that hold one tensor for each expert.
    Raises: UnsupportedModel: too many.
    """
    if count > MAX_EXPERTS:
        raise UnsupportedModel(f"config.json: {count} experts are more than {MAX_EXPERTS}")
    gate, up, down = names
    both, second = "mlp.experts.gate_up_proj", "mlp.experts.down_proj"
    found = [Matrix("mlp.gate", (count, d), reads="mlp", stage=stage, kept_dense=ROUTER)]
    for e in range(count):
        name, reads = f"mlp.experts.{e}", f"expert {e}"
        found += [
            Matrix(f"{name}.{gate}", (ffn, d), reads, stage, slot=Slot(both, e, (0, ffn))),
            Matrix(f"{name}.{up}", (ffn, d), reads, stage, slot=Slot(both, e, (ffn, 2 * ffn))),
            Matrix(f"{name}.{down}", (d, ffn), f"{reads} output", stage + 1, slot=Slot(second, e, (0, d), is_second=True)),
        ]
    return tuple(found)


def decoder(
    config: Config,
    family: str,
    matrices: tuple[Matrix, ...],
    *,
    blocks: int | None = None,
    block_path: str = "model.layers",
    base_prefix: str = "model",
    max_positions: int | None = None,
    exceptions: Mapping[int, tuple[Matrix, ...]] | None = None,
    renames: tuple[tuple[str, str], ...] = (),
    block_returns_tuple: bool = False,
    structure: Structure | None = None,
) -> Architecture:
    """An architecture whose names and config entries are those of most families, where nothing else is said."""
    return Architecture(
        family=family,
        class_name=config.class_name,
        model_type=config.model_type,
        blocks=blocks or config.positive("num_hidden_layers"),
        block_path=block_path,
        base_prefix=base_prefix,
        matrices=matrices,
        max_positions=max_positions or config.positive("max_position_embeddings"),
        vocab_size=config.positive("vocab_size"),
        exceptions=exceptions or {},
        renames=renames,
        block_returns_tuple=block_returns_tuple,
        structure=structure,
    )
