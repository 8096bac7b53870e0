"""What the flags of `submit` and `estimate` ask for, as the service takes it."""

from typing import Any

from cli import flags
from cli.groups import GoalFlags, LimitFlags, OutputFlags, RecipeFlags, TextFlags


def request_of(
    model: str,
    recipe: RecipeFlags,
    goal: GoalFlags,
    texts: TextFlags,
    limits: LimitFlags,
    output: OutputFlags,
    *,
    is_evaluation: bool,
    reference: str | None,
    label: list[str] | None = None,
    device: str | None = None,
) -> dict[str, Any]:
    """The request as the client's `submit` or `evaluate` takes it."""
    asked: dict[str, Any] = {"recipe": recipe.asked(), "labels": flags.labels(label), **texts.asked()}
    said = {
        "goal": goal.asked(),
        "acceptance": limits.asked(),
        "output": output.asked(),
        "reference": None if reference is None else flags.source(reference),
        "device": device,
    }
    asked |= {name: value for name, value in said.items() if value}
    if is_evaluation:  # what it has no use for is sent only where it was said, and then refused by name
        asked = {name: value for name, value in asked.items() if value}
    return {"model": flags.source(model), **asked}
