"""What can be said of a goal before any work: without the model, and with its config and headers. Torch-free."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from compression.errors import InvalidOptions
from compression.families import Architecture
from compression.goals.costs import CostTable, budget_of, cost_table
from compression.goals.goal import Goal
from compression.goals.levels import Level, LevelAsked, default_levels, levels
from compression.models.headers import TensorInfo
from compression.protocol import OutputFormat
from compression.recipe import Recipe, ResolvedRecipe, parse_recipe, resolve

SIZES = ("bytes", "bits_per_weight", "perplexity_ratio")  # whose budget is one of bytes


def asked_levels(goal: Goal, output_format: OutputFormat) -> Sequence[LevelAsked]:
    """The goal's levels, or those that fit the format."""
    if goal.levels is None:
        return default_levels(output_format)
    return [None if level is None else level.model_dump(exclude_unset=True) for level in goal.levels]


def check_goal(goal: Goal, recipe: Recipe, output_format: OutputFormat) -> ResolvedRecipe:
    """Refuse what no model can give.

    Args: recipe: beside the goal; it may say which modules stay dense, and nothing else.
    Returns: the first level that is not dense, resolved, as an example of what the matrices may get; of latency, any recipe
        that is calibrated as such a goal is.
    Raises: InvalidOptions.
    """
    unwanted = sorted(recipe.model_fields_set - {"ignore"})
    if unwanted:
        reason = "a goal chooses the recipe itself; say what its matrices may get in goal.levels"
        raise InvalidOptions(f"recipe.{unwanted[0]}", reason, "recipe.ignore, or no goal")
    if goal.metric == "latency":
        return _check_latency(recipe, output_format)
    if goal.metric in SIZES and output_format == "dense":
        reason = "dense stores every weight at its full width, so that no choice makes the file smaller"
        raise InvalidOptions("output.format", reason, "compressed-tensors or gptq (bits), sparse-packed (zeros, bits)")
    found: list[ResolvedRecipe] = []
    for number, level in enumerate(asked_levels(goal, output_format)):
        try:
            said: Mapping[str, Any] = {**(level or {}), "ignore": recipe.ignore, "inputs": "dense"}
            found += [] if level is None else [resolve(parse_recipe(said), output_format)]
        except InvalidOptions as error:
            raise InvalidOptions(f"goal.levels.{number}: {error.field}", error.reason, error.allowed) from error
    if not found:
        raise InvalidOptions("goal.levels", "there is nothing to choose", "at least one level that is not null")
    return found[0]


def _check_latency(recipe: Recipe, output_format: OutputFormat) -> ResolvedRecipe:
    """A smaller model is written as a dense one, and all of its blocks are looked at."""
    if output_format != "dense":
        reason = "a goal of latency makes a smaller model with dense weights; compress that one in a second job"
        raise InvalidOptions("output.format", reason, "dense")
    if recipe.ignore:
        raise InvalidOptions("recipe.ignore", "a goal of latency chooses among all blocks", "no ignore, or another goal")
    return resolve(Recipe(sparsity=0.5, inputs="dense"))  # as an example of what is calibrated


def priced(
    goal: Goal,
    output_format: OutputFormat,
    architecture: Architecture,
    tensors: Mapping[str, TensorInfo],
    *,
    ignore: tuple[str, ...] = (),
) -> tuple[tuple[Level, ...], CostTable, float | None]:
    """The levels of a model, what they cost, and the whole budget; None for a loss, whose budget is to be found.

    Raises: InvalidOptions: a level does not fit the model, or the goal is out of reach; the reason has the best that is not.
    """
    if goal.metric == "perplexity_ratio" and architecture.is_encoder:
        reason = f"a {architecture.class_name} is an encoder and has no perplexity"
        raise InvalidOptions("goal.metric", reason, "bytes, bits_per_weight, flops")
    found = levels(asked_levels(goal, output_format), output_format, architecture, ignore=ignore)
    table = cost_table(goal.metric, found, output_format, architecture, tensors)
    if goal.metric == "perplexity_ratio":
        return found, table, None
    return found, table, budget_of(goal, table, sum(math.prod(info.shape) for info in tensors.values()))
