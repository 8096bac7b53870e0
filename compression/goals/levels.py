"""The levels that a matrix may get, and a choice of them as one recipe. Torch-free.

A level is a recipe's target for every matrix alike, with its defaults filled in, or None: left dense.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from compression.errors import InvalidOptions
from compression.families import Architecture
from compression.formats.catalog import check_plan
from compression.plan import Plan, plan
from compression.protocol import OutputFormat
from compression.recipe import Inputs, Recipe, Target, parse_recipe, resolve

LevelAsked = Mapping[str, Any] | None
BITS_LEVELS: tuple[LevelAsked, ...] = ({"bits": 2}, {"bits": 3}, {"bits": 4}, {"bits": 8}, None)
SPARSITY_LEVELS: tuple[LevelAsked, ...] = (*({"sparsity": s} for s in (0.8, 0.7, 0.6, 0.5, 0.4, 0.3)), None)
DENSE = "dense"


@dataclass(frozen=True)
class Level:
    """Args: plan: of the whole model at this level; None: all of it stays dense."""

    name: str
    target: Mapping[str, Any] | None
    plan: Plan | None


def default_levels(output_format: OutputFormat) -> tuple[LevelAsked, ...]:
    """Zeros where codes cannot be stored, else the bits that the format takes."""
    if output_format in ("dense", "sparse-packed"):
        return SPARSITY_LEVELS
    fitting = []
    for level in BITS_LEVELS:
        try:
            fitting.append(level)
            if level is not None:
                resolve(parse_recipe(level), output_format)
        except InvalidOptions:
            fitting.pop()
    return tuple(fitting)


def levels(
    asked: Sequence[LevelAsked], output_format: OutputFormat, architecture: Architecture, *, ignore: tuple[str, ...] = ()
) -> tuple[Level, ...]:
    """Settle levels for a model.

    Args: asked: targets of a recipe; None: dense. Each once. ignore: modules that stay dense at every level.
    Raises: InvalidOptions: one is refused, by the model or the format; two are the same; or there is nothing to choose.
    """
    found: list[Level] = []
    for number, level in enumerate(asked):
        where = f"goal.levels.{number}"
        if level is None:
            found.append(Level(DENSE, None, None))
            continue
        try:
            planned = plan(resolve(parse_recipe({**level, "ignore": ignore, "inputs": "dense"}), output_format), architecture)
            check_plan(output_format, planned, architecture)
        except InvalidOptions as error:
            raise InvalidOptions(f"{where}: {error.field}", error.reason, error.allowed) from error
        target = {name: value for name, value in planned.recipe.options.model_dump().items() if name in Target.model_fields}
        found.append(Level(_name(level), target, planned))
    if len(found) < 2 or all(level.plan is None for level in found):
        raise InvalidOptions(
            "goal.levels", "there is nothing to choose", "at least two levels, null (dense) among them or not"
        )
    for number, one in enumerate(found):
        if any(one.target == other.target for other in found[:number]):
            raise InvalidOptions(f"goal.levels.{number}", f"{one.name} is there twice", "each level once")
    return tuple(found)


def layer_names(levels: Sequence[Level]) -> tuple[str, ...]:
    """The matrices that a level is chosen for, in the order of the model."""
    planned = next(level.plan for level in levels if level.plan is not None)
    return tuple(layer.name for layer in planned.targeted)


def recipe_of(
    profile: Sequence[int], levels: Sequence[Level], names: Sequence[str], inputs: Inputs, *, ignore: tuple[str, ...] = ()
) -> Recipe:
    """The recipe that gives each named matrix its level.

    Raises: InvalidOptions: every matrix would stay dense.
    """
    counts = {index: profile.count(index) for index in dict.fromkeys(profile) if levels[index].target is not None}
    if not counts:
        raise InvalidOptions("goal", "every matrix would stay dense: the goal is reached without compression")
    base = max(counts, key=lambda index: counts[index])
    overrides = {
        name: _override(levels[index], levels[base]) for name, index in zip(names, profile, strict=True) if index != base
    }
    target = levels[base].target
    assert target is not None
    return Recipe.model_validate({**target, "inputs": inputs, "overrides": overrides, "ignore": ignore})


def _override(level: Level, base: Level) -> dict[str, Any] | None:
    """A level's words, and nulls for those of the recipe that it does not have."""
    if level.target is None:
        return None
    assert base.target is not None
    return {**dict.fromkeys(base.target.keys() - level.target.keys()), **level.target}


def _name(level: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in level.items())


def kept_share(level: Level) -> float:
    """Share of a matrix's multiplications that are left."""
    return 1.0 if level.target is None else 1.0 - float(level.target.get("sparsity") or 0.0)


def multiplications(levels: Sequence[Level]) -> dict[str, int]:
    """Of each matrix and token."""
    planned = next(level.plan for level in levels if level.plan is not None)
    return {layer.name: math.prod(layer.matrix.shape) for layer in planned.targeted}
