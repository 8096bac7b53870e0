"""What can be cut out of each family's blocks, in which steps, and what cannot."""

import pytest

from compression.errors import InvalidOptions, UnsupportedModel
from compression.families import read_architecture
from compression.structure.units import BlockKept, levels_of, plain_config, structure_of
from tests import tiny_models
from tests.compression.structure.models import FAMILIES, UNDECLARED, architecture_of
from tests.compression.test_families import saved_config

SMOLLM2 = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "num_hidden_layers": 30,
    "max_position_embeddings": 8192,
    "vocab_size": 49152,
}


@pytest.mark.parametrize("family", FAMILIES)
def test_units_are_all_of_what_they_are_cut_from(family: str) -> None:
    attention, ffn = structure_of(architecture_of(family))
    assert (attention.units, ffn.units) == (2 if "num_key_value_heads" in tiny_models.CONFIGS[family][1] else 4, ffn.units)
    assert (attention.name, ffn.name) == ("attention", "ffn")
    assert ffn.units in (64, 128)


@pytest.mark.parametrize("family", UNDECLARED)
def test_families_that_declare_nothing_are_refused(family: str) -> None:
    with pytest.raises(UnsupportedModel, match="nothing is known of what can be cut out"):
        structure_of(architecture_of(family))


def test_smollm2_loses_key_value_groups_of_three_query_heads() -> None:
    attention, ffn = structure_of(read_architecture(SMOLLM2))
    assert (attention.units, attention.width) == (3, 192)
    assert {feed.module: feed.rows for feed in attention.feeds} == {
        "self_attn.q_proj": 192,
        "self_attn.k_proj": 64,
        "self_attn.v_proj": 64,
    }
    assert levels_of(attention) == (3, 2, 1, 0)
    widths = levels_of(ffn)
    assert widths[:3] == (1536, 1376, 1248)
    assert widths[-2:] == (32, 0)
    assert all(width % 32 == 0 for width in widths)
    assert list(widths) == sorted(set(widths), reverse=True)


@pytest.mark.parametrize(
    ("multiple_of", "widths"), [(32, (64, 32, 0)), (64, (64, 0)), (16, (64, 48, 32, 16, 0)), (128, (64, 0))]
)
def test_widths_that_fall_together_are_one_level(multiple_of: int, widths: tuple[int, ...]) -> None:
    _, ffn = structure_of(architecture_of("llama"))
    assert levels_of(ffn, multiple_of) == widths


def test_every_width_once_without_rounding() -> None:
    _, ffn = structure_of(architecture_of("llama"))
    widths = levels_of(ffn, 1)
    assert len(set(widths)) == len(widths)
    assert (widths[0], widths[1], widths[-2], widths[-1]) == (64, 58, 1, 0)


def test_no_multiple_is_refused() -> None:
    with pytest.raises(InvalidOptions, match="multiple_of"):
        levels_of(structure_of(architecture_of("llama"))[1], 0)


def test_heads_that_do_not_divide_the_width_are_refused() -> None:
    config = saved_config(tiny_models.build("opt")) | {"num_attention_heads": 5}
    with pytest.raises(UnsupportedModel, match="5 units"):
        structure_of(read_architecture(config))


@pytest.mark.parametrize(
    ("family", "kept", "entries"),
    [
        (
            "llama",
            BlockKept(1, 48),
            {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8, "intermediate_size": 48},
        ),
        ("llama", BlockKept(2, 48), {"intermediate_size": 48}),
        ("llama", BlockKept(2, 0), None),
        ("llama", BlockKept(0, 64), None),
        ("gpt2", BlockKept(4, 96), {"n_inner": 96}),
        ("gpt2", BlockKept(3, 96), None),
        ("bert", BlockKept(4, 32), {"intermediate_size": 32}),
    ],
)
def test_a_plain_config_says_what_it_can(family: str, kept: BlockKept, entries: dict[str, int] | None) -> None:
    structure = structure_of(architecture_of(family))
    assert plain_config(structure, [kept] * 3) == entries
    assert plain_config(structure, [kept, kept, BlockKept(kept.attention, kept.ffn + 1)]) is None
