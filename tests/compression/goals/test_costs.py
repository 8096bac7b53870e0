"""What is paid for a choice, against the files that are written for it."""

import itertools
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from compression.errors import InvalidOptions
from compression.families import Architecture
from compression.formats.sizes import predicted_bytes
from compression.goals.costs import budget_of, cost_table
from compression.goals.goal import Goal, parse_goal
from compression.goals.levels import Level, default_levels, layer_names, levels, recipe_of
from compression.models.checkpoint import Checkpoint
from compression.models.headers import TensorInfo
from compression.plan import plan
from compression.protocol import OutputFormat
from compression.recipe import resolve
from tests import tiny_models

Asked = list[dict[str, Any] | None]
BITS: Asked = [{"bits": 2, "group_size": 32}, {"bits": 4, "group_size": 64}, {"bits": 8}, None]


Of = Callable[..., tuple[tuple[Level, ...], Architecture, Mapping[str, TensorInfo]]]


@pytest.fixture
def of(tmp_path: Path) -> Of:
    checkpoint = Checkpoint(tiny_models.save(tmp_path / "model", "llama-wide"))

    def of(asked: Asked, form: OutputFormat = "compressed-tensors", **options: Any) -> Any:
        return levels(asked, form, checkpoint.architecture, **options), checkpoint.architecture, checkpoint.tensors

    return of


@pytest.mark.parametrize("form", ["compressed-tensors", "gptq"])
def test_total_is_never_less_than_the_files_and_hardly_more(of: Of, form: OutputFormat) -> None:
    found, architecture, tensors = of(BITS, form)
    table = cost_table("bytes", found, form, architecture, tensors)
    draw = random.Random(0)
    profiles = [[level] * len(table.names) for level in range(3)]
    profiles += [[draw.randrange(4) for _ in table.names] for _ in range(20)]
    for profile in profiles:
        recipe = recipe_of(profile, found, table.names, "compressed")
        written = predicted_bytes(form, plan(resolve(recipe, form), architecture), architecture, tensors)
        assert written is not None
        assert written <= table.total(profile) <= written + 16 * 8 * len(tensors) * 5
    assert table.dense == sum(info.size_bytes for info in tensors.values())


def test_profile_becomes_the_recipe_whose_plan_has_each_level(of: Of) -> None:
    found, architecture, _ = of([{"bits": 3}, {"sparsity": 0.5}, {"pattern": "2:4", "bits": 4}, None], "sparse-packed")
    names = layer_names(found)
    for shift in range(4):
        profile = [(number + shift) % 4 for number in range(len(names))]
        for inputs in ("dense", "compressed"):
            planned = plan(resolve(recipe_of(profile, found, names, inputs), "sparse-packed"), architecture)
            by_name = {layer.name: layer.options for layer in planned.layers}
            for name, level in zip(names, profile, strict=True):
                uniform = found[level].plan
                alone = None if uniform is None else uniform.targeted[names.index(name)].options
                assert by_name[name] == alone
            assert planned.recipe.inputs == inputs


def test_everything_dense_is_no_compression(of: Of) -> None:
    found, _, _ = of(BITS)
    with pytest.raises(InvalidOptions, match="reached without compression"):
        recipe_of([3, 3], found, ["a", "b"], "dense")


def test_modules_that_are_ignored_are_fixed_and_paid_for(of: Of) -> None:
    found, architecture, tensors = of(BITS)
    whole = cost_table("bytes", found, "compressed-tensors", architecture, tensors)
    found, architecture, tensors = of(BITS, ignore=("*.down_proj",))
    less = cost_table("bytes", found, "compressed-tensors", architecture, tensors)
    down = sum(info.size_bytes for name, info in tensors.items() if "down_proj" in name)
    assert len(less.names) == len(whole.names) - tiny_models.BLOCKS
    assert less.fixed - whole.fixed == pytest.approx(down, abs=8000)  # headers


