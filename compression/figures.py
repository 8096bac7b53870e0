"""A report in a few numbers, for what compares many: sweeps, lists and charts. Torch-free."""

from pydantic import BaseModel, ConfigDict, Field

from compression.report import SOLVED_PART, Outcome, Report
from compression.words import sparsity


class Figures(BaseModel):
    """What one result costs and what it loses. Losses are those of the first text."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source_bytes: int = Field(description="Weights of the source on disk.")
    artifact_bytes: int = Field(description="Weights of the artifact on disk.")
    packed_bytes: int = Field(
        description="The same with the solved matrices at `bits_per_weight`: what a format that packs this result would take. "
        "Equal to `artifact_bytes` where the artifact is packed."
    )
    bits_per_weight: float = Field(description="Of the solved matrices.")
    sparsity: float = Field(description="Zeros over solved weights.")
    text: str | None = Field(None, description="What the losses were measured on.")
    perplexity: float | None = None
    perplexity_ratio: float | None = Field(None, description="To the dense model's.")
    kl: float | None = Field(None, description="Mean over tokens, in nats.")
    output_error: float | None = Field(None, description="Of an encoder's last hidden states, relative.")
    speedup: float | None = Field(None, description="Measured, of a model that was cut to be faster.")
    outcome: Outcome | None = Field(None, description="Of the verdict.")
    seconds: float = Field(description="All stages together.")

    @property
    def loss(self) -> float | None:
        """What is to be small: the perplexity ratio, or an encoder's output error."""
        return self.perplexity_ratio if self.perplexity_ratio is not None else self.output_error


def figures(report: Report) -> Figures:
    """The numbers of a report."""
    sizes, result = report.sizes, next(iter(report.results), None)
    of_encoder = next(iter(report.output_errors), None)
    text = result.text.source if result else of_encoder.text.source if of_encoder else None
    return Figures(
        source_bytes=sizes.source_bytes,
        artifact_bytes=sizes.artifact_bytes,
        packed_bytes=_packed_bytes(report),
        bits_per_weight=sizes.bits_per_targeted_weight,
        sparsity=sparsity(sizes),
        text=text,
        perplexity=result.compressed.value if result else None,
        perplexity_ratio=result.ratio if result else None,
        kl=result.kl if result else None,
        output_error=of_encoder.relative_error if of_encoder else None,
        speedup=report.structure.speed.measured if report.structure else None,
        outcome=report.verdict.outcome if report.verdict else None,
        seconds=sum(report.seconds.values()),
    )


def _packed_bytes(report: Report) -> int:
    sizes = report.sizes
    solved_bytes = sum(part.artifact_bytes for part in sizes.parts if part.name == SOLVED_PART)
    if report.output.format != "dense" or not solved_bytes:
        return sizes.artifact_bytes
    return sizes.artifact_bytes - solved_bytes + round(sizes.targeted_parameters * sizes.bits_per_targeted_weight / 8)
