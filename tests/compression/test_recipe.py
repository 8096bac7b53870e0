"""Short recipes become one method's options; what contradicts itself is refused with the field named."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compression.errors import InvalidOptions
from compression.options import (
    JointOptions,
    LayerOptions,
    MagnitudeOptions,
    MethodOptions,
    ObcOptions,
    OptqOptions,
    PruningOptions,
    RtnOptions,
    SparseGptOptions,
    SpqrOptions,
    WandaOptions,
    parse_block,
    parse_pattern,
)
from compression.recipe import ResolvedRecipe, parse_recipe, resolve
from tests.compression.examples import many


def described(value: object) -> str:
    return value.method if isinstance(value, MethodOptions) else str(value)


def resolved(recipe: dict[str, Any]) -> ResolvedRecipe:
    return resolve(parse_recipe(recipe))


@pytest.mark.parametrize(
    ("recipe", "options"),
    [
        ({"sparsity": 0.5}, SparseGptOptions(sparsity=0.5)),
        ({"sparsity": 0}, SparseGptOptions(sparsity=0)),
        ({"pattern": "2:4"}, SparseGptOptions(sparsity=0.5, pattern="2:4")),
        ({"pattern": "1:4"}, SparseGptOptions(sparsity=0.75, pattern="1:4")),
        ({"sparsity": 0.5, "pattern": "2:4"}, SparseGptOptions(sparsity=0.5, pattern="2:4")),
        ({"sparsity": 0.67, "pattern": "1:3"}, SparseGptOptions(sparsity=1 - 1 / 3, pattern="1:3")),
        ({"sparsity": 0.5, "pattern": "unstructured"}, SparseGptOptions(sparsity=0.5)),
        ({"bits": 4}, OptqOptions(bits=4)),
        ({"bits": 4, "act_order": False}, OptqOptions(bits=4, act_order=False)),
        ({"bits": 4, "sparsity": 0.5}, JointOptions(bits=4, sparsity=0.5)),
        ({"bits": 4, "pattern": "2:4"}, JointOptions(bits=4, sparsity=0.5, pattern="2:4")),
        ({"sparsity": 0.5, "method": "magnitude"}, MagnitudeOptions(sparsity=0.5)),
        ({"pattern": "4:8", "method": "wanda"}, WandaOptions(sparsity=0.5, pattern="4:8")),
        ({"bits": 3, "method": "rtn", "group_size": "row"}, RtnOptions(bits=3, group_size="row")),
        ({"sparsity": 0.5, "method": "obc"}, ObcOptions(sparsity=0.5)),
        ({"pattern": "2:4", "method": "obc", "force": True}, ObcOptions(sparsity=0.5, pattern="2:4", force=True)),
        ({"sparsity": 0.5, "method": "obc", "pattern": "block:4"}, ObcOptions(sparsity=0.5, pattern="block:4")),
        ({"bits": 4, "method": "obc", "group_size": 64}, ObcOptions(bits=4, group_size=64)),
        ({"bits": 4, "method": "obc", "sparsity": 0.5, "damp": 0.1}, ObcOptions(bits=4, sparsity=0.5, damp=0.1)),
        ({"bits": 3, "method": "spqr"}, SpqrOptions(bits=3, outlier_threshold=0.3, damp=1.0, group_size=16)),
        ({"bits": 4, "method": "spqr", "qq_scale_bits": 8}, SpqrOptions(bits=4, outlier_threshold=0.075, qq_scale_bits=8)),
        ({"sparsity": 0.5, "bits": None, "damp": None}, SparseGptOptions(sparsity=0.5)),
        ({"sparsity": 0.5, "damp": 1, "block_size": 4096}, SparseGptOptions(sparsity=0.5, damp=1, block_size=4096)),
    ],
    ids=described,
)
def test_method_is_chosen_from_the_target_and_defaults_are_filled_in(recipe: dict[str, Any], options: LayerOptions) -> None:
    assert resolved(recipe).options == options


@pytest.mark.parametrize(
    ("recipe", "field", "allowed"),
    [
        ({}, "recipe", "at least one of sparsity, pattern, bits"),
        ({"damp": 0.1}, "recipe", "at least one of sparsity, pattern, bits"),
        ({"pattern": "unstructured"}, "recipe.sparsity", "0 <= sparsity < 1"),
        ({"pattern": "2:4", "sparsity": 0.6}, "recipe.sparsity", "0.5, or leave one of the two out"),
        ({"pattern": "4:4"}, "recipe.pattern", "1 <= n < m <= 32"),
        ({"pattern": "5:4"}, "recipe.pattern", "1 <= n < m <= 32"),
        ({"pattern": "1:33"}, "recipe.pattern", "1 <= n < m <= 32"),
        ({"method": "sparsegpt"}, "recipe.sparsity", "0 <= sparsity < 1"),
        ({"method": "optq"}, "recipe.bits", "2, 3, 4, 5, 6, 8 or ternary"),
        ({"method": "joint", "bits": 4}, "recipe.sparsity", "0 <= sparsity < 1"),
        ({"method": "joint", "sparsity": 0.5}, "recipe.bits", "2, 3, 4, 5, 6, 8 or ternary"),
        ({"method": "sparsegpt", "sparsity": 0.5, "bits": 4}, "recipe.bits", "rtn, optq, joint"),
        ({"method": "optq", "bits": 4, "sparsity": 0.5}, "recipe.sparsity", "magnitude, wanda, sparsegpt, joint"),
        ({"method": "rtn", "bits": 4, "pattern": "2:4"}, "recipe.sparsity", "magnitude, wanda, sparsegpt, joint"),
        ({"sparsity": 0.5, "group_size": 64}, "recipe.group_size", "rtn, optq, joint"),
        ({"bits": "ternary", "symmetric": False}, "recipe.symmetric", "true"),
        ({"bits": 4, "symmetric": True, "offset": "minimum"}, "recipe.offset", "zero_point"),
        ({"bits": "ternary", "offset": "minimum"}, "recipe.offset", "zero_point"),
        ({"bits": 4, "sparsity": 0.5, "offset": "minimum"}, "recipe.offset", "zero_point"),
        ({"sparsity": 0.5, "symmetric": False}, "recipe.symmetric", "rtn, optq, joint"),
        ({"sparsity": 0.5, "act_order": True}, "recipe.act_order", "optq"),
        ({"sparsity": 0.5, "bits": 4, "static_groups": True}, "recipe.static_groups", "optq"),
        ({"sparsity": 0.5, "method": "magnitude", "damp": 0.1}, "recipe.damp", "sparsegpt, optq, joint"),
        ({"bits": 4, "method": "rtn", "block_size": 64}, "recipe.block_size", "sparsegpt, optq, joint"),
        ({"bits": 4, "outlier_threshold": 0.2}, "recipe.outlier_threshold", "spqr"),
        ({"bits": 3, "method": "spqr", "symmetric": True}, "recipe.symmetric", "rtn, optq, joint"),
        ({"pattern": "8:16", "block_size": 8}, "recipe.block_size", ">= 16"),
        ({"method": "obc"}, "recipe", "at least one of sparsity, pattern, bits"),
        ({"method": "obc", "pattern": "block:4"}, "recipe", "at least one of sparsity, pattern, bits"),
        ({"method": "obc", "bits": 4, "pattern": "block:4"}, "recipe.pattern", "name sparsity, or leave this one out"),
        ({"method": "obc", "sparsity": 0.5, "group_size": 64}, "recipe.group_size", "name bits, or leave this one out"),
        ({"method": "obc", "sparsity": 0.5, "block_size": 64}, "recipe.block_size", "sparsegpt, optq, joint"),
        ({"sparsity": 0.5, "pattern": "block:4"}, "recipe.pattern", "obc"),
        ({"method": "magnitude", "sparsity": 0.5, "pattern": "block:4"}, "recipe.pattern", "obc"),
        ({"sparsity": 0.5, "force": True}, "recipe.force", "obc"),
        ({"pattern": "3:6", "bits": 4, "group_size": 64}, "recipe.group_size", "multiples of 6, or row"),
    ],
    ids=str,
)
def test_contradiction_is_refused_with_field_and_what_is_allowed(recipe: dict[str, Any], field: str, allowed: str) -> None:
    with pytest.raises(InvalidOptions) as caught:
        resolved(recipe)
    assert caught.value.field == field
    assert caught.value.allowed is not None and allowed in caught.value.allowed
    assert str(caught.value) == f"{field}: {caught.value.reason} (allowed: {caught.value.allowed})"


@pytest.mark.parametrize(
    ("recipe", "field"),
    [
        ({"method": "spqr", "bits": 8}, "recipe.bits"),
        ({"method": "spqr", "bits": "ternary"}, "recipe.bits"),
        ({"bits": 4, "overrides": {"*fc1": {"method": "spqr", "bits": 6}}}, "recipe.overrides.*fc1.bits"),
    ],
    ids=str,
)
def test_value_that_only_other_methods_take_is_refused_with_its_field(recipe: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidOptions, match="is refused: Input should be 2, 3 or 4") as caught:
        resolved(recipe)
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("recipe", "field"),
    [
        ({"bits": 3, "outlier_threshold": float("inf")}, "recipe.outlier_threshold"),
        ({"bits": 3, "outlier_threshold": -1}, "recipe.outlier_threshold"),
        ({"bits": 3, "qq_group_size": 0}, "recipe.qq_group_size"),
        ({"bits": 3, "qq_zero_bits": 7}, "recipe.qq_zero_bits"),
        ({"sparsity": 1}, "recipe.sparsity"),
        ({"sparsity": -0.1}, "recipe.sparsity"),
        ({"sparsity": float("nan")}, "recipe.sparsity"),
        ({"sparsity": "half"}, "recipe.sparsity"),
        ({"bits": 1}, "recipe.bits"),
        ({"bits": 7}, "recipe.bits"),
        ({"bits": "4"}, "recipe.bits"),
        ({"bits": 4, "group_size": 8}, "recipe.group_size"),
        ({"bits": 4, "group_size": 2048}, "recipe.group_size"),
        ({"bits": 4, "group_size": "column"}, "recipe.group_size"),
        ({"bits": 4, "grid": "log"}, "recipe.grid"),
        ({"sparsity": 0.5, "damp": 0}, "recipe.damp"),
        ({"sparsity": 0.5, "damp": float("inf")}, "recipe.damp"),
        ({"sparsity": 0.5, "block_size": 0}, "recipe.block_size"),
        ({"pattern": "0:4"}, "recipe.pattern"),
        ({"pattern": "2:4\n"}, "recipe.pattern"),
        ({"pattern": "block:1"}, "recipe.pattern"),
        ({"pattern": "block:33"}, "recipe.pattern"),
        ({"pattern": "block"}, "recipe.pattern"),
        ({"pattern": "2:four"}, "recipe.pattern"),
        ({"method": "awq", "bits": 4}, "recipe.method"),
        ({"sparsity": 0.5, "sparsityy": 0.5}, "recipe.sparsityy"),
        ({"sparsity": 0.5, "skip_blocks": ["first"]}, "recipe.skip_blocks.0"),
        ({"sparsity": 0.5, "overrides": {"*fc1": {"damp": -1}}}, "recipe.overrides.*fc1.damp"),
        ({"sparsity": 0.5, "overrides": {"*fc1": {"ignore": ["*"]}}}, "recipe.overrides.*fc1.ignore"),
    ],
    ids=str,
)
def test_value_out_of_range_is_refused_with_its_field(recipe: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidOptions) as caught:
        parse_recipe(recipe)
    assert caught.value.field.startswith(field)
    assert "is refused" in caught.value.reason


def test_everything_but_the_options_passes_unchanged() -> None:
    recipe = resolved({"bits": 4, "true_sequential": True, "ignore": ["*fc1"], "skip_blocks": [0, -1]})
    assert recipe.true_sequential
    assert recipe.ignore == ("*fc1",)
    assert recipe.skip_blocks == (0, -1)
    assert recipe.overrides == {}


@pytest.mark.parametrize(
    ("recipe", "override", "options"),
    [
        ({"sparsity": 0.5, "damp": 0.1}, {"sparsity": 0.3}, SparseGptOptions(sparsity=0.3, damp=0.1)),
        ({"sparsity": 0.5, "damp": 0.1}, {"damp": None}, SparseGptOptions(sparsity=0.5)),
        ({"sparsity": 0.5}, {}, SparseGptOptions(sparsity=0.5)),
        ({"sparsity": 0.5}, {"method": "magnitude"}, MagnitudeOptions(sparsity=0.5)),
        ({"sparsity": 0.5, "damp": 0.1}, {"method": "wanda"}, WandaOptions(sparsity=0.5)),
        ({"sparsity": 0.5}, {"bits": 8}, JointOptions(sparsity=0.5, bits=8)),
        ({"sparsity": 0.5, "bits": 4, "group_size": 64}, {"bits": None}, SparseGptOptions(sparsity=0.5)),
        ({"sparsity": 0.5, "bits": 4, "group_size": 64}, {"sparsity": None}, OptqOptions(bits=4, group_size=64)),
        ({"pattern": "2:4", "bits": 4}, {"sparsity": None}, OptqOptions(bits=4)),
        ({"sparsity": 0.5, "pattern": "2:4"}, {"pattern": "unstructured"}, SparseGptOptions(sparsity=0.5)),
        ({"pattern": "2:4"}, {"pattern": "unstructured", "sparsity": 0.7}, SparseGptOptions(sparsity=0.7)),
        ({"bits": 4, "act_order": True}, {"method": "rtn"}, RtnOptions(bits=4)),
        ({"bits": 4, "act_order": True}, {"sparsity": 0.5}, JointOptions(bits=4, sparsity=0.5)),
        ({"pattern": "2:4"}, {"damp": 0.1}, SparseGptOptions(sparsity=0.5, pattern="2:4", damp=0.1)),
        ({"pattern": "2:4"}, {"bits": 4}, JointOptions(sparsity=0.5, pattern="2:4", bits=4)),
        ({"sparsity": 0.5}, {"pattern": "1:4"}, SparseGptOptions(sparsity=0.75, pattern="1:4")),
        ({"bits": 4, "act_order": True}, {"pattern": "2:4"}, JointOptions(bits=4, sparsity=0.5, pattern="2:4")),
        ({"method": "obc", "bits": 4, "grid": "mse"}, {"bits": None, "sparsity": 0.5}, ObcOptions(sparsity=0.5)),
        ({"method": "obc", "pattern": "2:4"}, {"sparsity": None, "bits": 4}, ObcOptions(bits=4)),
        ({"method": "obc", "sparsity": 0.5}, {"pattern": "block:4"}, ObcOptions(sparsity=0.5, pattern="block:4")),
        ({"method": "obc", "sparsity": 0.5, "force": True}, {"method": "sparsegpt"}, SparseGptOptions(sparsity=0.5)),
        ({"sparsity": 0.5, "block_size": 64}, {"method": "obc"}, ObcOptions(sparsity=0.5)),
    ],
    ids=described,
)
def test_override_speaks_over_the_recipe_and_null_takes_back(
    recipe: dict[str, Any], override: dict[str, Any], options: LayerOptions
) -> None:
    both = resolved({**recipe, "overrides": {"*fc1": override}})
    assert both.overrides == {"*fc1": options}
    assert both.options == resolved(recipe).options


def test_override_of_null_leaves_alone() -> None:
    assert resolved({"sparsity": 0.5, "overrides": {"*fc1": None}}).overrides == {"*fc1": None}


@pytest.mark.parametrize(
    ("recipe", "override", "field"),
    [
        ({"sparsity": 0.5}, {"sparsity": None}, "recipe.overrides.*fc1"),
        ({"sparsity": 0.5}, {"group_size": 64}, "recipe.overrides.*fc1.group_size"),
        ({"pattern": "2:4"}, {"sparsity": 0.7}, "recipe.overrides.*fc1.sparsity"),
        ({"bits": 4}, {"method": "wanda"}, "recipe.overrides.*fc1.sparsity"),
        ({"bits": 4}, {"method": "sparsegpt", "sparsity": 0.5}, "recipe.overrides.*fc1.bits"),
        ({"sparsity": 0.5}, {"pattern": "8:16", "sparsity": 0.5, "block_size": 8}, "recipe.overrides.*fc1.block_size"),
    ],
    ids=str,
)
def test_contradiction_in_an_override_names_the_override(recipe: dict[str, Any], override: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidOptions) as caught:
        resolved({**recipe, "overrides": {"*fc1": override}})
    assert caught.value.field == field


@many
@given(
    recipe=st.fixed_dictionaries(
        {},
        optional={
            "method": st.sampled_from(["magnitude", "rtn", "wanda", "sparsegpt", "optq", "joint", "obc", "none"]),
            "sparsity": st.sampled_from([0, 0.5, 0.75, 1]),
            "pattern": st.sampled_from(["unstructured", "2:4", "3:6", "1:32", "4:2", "2-4", "block:4"]),
            "bits": st.sampled_from([2, 4, 7]),
            "group_size": st.sampled_from([16, 64, "row", 8]),
            "damp": st.sampled_from([0.01, 2]),
            "block_size": st.sampled_from([1, 64, 128]),
            "act_order": st.booleans(),
            "symmetric": st.booleans(),
        },
    )
)
def test_recipe_is_either_resolved_or_refused_and_a_resolved_one_means_what_was_said(recipe: dict[str, Any]) -> None:
    try:
        found = resolved(recipe)
    except InvalidOptions as refusal:
        assert refusal.field.startswith("recipe")
        return
    options = found.options.model_dump()
    assert {name: options[name] for name in recipe} == recipe
    if found.options.nm:
        kept, of = found.options.nm
        assert isinstance(found.options, PruningOptions | ObcOptions)
        assert found.options.sparsity == 1 - kept / of
    assert ResolvedRecipe.model_validate_json(found.model_dump_json()) == found


@pytest.mark.parametrize(
    ("pattern", "parsed"), [("unstructured", None), ("2:4", (2, 4)), ("16:32", (16, 32)), ("block:4", None)]
)
def test_pattern_is_read_as_kept_of_consecutive(pattern: str, parsed: tuple[int, int] | None) -> None:
    assert parse_pattern(pattern) == parsed


@pytest.mark.parametrize(("pattern", "parsed"), [("unstructured", None), ("2:4", None), ("block:4", 4), ("block:32", 32)])
def test_block_pattern_is_read_as_its_size(pattern: str, parsed: int | None) -> None:
    assert parse_block(pattern) == parsed


def test_obc_rounds_to_grids_with_a_minimum_but_not_what_it_prunes() -> None:
    recipe = {"method": "obc", "bits": 4, "offset": "minimum"}
    assert resolved(recipe).options == ObcOptions(bits=4, offset="minimum")
    with pytest.raises(InvalidOptions, match="zero is not on a grid with a minimum"):
        resolved({**recipe, "sparsity": 0.5})
