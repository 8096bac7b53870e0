"""What can be cut out of a block: attention heads, columns of the feed-forward, or either half whole. Torch-free.

A family file declares the two halves of its block; nothing else in the library knows which rows belong to which head.
"""

from dataclasses import dataclass
from typing import Literal

from compression.families.base import Config

HalfName = Literal["attention", "ffn"]
StandIn = Literal["attention", "identity", "zero"]
"""What takes a module's place where its half is cut out whole. `attention`: gives (0, None), keeps a key-value cache in step;
`identity`: hands its input on; `zero`: gives 0, so that the residual stream goes through unchanged."""


@dataclass(frozen=True)
class Feed:
    """Rows of a matrix, and entries of its bias, that die with a unit.

    Args:
        module: name inside the block.
        rows: of one unit.
        first: row at which those of unit 0 begin; unit u has the rows from `first + u * rows` on.
    """

    module: str
    rows: int
    first: int = 0


@dataclass(frozen=True)
class Half:
    """One half of a block: all that lies between the residual stream and itself.

    Args:
        output: module whose input columns are grouped into units; its bias stays unless the half goes whole.
        units: how many the dense model has: key-value groups of an attention, columns of a feed-forward.
        width: input columns of `output` for each unit.
        feeds: what is cut together with these columns.
        counts: (module, attribute, per unit) of whole numbers that a module's forward reads.
        stand_ins: (module, what takes its place) where the half goes whole.
        config: (entry of config.json, per unit) that says how many units there are, the same in all blocks; empty where
            the family's config cannot say it apart from the model's width.
        constants: entries that config.json must then have as well, whatever they were derived from.
    """

    name: HalfName
    output: str
    units: int
    width: int
    feeds: tuple[Feed, ...]
    stand_ins: tuple[tuple[str, StandIn], ...]
    counts: tuple[tuple[str, str, int], ...] = ()
    config: tuple[tuple[str, int], ...] = ()
    constants: tuple[tuple[str, int], ...] = ()


Structure = tuple[Half, Half]
"""Attention first, as every family's block runs them."""


def grouped_attention(config: Config, norm: str, *, output: str = "o_proj") -> Half:
    """Separate projections; a unit is a key-value group: its query heads, its key and its value head.

    Args: norm: what only this half reads through, and what goes with it.
    """
    heads = config.positive("num_attention_heads")
    groups = config.positive("num_key_value_heads", default=heads)
    size = config.positive("head_dim", default=config.positive("hidden_size") // heads)
    queries = heads // groups
    return Half(
        name="attention",
        output=f"self_attn.{output}",
        units=groups,
        width=queries * size,
        feeds=(
            Feed("self_attn.q_proj", queries * size),
            Feed("self_attn.k_proj", size),
            Feed("self_attn.v_proj", size),
        ),
        stand_ins=(("self_attn", "attention"), (norm, "identity")),
        config=(("num_attention_heads", queries), ("num_key_value_heads", 1)),
        constants=(("head_dim", size),),
    )


def gated_ffn(config: Config, norm: str) -> Half:
    """Column j of down is made of row j of gate and row j of up."""
    return Half(
        name="ffn",
        output="mlp.down_proj",
        units=config.positive("intermediate_size"),
        width=1,
        feeds=(Feed("mlp.gate_proj", 1), Feed("mlp.up_proj", 1)),
        stand_ins=(("mlp", "zero"), (norm, "identity")),
        config=(("intermediate_size", 1),),
    )
