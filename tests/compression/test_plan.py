"""The fate of every matrix, decided from names and widths alone."""

import re
from typing import Any

import pytest

from compression.errors import InvalidOptions
from compression.families import Architecture, Matrix
from compression.options import JointOptions, LayerOptions, ObcOptions, OptqOptions, RtnOptions, SparseGptOptions
from compression.plan import Plan, plan, window_length
from compression.recipe import parse_recipe, resolve


def architecture(*, width: int = 256, inner: int = 512, blocks: int = 3, positions: int = 4096) -> Architecture:
    """A model of `blocks` blocks with two matrices each: `attn` reads `width` inputs, `mlp` reads `inner`."""
    matrices = (Matrix("attn", (64, width), "attention", 0), Matrix("mlp", (64, inner), "mlp", 1))
    return Architecture("tiny", "TinyForCausalLM", "tiny", blocks, "model.layers", "model", matrices, positions, 100)


def planned(recipe: dict[str, Any], model: Architecture | None = None) -> Plan:
    return plan(resolve(parse_recipe(recipe)), model or architecture())


def fates(recipe: dict[str, Any]) -> dict[str, LayerOptions | str | None]:
    """Options of a targeted layer, the reason of a skipped one, by the name less its common start."""
    return {layer.name.removeprefix("model.layers."): layer.options or layer.skipped for layer in planned(recipe).layers}


def test_every_matrix_of_every_block_is_planned_in_order() -> None:
    found = planned({"sparsity": 0.5})
    assert [layer.name for layer in found.layers] == [
        f"model.layers.{block}.{name}" for block in range(3) for name in ("attn", "mlp")
    ]
    assert [layer.block for layer in found.layers] == [0, 0, 1, 1, 2, 2]
    assert {layer.options for layer in found.layers} == {SparseGptOptions(sparsity=0.5)}
    assert {layer.skipped for layer in found.layers} == {None}
    assert found.targeted == found.layers
    assert found.block(1) == found.layers[2:4]


def test_ignored_modules_are_left_alone_with_the_reason() -> None:
    half = SparseGptOptions(sparsity=0.5)
    assert fates({"sparsity": 0.5, "ignore": ["*.1.attn", "*.2.*"]}) == {
        "0.attn": half,
        "0.mlp": half,
        "1.attn": "left alone by the recipe (ignore *.1.attn)",
        "1.mlp": half,
        "2.attn": "left alone by the recipe (ignore *.2.*)",
        "2.mlp": "left alone by the recipe (ignore *.2.*)",
    }


@pytest.mark.parametrize("skip", [[0, 2], [-3, -1], [2, -1, 0]], ids=str)
def test_skipped_blocks_count_from_either_end(skip: list[int]) -> None:
    found = planned({"sparsity": 0.5, "skip_blocks": skip})
    assert [layer.block for layer in found.targeted] == [1, 1]
    assert {layer.skipped for layer in found.block(0)} == {"left alone by the recipe (skip_blocks)"}


def test_later_override_wins_and_null_leaves_alone() -> None:
    overrides: dict[str, Any] = {"*.mlp": {"sparsity": 0.25}, "*.1.*": None, "*.1.mlp": {"sparsity": 0.75}}
    assert fates({"sparsity": 0.5, "overrides": overrides}) == {
        "0.attn": SparseGptOptions(sparsity=0.5),
        "0.mlp": SparseGptOptions(sparsity=0.25),
        "1.attn": "left alone by the recipe (overrides *.1.*)",
        "1.mlp": SparseGptOptions(sparsity=0.75),
        "2.attn": SparseGptOptions(sparsity=0.5),
        "2.mlp": SparseGptOptions(sparsity=0.25),
    }


def test_ignore_is_stronger_than_an_override() -> None:
    found = fates({"sparsity": 0.5, "ignore": ["*.mlp"], "overrides": {"*.0.mlp": {"sparsity": 0.25}}})
    assert found["0.mlp"] == "left alone by the recipe (ignore *.mlp)"


def test_patterns_are_case_sensitive_and_cover_the_whole_name() -> None:
    for pattern in ("*.MLP", "mlp", "layers.*"):
        with pytest.raises(InvalidOptions, match="matches no module"):
            planned({"sparsity": 0.5, "ignore": [pattern]})


@pytest.mark.parametrize(
    ("recipe", "field"),
    [({"ignore": ["*.mlp", "*.q_proj"]}, "recipe.ignore"), ({"overrides": {"*.q_proj": None}}, "recipe.overrides")],
    ids=str,
)
def test_pattern_that_matches_nothing_is_refused_with_an_example_name(recipe: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidOptions, match=r"'\*\.q_proj' matches no module") as caught:
        planned({"sparsity": 0.5, **recipe})
    assert caught.value.field == field
    assert caught.value.allowed == "patterns over names such as model.layers.0.attn"


