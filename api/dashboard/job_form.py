"""The form of a new job: its fields, made from the schemas of methods and request, and the request that it asks for.

The target is said in plain words; everything else is folded away, with its default beside it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from api.dashboard.goal_fields import FIRST as FIRST_GOAL
from api.dashboard.goal_fields import MORE as MORE_OF_GOAL
from api.dashboard.goal_fields import fill_goal, read_goal
from api.dashboard.schema_fields import Choice, Field, fields_of
from compression import options
from compression.corpora import CORPORA
from compression.errors import InvalidOptions
from compression.options import METHOD_OPTIONS
from compression.override_words import override_lines, parse_overrides
from compression.protocol import Acceptance, Calibration, Evaluation, Output
from compression.recipe import Recipe, parse_recipe, resolve
from jobs.limits import Limits
from jobs.request import JobRequest

GOALS = (
    Choice("reach", "Reach a goal: so small, so fast, or so little lost"),
    Choice("prune", "Prune: set weights to zero"),
    Choice("quantise", "Quantise: fewer bits per weight"),
    Choice("both", "Both"),
    Choice("evaluate", "Only evaluate: figures, and against a reference a comparison"),
)
PATTERNS = (
    Choice("unstructured", "anywhere"),
    Choice("2:4", "2 of every 4 (what sparse GPU kernels want)"),
    Choice("4:8", "4 of every 8"),
    Choice("1:4", "1 of every 4"),
)
BITS = (
    *(Choice(str(bits), f"{bits} bits") for bits in sorted(options.BITS, reverse=True)),
    Choice("ternary", "ternary: -1, 0, 1"),
)
TARGET = frozenset({"method", "sparsity", "pattern", "bits"})
FIRST = {
    "goal": "prune",
    "recipe.pattern": "2:4",
    "recipe.sparsity": "50",
    "recipe.bits": "4",
    "model.kind": "demo",
    **FIRST_GOAL,
}
MODEL_KINDS = ("demo", "upload", "hub", "folder")
PRIORITY = Field("priority", "Priority", "-100 to 100; jobs of a higher one are taken first.", "number", "0", is_whole=True)
DEVICE = Field(
    "device",
    "Device",
    "What computes it; auto takes what is free first.",
    "choice",
    "auto",
    (Choice("cpu", "cpu"), Choice("cuda", "cuda")),
)
OVERRIDES = Field(
    "recipe.overrides",
    "Overrides",
    "Modules that get other options, a name pattern on each line, such as *.down_proj: bits=8, group_size=64. "
    "“none” leaves them alone. The name ends at the last colon before the options; a pattern stands once.",
    "text",
    "",
)
LABELS = Field("labels", "Labels", "Words to find the job by, one a line: key: value.", "text", "")


@dataclass(frozen=True)
class Group:
    """Fields under one heading. Args: is_of_solving: an evaluation has no use for them."""

    title: str
    fields: tuple[Field, ...]
    is_of_solving: bool = False


def recipe_fields(method: str) -> tuple[Field, ...]:
    """The options of a method beside its target."""
    return fields_of(METHOD_OPTIONS[method].model_json_schema(), "recipe", TARGET)


ALSO_RECIPE = fields_of(
    Recipe.model_json_schema(),
    "recipe",
    frozenset(Recipe.model_fields) - {"inputs", "true_sequential", "asymmetric_calibration", "ignore", "skip_blocks"},
)
GROUPS = (
    Group("Calibration text", fields_of(Calibration.model_json_schema(), "calibration"), is_of_solving=True),
    Group("Evaluation", fields_of(Evaluation.model_json_schema(), "evaluation")),
    Group("When is it good enough?", fields_of(Acceptance.model_json_schema(), "acceptance")),
    Group("Output", fields_of(Output.model_json_schema(), "output", frozenset({"format"})), is_of_solving=True),
    Group("Limits and queue", (*fields_of(Limits.model_json_schema(), "limits"), DEVICE, PRIORITY)),
)  # fmt: skip
METHOD_FIELDS = {field.path: field for name in METHOD_OPTIONS for field in recipe_fields(name)}
FIELDS = METHOD_FIELDS | {field.path: field for group in GROUPS for field in group.fields}
FIELDS |= {field.path: field for field in ALSO_RECIPE}
OF_EVALUATIONS = {field.path for group in GROUPS if not group.is_of_solving for field in group.fields}
TEXTS = ("sotu", *CORPORA)


def read_form(form: Mapping[str, str]) -> dict[str, Any]:
    """The request that a form asks for, to be checked as any other. Fields that its method does not have are left out.

    Raises: InvalidOptions: two lines of a field say different things of one name, which no request can; or a goal's further
        options cannot be read.
    """
    request: dict[str, Any] = {"model": form.get(f"model.{form.get('model.kind', '')}", "").strip()}
    if form.get("goal") == "evaluate":
        request["task"] = "evaluate"
        if reference := form.get("reference", "").strip():
            request["reference"] = reference
        taken = OF_EVALUATIONS
    elif form.get("goal") == "reach":
        request["goal"] = read_goal(form)
        taken = FIELDS.keys() - METHOD_FIELDS.keys() - {field.path for field in ALSO_RECIPE}
    else:
        request["recipe"] = _recipe(form)
        taken = (FIELDS.keys() - METHOD_FIELDS.keys()) | _taken(method_of(form))
    for path, field in FIELDS.items():
        typed = form.get(path, "")
        if typed.strip() and path in taken:
            _put(request, path, field.parse(typed))
    if "recipe" in request and (overrides := parse_overrides(_lines(form.get(OVERRIDES.path, "")))):
        _put(request, OVERRIDES.path, overrides)
    if request.get("task") != "evaluate" and form.get("output.format", "dense") != "dense":
        _put(request, "output.format", form["output.format"])
    if labels := _labels(form.get("labels", "")):
        request["labels"] = labels
    return request


def method_of(form: Mapping[str, str]) -> str:
    """The method that was chosen, or the one that the target would bring."""
    said = form.get("recipe.method", "")
    if said in METHOD_OPTIONS:
        return said
    try:
        return resolve(parse_recipe(_recipe(form))).options.method
    except InvalidOptions:
        return {"quantise": "optq", "both": "joint"}.get(form.get("goal", ""), "sparsegpt")


def fill_form(request: Mapping[str, Any]) -> dict[str, str]:
    """The form that would ask for this request again."""
    recipe = request.get("recipe") or {}
    prunes, rounds = recipe.keys() & {"sparsity", "pattern"}, "bits" in recipe
    form = {"goal": "both" if prunes and rounds else "quantise" if rounds else "prune"}
    if request.get("task") == "evaluate":
        form = {"goal": "evaluate", "reference": str(request.get("reference") or "")}
    if request.get("goal"):
        form = {"goal": "reach", **fill_goal(request["goal"])}
    form |= _filled_model(str(request.get("model", "")))
    if prunes:
        form["recipe.pattern"] = str(recipe.get("pattern") or "unstructured")
    if recipe.get("sparsity") is not None:
        form["recipe.sparsity"] = f"{recipe['sparsity'] * 100:g}"
    form |= {f"recipe.{name}": str(recipe[name]) for name in ("bits", "method") if recipe.get(name) is not None}
    for path, field in FIELDS.items():
        group, _, name = path.rpartition(".")
        holder = request if not group else request.get(group) or {}
        if name in holder and holder[name] != {}:
            form[path] = field.show(holder[name])
    form["output.format"] = str((request.get("output") or {}).get("format", "dense"))
    form[OVERRIDES.path] = "\n".join(override_lines(recipe.get("overrides") or {}))
    form["labels"] = "\n".join(f"{key}: {value}" for key, value in (request.get("labels") or {}).items())
    return form


def says_all(form: Mapping[str, str], request: Mapping[str, Any]) -> bool:
    """Whether the form asks for the whole of an earlier request."""
    try:
        return JobRequest.model_validate(read_form(form)) == JobRequest.model_validate(request)
    except (ValidationError, InvalidOptions):
        return False


def pattern_choices(chosen: str) -> tuple[Choice, ...]:
    """Those that are offered, and one that an earlier request had."""
    is_offered = not chosen or any(choice.value == chosen for choice in PATTERNS)
    return PATTERNS if is_offered else (*PATTERNS, Choice(chosen, chosen))


def _recipe(form: Mapping[str, str]) -> dict[str, Any]:
    goal, pattern = form.get("goal", ""), form.get("recipe.pattern", "unstructured")
    recipe: dict[str, Any] = {}
    if form.get("recipe.method"):
        recipe["method"] = form["recipe.method"]
    if goal in ("prune", "both"):
        if pattern != "unstructured":
            recipe["pattern"] = pattern
        if ":" not in pattern or pattern.startswith("block"):
            recipe["sparsity"] = _share(form.get("recipe.sparsity", ""))
    if goal in ("quantise", "both"):
        bits = form.get("recipe.bits", "")
        recipe["bits"] = int(bits) if bits.isdecimal() else bits
    return recipe


def _share(percent: str) -> Any:
    """`50` -> 0.5; what is no number stays as it is, to be refused with its place."""
    try:
        return round(float(percent) / 100, 6)
    except ValueError:
        return percent


def _taken(method: str) -> frozenset[str]:
    return frozenset(field.path for field in recipe_fields(method))


def _put(request: dict[str, Any], path: str, value: Any) -> None:
    *groups, name = path.split(".")
    for group in groups:
        request = request.setdefault(group, {})
    request[name] = value


def _lines(typed: str) -> Iterator[str]:
    return (line for line in typed.splitlines() if line.strip())


def _labels(typed: str) -> dict[str, str]:
    """`team: search` -> {"team": "search"}. Raises: InvalidOptions: two lines have one key."""
    found: dict[str, str] = {}
    for line in _lines(typed):
        key, _, value = (part.strip() for part in line.partition(":"))
        if key in found:
            raise InvalidOptions("labels", f"{key} stands twice", "a key once")
        found[key] = value
    return found


def _filled_model(model: str) -> dict[str, str]:
    kind = model.partition(":")[0] if model.startswith(("demo:", "upload:")) else "folder" if model.startswith("/") else "hub"
    return {"model.kind": kind, f"model.{kind}": model}


def places(method: str | None) -> Iterator[str]:
    """Every place of the form at which a refusal can be shown. Args: method: whose options are shown; None: without these."""
    yield from (
        "model",
        "recipe.pattern",
        "recipe.sparsity",
        "recipe.bits",
        "recipe.method",
        "output.format",
        "labels",
        "reference",
        "goal",
        MORE_OF_GOAL,
        OVERRIDES.path,
    )
    yield from (path for path in FIELDS if path not in METHOD_FIELDS)
    if method is not None:
        yield from _taken(method)
