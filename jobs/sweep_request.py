"""What a user asks of a sweep, and the jobs that it comes to."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from compression.errors import InvalidOptions
from compression.protocol import Acceptance, Calibration, Evaluation, Output
from compression.recipe import Recipe, parse_recipe, resolve
from compression.recipe_grid import grid
from jobs.limits import Limits
from jobs.needs import Device
from jobs.request import JobRequest, Labels, Priority

MAX_POINTS = 64
OWN = ("recipes", "grid")  # fields that a job does not have


class SweepRequest(BaseModel):
    """A sweep as submitted: recipes one by one, or the values of options, of which all combinations are made, or both."""

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
    """The jobs of a sweep in order, each recipe once, and the combinations that were left out.

    Raises: InvalidOptions: there is no recipe, or too many.
    """
    recipes = list(request.recipes)
    left_out: tuple[LeftOut, ...] = ()
    if request.grid:
        made = grid(request.grid, request.output.format)
        recipes += made.recipes
        left_out = tuple(LeftOut(recipe=dict(said), reason=reason) for said, reason in made.left_out)
    if not recipes:
        raise InvalidOptions("recipes", "a sweep needs some", "recipes, or a grid such as {bits: [3, 4]}")
    if len(recipes) > MAX_POINTS:
        raise InvalidOptions("grid", f"{len(recipes)} recipes are more than {MAX_POINTS}", "fewer values")
    common = request.model_dump(mode="json", exclude_unset=True, exclude=set(OWN))
    return tuple(JobRequest.model_validate({**common, "recipe": said}) for said in _once(recipes, request)), left_out


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