@pytest.mark.parametrize("index", [3, -4, 99])
def test_block_out_of_range_is_refused_with_the_range(index: int) -> None:
    with pytest.raises(InvalidOptions, match=f"no block {index}") as caught:
        planned({"sparsity": 0.5, "skip_blocks": [0, index]})
    assert (caught.value.field, caught.value.allowed) == ("recipe.skip_blocks", "-3 to 2")


@pytest.mark.parametrize(
    "recipe", [{"ignore": ["*"]}, {"skip_blocks": [0, 1, 2]}, {"overrides": {"*.attn": None, "*.mlp": None}}], ids=str
)
def test_recipe_that_leaves_everything_alone_is_refused(recipe: dict[str, Any]) -> None:
    with pytest.raises(InvalidOptions, match="nothing is left to compress"):
        planned({"sparsity": 0.5, **recipe})


@pytest.mark.parametrize(
    ("width", "inner", "group_size"),
    [(256, 512, 128), (256, 64, 64), (96, 128, 32), (96, 80, "row"), (100, 100, "row"), (128, 128, 128)],
)
def test_default_group_is_the_largest_of_128_64_32_that_divides_every_width(width: int, inner: int, group_size: Any) -> None:
    found = planned({"bits": 4}, architecture(width=width, inner=inner))
    assert {getattr(layer.options, "group_size", None) for layer in found.layers} == {group_size}
    assert found.recipe.options == OptqOptions(bits=4, group_size=group_size)


def test_widths_of_matrices_that_do_not_take_the_default_do_not_count() -> None:
    model = architecture(width=256, inner=96)
    left_alone = planned({"bits": 4, "ignore": ["*.mlp"]}, model)
    assert left_alone.targeted[0].options == OptqOptions(bits=4, group_size=128)
    told = planned({"bits": 4, "overrides": {"*.mlp": {"group_size": "row"}}}, model)
    assert [layer.options for layer in told.block(0)] == [
        OptqOptions(bits=4, group_size=128),
        OptqOptions(bits=4, group_size="row"),
    ]


def test_default_group_reaches_overrides_and_the_resolved_recipe() -> None:
    found = planned({"sparsity": 0.5, "overrides": {"*.mlp": {"bits": 4}, "*.0.mlp": {"sparsity": None, "bits": 8}}})
    assert found.recipe.options == SparseGptOptions(sparsity=0.5)
    assert found.recipe.overrides == {
        "*.mlp": JointOptions(sparsity=0.5, bits=4, group_size=128),
        "*.0.mlp": OptqOptions(bits=8, group_size=128),
    }
    assert found.block(0)[1].options == OptqOptions(bits=8, group_size=128)


def test_default_group_is_one_that_the_pattern_tiles() -> None:
    found = planned({"pattern": "3:6", "bits": 4}, architecture(width=384, inner=768))
    assert {getattr(layer.options, "group_size", None) for layer in found.layers} == {"row"}


def test_group_size_that_is_given_is_kept() -> None:
    found = planned({"bits": 4, "method": "rtn", "group_size": 16})
    assert {layer.options for layer in found.layers} == {RtnOptions(bits=4, group_size=16)}
    by_row = planned({"bits": 4, "group_size": "row"}, architecture(width=100, inner=7))
    assert {layer.options for layer in by_row.layers} == {OptqOptions(bits=4, group_size="row")}


def test_width_that_the_group_does_not_divide_is_refused_with_the_layer_and_what_fits() -> None:
    with pytest.raises(InvalidOptions) as caught:
        planned({"bits": 4, "group_size": 128}, architecture(width=256, inner=320))
    assert caught.value.field == "recipe.group_size"
    assert caught.value.reason == "128 does not divide the 320 inputs of model.layers.*.mlp"
    assert caught.value.allowed == "sizes that fit every targeted matrix: 16, 32, 64, row"


def test_width_that_the_pattern_does_not_divide_is_refused_with_the_layer() -> None:
    with pytest.raises(InvalidOptions) as caught:
        planned({"pattern": "2:4"}, architecture(width=256, inner=258))
    assert caught.value.field == "recipe.pattern"
    assert caught.value.reason == "4 does not divide the 258 inputs of model.layers.*.mlp"
    assert caught.value.allowed == "m that divides 258"


