"""What a user asks for, and the checks that need neither torch nor the model."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from compression.corpora import TextUse, text_uses
from compression.errors import InvalidOptions
from compression.formats.catalog import check_output
from compression.goals.check import check_goal
from compression.goals.goal import Goal
from compression.protocol import Acceptance, Calibration, Evaluation, Output
from compression.recipe import Recipe, ResolvedRecipe, resolve
from compression.verdict import check_acceptance, check_unlabelled
from jobs.limits import Limits
from jobs.needs import Device
from jobs.sourcing.sources import parse_model_source, parse_text_source

LABEL_KEY_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,62}$"
LabelKey = Annotated[str, StringConstraints(pattern=LABEL_KEY_PATTERN)]
LabelValue = Annotated[str, StringConstraints(max_length=255, pattern=r"^[^\x00-\x1f\x7f]*$")]
Labels = Annotated[
    dict[LabelKey, LabelValue], Field(max_length=32, description="Free words of the user's own, to find the job by.")
]
Priority = Annotated[int, Field(ge=-100, le=100, description="Jobs of a higher one are taken first.")]

EXAMPLES: list[Any] = [
    {"model": "demo:smollm2-135m", "recipe": {"sparsity": 0.5, "pattern": "2:4"}},
    {"model": "HuggingFaceTB/SmolLM2-135M", "recipe": {"bits": 4, "group_size": 64}, "labels": {"team": "search"}},
    {"model": "demo:smollm2-135m", "goal": {"metric": "bytes", "factor": 1.5}, "output": {"format": "compressed-tensors"}},
    {
        "model": "demo:smollm2-135m",
        "recipe": {"sparsity": 0.5, "pattern": "2:4"},
        "calibration": {"source": "sotu", "nsamples": 128, "seqlen": 2048, "seed": 0},
        "evaluation": {"sources": ["sotu"], "windows": 20, "seqlen": 2048},
        "acceptance": {"max_perplexity_ratio": 1.1, "max_kl": 0.1, "min_top1_agreement": 0.85},
        "output": {"format": "dense"},
        "labels": {},
    },
    {
        "task": "evaluate",
        "model": "/models/smollm2-4bit",
        "reference": "demo:smollm2-135m",
        "evaluation": {"sources": ["wikitext2", "sotu"]},
    },
]
SOLVING = ("recipe", "goal", "calibration", "output")  # what an evaluation has no use for


class JobRequest(BaseModel):
    """A job as submitted. To compress, a model and a target in the recipe are needed; to evaluate, a model."""

    model_config = ConfigDict(frozen=True, extra="forbid", json_schema_extra={"examples": EXAMPLES})

    task: Literal["compress", "evaluate"] = Field(
        "compress", description="`evaluate` solves nothing: the model's figures, and a comparison where there is a reference."
    )
    model: str = Field(
        min_length=1,
        max_length=1024,
        description="`demo:NAME`, `OWNER/NAME[@REVISION]` on the hub, `upload:ID`, or an absolute path under a model root of "
        "the server. "
        "To evaluate, also a model in a packed format that transformers loads.",
    )
    reference: str | None = Field(
        None, min_length=1, max_length=1024, description="To evaluate only: the model to compare with, named in the same way."
    )
    recipe: Recipe = Field(default_factory=Recipe, description="To compress only, and then needed.")
    goal: Goal | None = Field(
        None,
        description="To compress, in place of a recipe: a size, operations or a loss that must hold for the whole model. "
        "`recipe` may then name modules to `ignore`, and nothing else.",
    )
    calibration: Calibration = Field(default_factory=Calibration)
    evaluation: Evaluation = Field(default_factory=Evaluation)
    acceptance: Acceptance = Field(default_factory=Acceptance)
    output: Output = Field(default_factory=Output)
    limits: Limits = Field(default_factory=Limits)
    device: Device = Field(
        "auto", description="What computes it: `cuda` waits for a GPU, `cpu` for a processor; `auto` takes what is free first."
    )
    labels: Labels = Field(default_factory=dict)
    priority: Priority = 0

    @property
    def text_uses(self) -> tuple[TextUse, ...]:
        """Every text that the job reads, each once, in a fixed order."""
        return text_uses(self.calibration.source if self.task == "compress" else None, self.evaluation.texts)


class JobChange(BaseModel):
    """What may be changed about a job afterwards. What is not given, or null, stays."""

    model_config = ConfigDict(frozen=True, extra="forbid", json_schema_extra={"examples": [{"labels": {"team": "search"}}]})

    labels: Labels | None = Field(None, description="In place of all that it has.")
    priority: Priority | None = Field(None, description="Of effect while the job waits.")


def check_request(request: JobRequest) -> ResolvedRecipe | None:
    """Refuse what cannot work, before anything is stored or downloaded.

    Returns: the recipe as resolved, of a goal one of the recipes that its matrices may get; None for an evaluation.
    Raises:
        InvalidOptions: the recipe is out of range or contradicts itself, or a field does not belong to the task.
        SourceError: a model or a text is not named in a form that this server understands.
    """
    parse_model_source(request.model)
    for use in request.text_uses:
        parse_text_source(use.source)
    if request.task == "evaluate":
        _check_evaluation(request)
        return None
    if request.reference is not None:
        raise InvalidOptions("reference", "a compression is compared with its own source", "leave it out, or task: evaluate")
    check_output(request.output)
    if request.goal is not None:
        return check_goal(request.goal, request.recipe, request.output.format)
    return resolve(request.recipe, request.output.format)


def _check_evaluation(request: JobRequest) -> None:
    for field in SOLVING:
        if field in request.model_fields_set:
            raise InvalidOptions(field, "an evaluation solves and writes nothing", "leave it out, or task: compress")
    if request.reference is not None:
        parse_model_source(request.reference)
    check_unlabelled(request.evaluation)
    if not request.evaluation.sources:
        raise InvalidOptions("evaluation.sources", "an evaluation needs a text", "at least one text")
    check_acceptance(request.acceptance, has_reference=request.reference is not None)
