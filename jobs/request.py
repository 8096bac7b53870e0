"""What a user asks for, and the checks that need neither torch nor the model."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from compression.corpora import TextUse, text_uses
from compression.protocol import Calibration, Evaluation, Output
from compression.recipe import Recipe, ResolvedRecipe, resolve
from jobs.sources import parse_model_source, parse_text_source

LABEL_KEY_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,62}$"
LabelKey = Annotated[str, StringConstraints(pattern=LABEL_KEY_PATTERN)]
LabelValue = Annotated[str, StringConstraints(max_length=255, pattern=r"^[^\x00-\x1f\x7f]*$")]

EXAMPLES: list[Any] = [
    {"model": "demo:smollm2-135m", "recipe": {"sparsity": 0.5, "pattern": "2:4"}},
    {"model": "HuggingFaceTB/SmolLM2-135M", "recipe": {"bits": 4, "group_size": 64}, "labels": {"team": "search"}},
    {
        "model": "demo:smollm2-135m",
        "recipe": {"sparsity": 0.5, "pattern": "2:4"},
        "calibration": {"source": "sotu", "nsamples": 128, "seqlen": 2048, "seed": 0},
        "evaluation": {"sources": ["sotu"], "windows": 20, "seqlen": 2048},
        "output": {"format": "dense"},
        "labels": {},
    },
]


class JobRequest(BaseModel):
    """A job as submitted. Only the model and a target in the recipe are needed."""

    model_config = ConfigDict(frozen=True, extra="forbid", json_schema_extra={"examples": EXAMPLES})

    model: str = Field(
        min_length=1,
        max_length=1024,
        description="`demo:NAME`, `OWNER/NAME[@REVISION]` on the hub, or an absolute path under a model root of the server.",
    )
    recipe: Recipe
    calibration: Calibration = Field(default_factory=Calibration)
    evaluation: Evaluation = Field(default_factory=Evaluation)
    output: Output = Field(default_factory=Output)
    labels: dict[LabelKey, LabelValue] = Field(
        default_factory=dict, max_length=32, description="Free words of the user's own, to find the job by."
    )

    @property
    def text_uses(self) -> tuple[TextUse, ...]:
        """Every text that the job reads, each once, in a fixed order."""
        return text_uses(self.calibration.source, self.evaluation.sources)


def check_request(request: JobRequest) -> ResolvedRecipe:
    """Refuse what cannot work, before anything is stored or downloaded.

    Raises:
        InvalidOptions: the recipe is out of range or contradicts itself.
        SourceError: the model or a text is not named in a form that this server understands.
    """
    parse_model_source(request.model)
    for use in request.text_uses:
        parse_text_source(use.source)
    return resolve(request.recipe, request.output.format)
