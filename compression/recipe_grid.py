"""Many recipes in a few words: every combination of some options' values. Torch-free."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from compression.errors import InvalidOptions
from compression.protocol import OutputFormat
from compression.recipe import Recipe, ResolvedRecipe, parse_recipe, resolve
from compression.words import recipe_words

MAX_RECIPES = 256


@dataclass(frozen=True)
class Grid:
    """Args: left_out: combinations that contradict themselves, each with the reason."""

    recipes: tuple[Recipe, ...]
    left_out: tuple[tuple[Mapping[str, Any], str], ...]


def grid(
    axes: Mapping[str, Sequence[Any]], output_format: OutputFormat = "dense", base: Mapping[str, Any] | None = None
) -> Grid:
    """All combinations, each once; the last option changes fastest. None as a value means: not said.

    Combinations that resolve to one and the same recipe are one; those that contradict themselves (`sparsity` 0.75 with
    the pattern 2:4) are left out and told.

    Args:
        axes: option of a recipe -> its values.
        base: options that all have.
    Raises: InvalidOptions: no combination is left, or too many are.
    """
    names = list(axes)
    total = 1
    for values in axes.values():
        total *= len(values)
    if total > MAX_RECIPES:
        raise InvalidOptions("grid", f"{total} combinations are more than {MAX_RECIPES}", "fewer values")
    found: list[tuple[ResolvedRecipe, Recipe]] = []
    left_out: list[tuple[Mapping[str, Any], str]] = []
    for values in itertools.product(*axes.values()):
        said = {**(base or {}), **{name: value for name, value in zip(names, values, strict=True) if value is not None}}
        try:
            recipe = parse_recipe(said)
            resolved = resolve(recipe, output_format)
        except InvalidOptions as error:
            left_out.append((said, str(error)))
            continue
        if not any(resolved == other for other, _ in found):
            found.append((resolved, recipe))
    if not found:
        why = "; ".join(f"{recipe_words(said)}: {reason}" for said, reason in left_out[:3])
        raise InvalidOptions("grid", f"no combination makes a recipe: {why}" if why else "it is empty")
    return Grid(tuple(recipe for _, recipe in found), tuple(left_out))
