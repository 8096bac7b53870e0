"""What a user asks of a sweep, and the jobs that it comes to."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from compression.errors import InvalidOptions
from compression.goals.goal import Goal
from compression.protocol import Acceptance, Calibration, Evaluation, Output
from compression.recipe import Recipe, parse_recipe, resolve
from compression.recipe_grid import grid
from jobs.limits import Limits
from jobs.needs import Device
from jobs.request import JobRequest, Labels, Priority

MAX_POINTS = 64
OWN = ("recipes", "grid", "goals")  # fields that a job does not have


class SweepRequest(BaseModel):
    """A sweep as submitted: recipes one by one, the values of options, of which all combinations are made, and goals."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "model": "demo:smollm2-135m",
                    "grid": {"bits": [3, 4], "group_size": [32, 64]},
                    "output": {"format": "compressed-tensors"},
                },
                {
                    "model": "demo:smollm2-135m",
                    "goals": [{"metric": "latency", "factor": 1.3}, {"metric": "latency", "factor": 1.6}],
                },
            ]
        },
    )

    model: str = Field(min_length=1, max_length=1024, description="As in a job.")
    recipes: tuple[Recipe, ...] = Field(
        (), max_length=MAX_POINTS, description="Each calibrated on the dense model (`inputs: dense`) unless it says otherwise."
    )
    grid: dict[str, tuple[Any, ...]] = Field(
        default_factory=dict,
        max_length=16,
        description="Option of a recipe -> its values; null: not said. Combinations that contradict themselves are left out.",
    )
    goals: tuple[Goal, ...] = Field(
        (),
        max_length=MAX_POINTS,
        description="A family of results: each as a job's goal; what they are chosen from is built once.",
    )
    calibration: Calibration = Field(default_factory=Calibration)
    evaluation: Evaluation = Field(default_factory=Evaluation)
    acceptance: Acceptance = Field(default_factory=Acceptance)
    output: Output = Field(default_factory=Output)
    limits: Limits = Field(default_factory=Limits)
    device: Device = "auto"
    labels: Labels = Field(default_factory=dict)
    priority: Priority = 0


class LeftOut(BaseModel):
    """A combination of the grid that makes no recipe."""

    model_config = ConfigDict(frozen=True)

    recipe: dict[str, Any]
    reason: str


def job_requests(request: SweepRequest) -> tuple[tuple[JobRequest, ...], tuple[LeftOut, ...]]:
    """The jobs of a sweep in order, each recipe and goal once, and the combinations that were left out.

    Raises: InvalidOptions: there is nothing to do, or too much.
    """
    recipes = list(request.recipes)
    left_out: tuple[LeftOut, ...] = ()
    if request.grid:
        made = grid(request.grid, request.output.format)
        recipes += made.recipes
        left_out = tuple(LeftOut(recipe=dict(said), reason=reason) for said, reason in made.left_out)
    goals = [goal.model_dump(mode="json", exclude_unset=True) for goal in dict.fromkeys(request.goals)]
    if not recipes and not goals:
        raise InvalidOptions("recipes", "a sweep needs some", "recipes, a grid such as {bits: [3, 4]}, or goals")
    if len(recipes) + len(goals) > MAX_POINTS:
        raise InvalidOptions("grid", f"{len(recipes) + len(goals)} points are more than {MAX_POINTS}", "fewer values")
    common = request.model_dump(mode="json", exclude_unset=True, exclude=set(OWN))
    said: list[dict[str, Any]] = [{"recipe": recipe} for recipe in _once(recipes, request)]
    said += [{"goal": goal} for goal in goals]
    return tuple(JobRequest.model_validate({**common, **one}) for one in said), left_out


def _once(recipes: list[Recipe], request: SweepRequest) -> list[dict[str, Any]]:
    """As plain data, on dense inputs where nothing else is said; of recipes that resolve alike the first."""
    found: list[dict[str, Any]] = []
    seen: list[object] = []
    for number, recipe in enumerate(recipes):
        said = {"inputs": "dense", **recipe.model_dump(mode="json", exclude_unset=True)}
        try:
            resolved = resolve(parse_recipe(said), request.output.format)
        except InvalidOptions as error:
            raise InvalidOptions(f"recipes.{number}.{error.field}", error.reason, error.allowed) from error
        if resolved not in seen:
            seen.append(resolved)
            found.append(said)
    return found
