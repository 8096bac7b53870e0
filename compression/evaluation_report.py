"""The report of an evaluation without a compression: one model's figures, alone or against a reference. Torch-free."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from compression.protocol import Acceptance, Evaluation
from compression.report import REPORT_VERSION, Environment, EvaluationResult, Memory, ModelInfo, Perplexity, TextSet, Verdict


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TextEvaluation(_Section):
    """One text."""

    text: TextSet
    perplexity: Perplexity
    comparison: EvaluationResult | None = Field(
        description="With a reference: its figures as `dense`, the evaluated model's as `compressed`."
    )


class TaskResult(_Section):
    """One metric of one task of lm-eval."""

    task: str
    metric: str
    filter: str | None = Field(None, description="What lm-eval did to the answers before it judged them.")
    value: float
    standard_error: float | None
    samples: int | None
    unit: str = Field(
        "", description="`word-level` where a perplexity is per word, which no per-token perplexity compares with."
    )


class Tasks(_Section):
    """What lm-eval found."""

    version: str = Field(description="Of lm-eval.")
    results: tuple[TaskResult, ...]


class EvaluationSample(_Section):
    """Greedy continuations of one prompt."""

    prompt: str
    evaluated: str
    reference: str | None


class EvaluationReport(_Section):
    """The whole report. `report.json` of an evaluation is this model; `kind` tells it from a compression's."""

    kind: Literal["evaluation"] = "evaluation"
    report_version: int = REPORT_VERSION
    scalpel_version: str
    created_at: str = Field(description="UTC, ISO 8601.")
    model: ModelInfo
    reference: ModelInfo | None
    evaluation: Evaluation
    results: tuple[TextEvaluation, ...]
    acceptance: Acceptance
    verdict: Verdict | None = Field(description="null: no limit applies to what was measured.")
    tasks: Tasks | None = None
    sample: EvaluationSample | None
    sample_note: str | None = Field(None, description="Why there is no sample.")
    seconds: dict[str, float]
    reused: tuple[str, ...] = Field((), description="What an earlier job had kept, so that `seconds` have no part for it.")
    memory: Memory
    environment: Environment
    provenance: dict[str, Any] = Field(default_factory=dict, description="What the caller added: job id, attempt, labels.")