def test_every_matrix_of_the_unfit_width_is_named_and_a_single_one_by_its_own_name() -> None:
    with pytest.raises(InvalidOptions) as caught:
        planned({"bits": 4, "group_size": 128}, architecture(width=320, inner=320))
    assert caught.value.reason == "128 does not divide the 320 inputs of model.layers.*.attn, model.layers.*.mlp"
    with pytest.raises(InvalidOptions) as caught:
        planned({"sparsity": 0.5, "overrides": {"*.1.mlp": {"pattern": "2:4"}}}, architecture(inner=258))
    assert caught.value.reason == "4 does not divide the 258 inputs of model.layers.1.mlp"


@pytest.mark.parametrize("recipe", [{"pattern": "2:4", "ignore": ["*.mlp"]}, {"pattern": "2:4", "overrides": {"*.mlp": None}}])
def test_widths_of_matrices_left_alone_are_not_checked(recipe: dict[str, Any]) -> None:
    assert len(planned(recipe, architecture(width=256, inner=258)).targeted) == 3


@pytest.mark.parametrize(
    ("asked", "positions", "length"), [(None, 4096, 2048), (None, 512, 512), (512, 512, 512), (8, 512, 8), (3000, 4096, 3000)]
)
def test_window_is_as_asked_else_2048_within_the_models_positions(asked: int | None, positions: int, length: int) -> None:
    assert window_length("calibration.seqlen", asked, architecture(positions=positions)) == length


def test_window_beyond_the_models_positions_is_refused() -> None:
    with pytest.raises(InvalidOptions) as caught:
        window_length("evaluation.seqlen", 513, architecture(positions=512))
    assert (caught.value.field, caught.value.allowed) == ("evaluation.seqlen", "<= 512")
    assert "513" in caught.value.reason


def test_obc_takes_the_default_group_only_where_it_quantises() -> None:
    found = planned({"method": "obc", "sparsity": 0.5, "overrides": {"*.mlp": {"sparsity": None, "bits": 4}}})
    assert found.block(0)[0].options == ObcOptions(sparsity=0.5)
    assert found.block(0)[1].options == ObcOptions(bits=4, group_size=128)
    assert found.recipe.options == ObcOptions(sparsity=0.5)
    default = planned({"method": "obc", "pattern": "2:4", "bits": 4}, architecture(width=96, inner=96))
    assert default.recipe.options == ObcOptions(sparsity=0.5, pattern="2:4", bits=4, group_size=32)


def test_width_that_blocks_do_not_tile_is_refused_with_the_layer() -> None:
    with pytest.raises(InvalidOptions, match=r"4 does not divide the 258 inputs of model\.layers\.\*\.mlp") as caught:
        planned({"method": "obc", "sparsity": 0.5, "pattern": "block:4"}, architecture(inner=258))
    assert caught.value.field == "recipe.pattern"


WIDE = architecture(width=1024, inner=24_000)


def test_obc_on_an_absurd_matrix_is_refused_with_layer_estimate_limit_and_cure() -> None:
    with pytest.raises(InvalidOptions) as caught:
        planned({"method": "obc", "sparsity": 0.5}, WIDE)
    assert caught.value.field == "recipe.method"
    assert "model.layers.0.mlp (64 x 24000)" in caught.value.reason
    assert re.search(r"would need \d+ h on one core .* limit for a matrix is 60 min", caught.value.reason)
    assert caught.value.allowed == "force: true, or the faster methods sparsegpt, optq and joint"


def test_obc_on_many_matrices_is_refused_for_their_sum() -> None:
    model = architecture(width=4096, inner=64, blocks=400)
    with pytest.raises(InvalidOptions, match=r"for 800 matrices, among it .* for model\.layers\.0\.attn .* limit is 24 h"):
        planned({"method": "obc", "bits": 4}, model)
    assert planned({"method": "obc", "bits": 4, "ignore": ["*.?.*", "*.??.*", "*.1??.*"]}, model).targeted


@pytest.mark.parametrize(
    "recipe",
    [
        {"method": "obc", "sparsity": 0.5, "force": True},
        {"method": "obc", "sparsity": 0.5, "overrides": {"*.mlp": {"force": True}}},
        {"method": "obc", "sparsity": 0.5, "overrides": {"*.mlp": {"method": "sparsegpt"}}},
        {"method": "obc", "sparsity": 0.5, "ignore": ["*.mlp"]},
    ],
    ids=["forced", "forced there", "faster method there", "left alone"],
)
def test_cures_of_the_refusal_work(recipe: dict[str, Any]) -> None:
    assert planned(recipe, WIDE).targeted
