"""What came of a goal, as the report tells it. Torch-free."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from compression.goals.goal import Goal, SearchOptions


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class CurvePoint(_Part):
    evaluation: int
    loss: float


class SearchResult(_Part):
    """Losses are means over tokens of KL(dense || chosen) in nats, of stitched weights on the windows of the search."""

    options: SearchOptions
    evaluations: int = Field(description="Profiles whose loss was asked for; those of earlier searches cost nothing.")
    candidates: int = Field(description="Weights that were tried; several may lead to one profile.")
    loss: float = Field(description="Of the chosen profile.")
    plain_loss: float = Field(description="Of the allocation by measured errors and sensitivities alone.")
    uniform_level: str | None = Field(None, description="The best level that all matrices could have within the budget.")
    uniform_loss: float | None = Field(None, description="Of that one.")
    curve: tuple[CurvePoint, ...] = Field(description="The best loss so far, wherever it fell.")


class DatabaseUse(_Part):
    """The model database that was chosen from."""

    key: str = Field(description="Of its contents: model, calibration, levels, circumstances.")
    levels: int
    size_bytes: int
    seconds: float = Field(description="Of building it.")
    was_there: bool = Field(description="Built by an earlier job.")


class LevelUse(_Part):
    matrix: str
    level: str


class Stitched(_Part):
    """The chosen weights as they are in the database, on the evaluation's first text."""

    text: str
    perplexity_ratio: float | None = None
    kl: float | None = None
    output_error: float | None = None


class GoalResult(_Part):
    """A goal and the choice that was made for it."""

    asked: Goal
    unit: Literal["bytes", "flops"]
    dense: float = Field(description="Of the source.")
    budget: float = Field(description="Of the whole model.")
    predicted: float = Field(description="Of the chosen levels; never more than the budget.")
    fixed: float = Field(description="What no choice changes.")
    levels: tuple[str, ...]
    profile: tuple[LevelUse, ...] = Field(description="The level of each matrix, in the order of the model.")
    search: SearchResult
    database: DatabaseUse
    is_stitched: bool = Field(description="The weights are the database's; else they were solved again on compressed inputs.")
    stitched: Stitched | None = Field(None, description="What the database's weights give, where they were solved again.")
    seconds: dict[str, float] = Field(description="Of the work before the report's own `seconds`.")
