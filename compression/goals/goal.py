"""What a user wants: a size, a number of operations, or a loss that must not be exceeded. Torch-free."""

import re
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_serializer, model_validator

from compression.errors import InvalidOptions
from compression.recipe import Target
from compression.structure.timing import RunEnvironment
from compression.structure.units import MULTIPLE_OF
from compression.words import goal_words

Metric = Literal["bytes", "bits_per_weight", "flops", "latency", "perplexity_ratio"]
UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}
TIMES = {"ms": 1e-3, "s": 1}
SAID = re.compile(r"(?P<metric>[a-z_]+)\s*(?P<sign><=|/)\s*(?P<value>[0-9.]+)\s*(?P<unit>m?s|[kmgt]?b?)", re.IGNORECASE)
FORMS = "bytes/2, bytes<=80MB, bits_per_weight<=4.5, flops/1.5, latency/1.5, latency<=40ms or perplexity_ratio<=1.05"


class SearchOptions(BaseModel):
    """How long better weights of the layers' errors are looked for; see `goals/search.py`.

    The defaults are for the measured sensitivities that the first candidate has already: weights drawn anew for all matrices
    only lose what these know, and a few of them are redrawn at a time.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    inits: int = Field(0, ge=0, le=10_000, description="Random draws of all weights.")
    patience: int = Field(3, ge=0, le=10_000, description="Failures in a row, after which fewer weights are redrawn at once.")
    neighbourhood: float = Field(0.02, gt=0, le=1, description="Share of the weights that is redrawn at first.")
    max_evaluations: int = Field(6, ge=1, le=100_000, description="Choices of levels whose loss is measured.")
    windows: int = Field(2, ge=1, le=1024, description="Calibration windows that losses are measured on.")
    tokens: int = Field(512, ge=8, le=131072, description="Of each of these windows.")
    seed: int = Field(0, ge=0, lt=2**63)


class AdaPruneOptions(BaseModel):
    """How long what is left of a model is tuned as one; see `structure/adaprune.py`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    passes: int = Field(8, ge=1, le=1000, description="Over the calibration windows.")
    learning_rate: float = Field(3e-4, gt=0, le=1, description="Of Adam at most; it rises, and falls to nothing.")


class Goal(BaseModel):
    """A goal for the whole model, what cannot be compressed included."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"metric": "bytes", "factor": 2.0},
                {"metric": "perplexity_ratio", "at_most": 1.05},
                {"metric": "latency", "factor": 1.5, "environment": {"batch": 1, "seqlen": 128}},
            ],
        },
    )

    metric: Metric = Field(
        description="`bytes`: of the artifact's weights on disk. `bits_per_weight`: the same over all parameters. `flops`: of "
        "the matrices, for one token. `perplexity_ratio`: to the dense model's; the bytes are then as few as it allows. "
        "`latency`: seconds of a forward where the job is computed; heads, columns and halves of blocks are cut out for it."
    )
    at_most: float | None = Field(None, gt=0, allow_inf_nan=False, description="In the metric's own unit.")
    factor: float | None = Field(
        None, gt=1, allow_inf_nan=False, description="How many times less than the source's; for bytes, flops and latency."
    )
    levels: tuple[Target | None, ...] | None = Field(
        None,
        max_length=64,
        description="What a matrix may get, each as a recipe's target; null: it stays dense. Default: 2, 3, 4 and 8 bits and "
        "dense in formats that pack codes, sparsities from 0.3 to 0.8 and dense in the others. Not for latency.",
    )
    environment: RunEnvironment | None = Field(
        None, description="Of latency: how the model will be run, and so what is timed; on the device of the job."
    )
    multiple_of: int = Field(
        MULTIPLE_OF,
        ge=1,
        le=65536,
        description="Of latency: what numbers of columns are rounded to, as the hardware likes them.",
    )
    uniform: bool = Field(
        False,
        description="Of latency: all blocks alike, so that transformers' own config.json describes the model where it can.",
    )
    search: SearchOptions = Field(default_factory=SearchOptions)
    adaprune: AdaPruneOptions | None = Field(
        None,
        description="Of latency: at last tune what is left as one, until blocks and predictions are the dense model's. Takes "
        "the whole model's memory several times over, and three to four forwards of the calibration windows for each pass.",
    )
    stitched: bool = Field(
        False,
        description="Take the weights of the levels as they are, solved on the dense model's inputs; else the chosen ones are "
        "solved again, each block on the compressed ones before it.",
    )

    @model_validator(mode="after")
    def _is_whole(self) -> "Goal":
        if (self.at_most is None) == (self.factor is None):
            raise ValueError("name at_most or factor, and not both")
        if self.factor is not None and self.metric not in ("bytes", "flops", "latency"):
            raise ValueError(f"{self.metric} has no factor; name at_most")
        of_latency = ("environment", "multiple_of", "uniform", "adaprune")
        said = [name for name in of_latency if getattr(self, name) != type(self).model_fields[name].default]
        if said and self.metric != "latency":
            raise ValueError(f"{said[0]} is for latency")
        if self.levels is not None and self.metric == "latency":
            raise ValueError("zeros and few bits make no matrix faster in the kernels that load them; leave levels out")
        if self.metric == "perplexity_ratio" and (self.at_most or 0) <= 1:
            raise ValueError("a perplexity ratio of at most 1 would allow no loss; name one above 1, such as 1.05")
        return self

    @field_serializer("levels")
    def _as_said(self, levels: tuple[Target | None, ...] | None) -> list[dict[str, Any] | None] | None:
        """What was said of each, and no list of what was not."""
        if levels is None:
            return None
        return [None if level is None else level.model_dump(exclude_unset=True) for level in levels]

    def in_words(self) -> str:
        """`bytes / 2`, `perplexity_ratio <= 1.05`."""
        return goal_words({"metric": self.metric, "at_most": self.at_most, "factor": self.factor})


def parse_goal(data: Any) -> Goal:
    """Read a goal from plain data, or from a line such as `bytes/2`.

    Raises: InvalidOptions: naming the field and what is allowed there.
    """
    if isinstance(data, Goal):
        return data
    try:
        return Goal.model_validate(_from_words(data) if isinstance(data, str) else data)
    except ValidationError as error:
        first = error.errors()[0]
        raise InvalidOptions(".".join(["goal", *map(str, first["loc"])]), f"is refused: {first['msg']}", FORMS) from error


def _from_words(said: str) -> dict[str, Any]:
    found = SAID.fullmatch(said.strip())
    if found is None or found["value"].count(".") > 1 or found["value"] == ".":
        raise InvalidOptions("goal", f"{said!r} cannot be read", FORMS)
    unit, metric = found["unit"].lower(), found["metric"].lower()
    if unit in TIMES and metric == "latency" and found["sign"] == "<=":
        return {"metric": metric, "at_most": float(found["value"]) * TIMES[unit]}
    if unit in TIMES or (unit and (found["sign"] == "/" or metric != "bytes")):
        raise InvalidOptions("goal", f"{said!r}: {metric} has no unit {found['unit']} there", FORMS)
    if len(unit) == 1 and unit != "b":
        unit += "b"
    value = float(found["value"]) * UNITS[unit]
    return {"metric": metric, "factor" if found["sign"] == "/" else "at_most": value}