def test_floating_point_operations_are_those_of_the_weights_that_are_left(of: Of) -> None:
    found, architecture, tensors = of([{"sparsity": 0.75}, {"bits": 4}, None], "sparse-packed")
    table = cost_table("flops", found, "sparse-packed", architecture, tensors)
    by_name = dict(zip(table.names, table.costs, strict=True))
    assert by_name["model.layers.0.mlp.down_proj"] == (2 * 64 * 128 * 0.25, 2 * 64 * 128, 2 * 64 * 128)
    assert table.fixed == 2 * 64 * tiny_models.VOCABULARY
    matrices = 64 * 64 * 2 + 64 * 32 * 2 + 3 * 64 * 128
    assert table.dense == table.fixed + 2 * tiny_models.BLOCKS * matrices


def test_operations_of_a_mixture_of_experts_are_not_guessed(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tiny_models.save(tmp_path / "mixture", "mixtral"))
    found = levels([{"sparsity": 0.5}, None], "sparse-packed", checkpoint.architecture)
    with pytest.raises(InvalidOptions, match="a token uses some experts alone"):
        cost_table("flops", found, "sparse-packed", checkpoint.architecture, checkpoint.tensors)


@pytest.mark.parametrize("said", ["bytes/100", "bytes<=1kB", "bits_per_weight<=0.5"])
def test_goal_out_of_reach_is_refused_with_the_best_that_is_in_reach(of: Of, said: str) -> None:
    found, architecture, tensors = of(BITS)
    table, parameters = cost_table("bytes", found, "compressed-tensors", architecture, tensors), 10**5
    with pytest.raises(InvalidOptions, match="out of reach") as refusal:
        budget_of(parse_goal(said), table, parameters)
    assert refusal.value.allowed is not None
    best = float(refusal.value.allowed.replace(",", "").split("at least ")[-1].split("at most ")[-1].split(" ")[0])
    goal = parse_goal(said)
    field = "factor" if goal.factor else "at_most"
    reached = Goal.model_validate({"metric": goal.metric, field: best})
    assert budget_of(reached, table, parameters) >= table.least
    worse = best * (1.02 if field == "factor" else 0.98)
    with pytest.raises(InvalidOptions):
        budget_of(Goal.model_validate({"metric": goal.metric, field: worse}), table, parameters)


def test_formats_without_a_rule_are_refused(of: Of) -> None:
    found, architecture, tensors = of([{"bits": 4}, None], "gguf")
    with pytest.raises(InvalidOptions, match="nothing tells the bytes of gguf"):
        cost_table("bytes", found, "gguf", architecture, tensors)


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ([{"bits": 4}], "nothing to choose"),
        ([None, None], "nothing to choose"),
        ([{"bits": 4}, {"bits": 4, "method": "optq"}, None], "optq is there twice"),
        ([{"bits": 4}, {"bits": 4, "group_size": 1024}], r"goal.levels.1: recipe.group_size"),
        ([{"sparsity": 0.5}, None], "output.format"),
    ],
)
def test_levels_that_make_no_choice_or_fit_not_are_refused(of: Of, asked: Asked, why: str) -> None:
    with pytest.raises(InvalidOptions, match=why):
        of(asked)


def test_default_levels_are_what_the_format_can_hold() -> None:
    assert default_levels("compressed-tensors") == ({"bits": 2}, {"bits": 3}, {"bits": 4}, {"bits": 8}, None)
    assert default_levels("gguf") == ({"bits": 4}, {"bits": 8}, None)
    assert all(level is None or "sparsity" in level for level in default_levels("sparse-packed"))


def test_levels_are_named_and_alike_for_every_matrix(of: Of) -> None:
    found, _, _ = of(BITS)
    assert [level.name for level in found] == ["bits 2, group_size 32", "bits 4, group_size 64", "bits 8", "dense"]
    plans = [level.plan for level in found if level.plan is not None]
    for first, second in itertools.pairwise(plans):
        assert [layer.name for layer in first.targeted] == [layer.name for layer in second.targeted]
