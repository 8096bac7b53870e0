"""The report of one compression: what was asked, what was lost, what was won, and on what evidence. Torch-free.

`report.json` is this model; everything else that shows a result is drawn from it. Raise `REPORT_VERSION` with any change
that a reader could trip over.
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from compression.goals.result import GoalResult
from compression.options import Bits
from compression.protocol import Acceptance, Calibration, Evaluation, Output
from compression.recipe import ResolvedRecipe
from compression.structure.result import StructureResult

REPORT_VERSION = 4
SOLVED_PART = "solved matrices"  # name of one of `Sizes.parts`
MemoryMode = Literal["standard", "low-memory"]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ModelInfo(_Section):
    """The source model."""

    source: str = Field(description="As the user named it.")
    revision: str | None = Field(None, description="Commit of a hub model, version of a packaged one.")
    family: str
    architecture: str = Field(description="Class name in the checkpoint's config.")
    blocks: int
    parameters: int
    dtype: str = Field(description="Storage dtype of most weights; the artifact keeps each tensor's.")
    digest: str = Field(description="SHA-256 over config and weight files.")
    license: str | None = Field(None, description="As the model's own card names it; null where it has none.")
    notes: tuple[str, ...] = Field((), description="What a reader must know, such as a source that was 4 bit already.")


class TextSet(_Section):
    """A set of token windows."""

    source: str = Field(description="As the user named it.")
    protocol: str = Field(
        "file",
        description="How the text was made: `wikitext2`, `c4`, `ptb` (the field's protocols), `wikitext2-file`, `ptb-file` "
        "(the benchmark's file as it stands, which gives another figure), `sotu`, `rows` (joined with blank lines), `file`, "
        "or `windows` (ready token windows). docs/evaluation.md tells them.",
    )
    windows: int
    windows_in_text: int | None = Field(None, description="Consecutive windows that the whole text would give.")
    seqlen: int
    tokens: int = Field(description="windows * seqlen.")
    digest: str = Field(description="SHA-256 over the token ids as little-endian int32.")


class LayerResult(_Section):
    """What became of one weight matrix."""

    name: str = Field(description="Module name in the model.")
    block: int
    shape: tuple[int, int] = Field(description="(out_features, in_features), whatever the storage order.")
    method: str = Field(description="The method that gave the result; after a fallback, the data-free one.")
    relative_error: float | None = Field(
        description="tr(D H D^T) / tr(W H W^T), D = W - W^, H undamped over all calibration tokens; null without inputs."
    )
    sparsity: float = Field(description="Zeros / weights, counted in the stored tensor.")
    bits: Bits | None = None
    bits_per_weight: float = Field(
        description="Everything a packed file holds for the matrix (codes, scales, zero points, indices) over its weights; "
        "the storage width where only pruned."
    )
    group_size: int | None = Field(None, description="null: one scale a row, or not quantised.")
    damp: float | None = Field(None, description="Damping that the factorisation needed; null for data-free methods.")
    tokens: int = Field(description="Calibration tokens that the Hessian was summed over.")
    fallbacks: tuple[str, ...] = Field((), description="Steps of the failure ladder that were taken, in order.")
    seconds: float


class Coverage(_Section):
    """One row for each targeted matrix: nothing is skipped silently."""

    name: str
    status: Literal["solved", "fallback", "skipped"]
    reason: str | None = None


class Perplexity(_Section):
    """exp(mean over windows of the mean next-token cross-entropy), with its standard error over windows (delta method)."""

    value: float
    standard_error: float | None = Field(description="null with a single window.")


class WorstToken(_Section):
    """A token that the compressed model predicts much worse than the dense one."""

    window: int = Field(description="Of the text, counted from 0.")
    position: int = Field(description="In that window, counted from 0; the tokens before it are what both models saw.")
    context: str = Field(description="The end of what both models saw.")
    token: str = Field(description="What came next in the text.")
    dense_loss: float = Field(description="-ln of the dense model's probability for it, in nats.")
    compressed_loss: float
    kl: float = Field(description="KL(dense || compressed) at that place, in nats.")
    dense_choice: str = Field(description="What the dense model ranked first.")
    compressed_choice: str


class EvaluationResult(_Section):
    """Dense and compressed model on the same tokens of one text."""

    text: TextSet
    dense: Perplexity
    compressed: Perplexity
    ratio: float = Field(description="compressed / dense perplexity.")
    log_ratio: float = Field(description="Mean over windows of the paired difference in cross-entropy, in nats.")
    log_ratio_standard_error: float | None = Field(description="Of that paired difference; null with a single window.")
    kl: float = Field(description="Mean over tokens of KL(dense || compressed), in nats.")
    kl_standard_error: float | None
    kl_p99: float = Field(description="The least KL that at least 99 of 100 tokens do not exceed, in nats.")
    top1_agreement: float = Field(description="Fraction of tokens where both models rank the same token first.")
    top1_agreement_standard_error: float | None
    worst_tokens: tuple[WorstToken, ...] = Field((), description="Those whose loss rose most, the worst first.")


class OutputErrorResult(_Section):
    """Dense and compressed encoder on the same windows of one text: how far apart their last hidden states are."""

    text: TextSet
    relative_error: float = Field(description="Mean over windows of |dense - compressed|^2 / |dense|^2.")
    relative_error_standard_error: float | None = Field(description="Over windows; null with a single one.")
    cosine: float = Field(description="Mean over tokens of the cosine between the two models' states.")
    cosine_standard_error: float | None = Field(description="Over windows; null with a single one.")
    embedding_cosine: float | None = Field(
        None,
        description="Mean over windows of the cosine between their embeddings, the means of last hidden states over tokens.",
    )
    neighbour_agreement: float | None = Field(
        None, description="Share of windows whose nearest other one, by cosine, is the same in both; null with fewer than 3."
    )


class AccuracyResult(_Section):
    """Dense and compressed classifier on the same labelled texts; standard errors over texts, null with a single one."""

    source: str = Field(description="As the user named it.")
    texts: int
    digest: str = Field(description="SHA-256 of the file.")
    dense: float = Field(description="Share of texts that get their label.")
    dense_standard_error: float | None
    compressed: float
    compressed_standard_error: float | None
    loss: float = Field(description="dense - compressed.")
    loss_standard_error: float | None = Field(description="Of the paired difference.")
    agreement: float = Field(description="Share of texts that get the same label from both, right or wrong.")
    agreement_standard_error: float | None


class Check(_Section):
    """One figure of one text against its limit."""

    text: str
    figure: Literal["perplexity_ratio", "kl", "kl_p99", "top1_agreement", "perplexity", "output_error", "accuracy_loss"]
    value: float
    standard_error: float | None = Field(description="null where none is known.")
    limit: float
    is_minimum: bool = Field(description="The value must not fall below the limit; else it must not exceed it.")
    passed: bool


Outcome = Literal["accepted", "regressed"]


class Verdict(_Section):
    """Whether the result is accepted: every check of every text must pass."""

    outcome: Outcome
    checks: tuple[Check, ...]


class Sample(_Section):
    """Greedy continuations of one prompt by both models."""

    prompt: str
    dense: str
    compressed: str


class Verification(_Section):
    """What was found when the written artifact was loaded by software of other people, in a fresh process."""

    loader: str = Field(description="Library and version that loaded it.")
    verdict: Literal["ok", "not verified"]
    detail: str
    max_logit_difference: float | None = Field(
        None, description="Between loaded artifact and pass, over all probed logits; of an encoder over all that it gives."
    )
    mean_logit_difference: float | None = None
    kl: float | None = Field(
        None, description="Mean over probed tokens of KL(pass || loaded artifact), in nats; null of an encoder."
    )
    relative_error: float | None = Field(
        None, description="Of an encoder: |loaded artifact - pass|^2 / |pass|^2 over all probed outputs."
    )


class SizePart(_Section):
    """Bytes of one part of the weight files, before and after."""

    name: str
    source_bytes: int
    artifact_bytes: int


class Sizes(_Section):
    """Bytes of weights on disk, before and after, and what the compression would allow."""

    source_bytes: int
    artifact_bytes: int
    targeted_parameters: int
    zero_parameters: int
    bits_per_targeted_weight: float = Field(
        description="Codes, scales and zero points over targeted weights; the storage width where only pruned."
    )
    predicted_bytes: int | None = Field(None, description="Of `artifact_bytes`, before any work; null where no rule tells.")
    parts: tuple[SizePart, ...] = Field((), description="They add up to `source_bytes` and `artifact_bytes`.")
    note: str


class MemoryPoint(_Section):
    """The most memory in one stretch of time."""

    seconds: float = Field(description="Since the start, at the beginning of the stretch.")
    host_bytes: int
    device_bytes: int | None = None


class Memory(_Section):
    host_peak_bytes: int = Field(description="Peak of anonymous memory of the process; mapped files not counted.")
    host_peak_mapped_bytes: int | None = Field(None, description="Peak of file-backed resident memory, where the OS tells.")
    device_peak_bytes: int | None = None
    mode: MemoryMode = Field(
        "standard",
        description="`low-memory`: hidden states in mapped files and one Hessian at a time, which changes no result; slower.",
    )
    over_time: tuple[MemoryPoint, ...] = Field((), description="Of equal stretches of time, one after the other.")


class Estimated(_Section):
    """What was expected before any work, from config and tensor headers; the report's own figures are what it came to."""

    host_peak_bytes: int = Field(description="Beside `memory.host_peak_bytes`.")
    device_peak_bytes: int | None = Field(None, description="Beside `memory.device_peak_bytes`; null on CPU.")
    scratch_bytes: int = Field(description="Of the work folder at its fullest, the artifact included.")
    artifact_bytes: int | None = Field(description="Beside `sizes.artifact_bytes`.")
    seconds: float | None = Field(
        None, description="Beside the sum of `seconds`; null where no earlier compression of the kind was known."
    )
    method: str = Field(description="The method that most weights are solved with.")
    work: dict[str, float] = Field(
        description="Units by activity, in proportion to its time: with `seconds` they give the rates of this device."
    )


class Environment(_Section):
    device: str
    device_name: str
    threads: int
    instruction_set: str
    compute_dtype: str
    platform: str
    isolation: tuple[str, ...] = Field(
        (), description="What kept the process apart from its host, as it found out by trying; empty: crash isolation only."
    )
    versions: dict[str, str]


class ArtifactFile(_Section):
    """One file of the payload."""

    name: str
    size_bytes: int
    sha256: str


class Report(_Section):
    """The whole report."""

    report_version: int = REPORT_VERSION
    scalpel_version: str
    created_at: str = Field(description="UTC, ISO 8601.")
    model: ModelInfo
    recipe: ResolvedRecipe | None = Field(description="null where the model was made smaller instead; see `structure`.")
    calibration: Calibration
    calibration_text: TextSet | None = Field(description="null when no method needed calibration.")
    evaluation: Evaluation
    results: tuple[EvaluationResult, ...] = Field(description="By text; of an encoder none.")
    output_errors: tuple[OutputErrorResult, ...] = Field((), description="By text, of an encoder.")
    accuracy: AccuracyResult | None = Field(None, description="Of a classifier, where labelled texts were given.")
    acceptance: Acceptance = Field(description="The limits that the verdict is about.")
    verdict: Verdict | None = Field(description="null: no text was evaluated, or no limit is set on what was measured.")
    verdict_note: str | None = Field(None, description="Why there is no verdict.")
    sample: Sample | None
    sample_note: str | None = Field(None, description="Why there is no sample.")
    output: Output
    verification: Verification
    layers: tuple[LayerResult, ...]
    coverage: tuple[Coverage, ...]
    sizes: Sizes
    seconds: dict[str, float] = Field(description="Time by stage or activity.")
    memory: Memory
    estimated: Estimated | None = Field(None, description="null: not a pass of its own, or of an older version.")
    environment: Environment
    resumed_blocks: int = Field(0, description="Blocks that an earlier attempt had finished.")
    reused: tuple[str, ...] = Field((), description="What an earlier job had kept, so that `seconds` have no part for it.")
    restarts: tuple[str, ...] = Field((), description="Why finished blocks of an earlier attempt were not used, if so.")
    notes: tuple[str, ...] = Field((), description="What a reader must know of this artifact, such as where it came from.")
    files: tuple[ArtifactFile, ...] = Field((), description="Weights, config and tokenizer; what tells of them is not here.")
    payload_digest: str = Field(description="SHA-256 over weights, config and tokenizer: what bit-identical compares.")
    goal: GoalResult | None = Field(
        None, description="What the recipe was chosen for, and how; null where a recipe was asked for."
    )
    structure: StructureResult | None = Field(None, description="What a goal of latency made of the model's blocks.")
    provenance: dict[str, Any] = Field(default_factory=dict, description="What the caller added: job id, attempt, labels.")

    @model_validator(mode="after")
    def _was_made_somehow(self) -> "Report":
        if (self.recipe is None) == (self.structure is None):
            raise ValueError("a report tells of a recipe or of a structure")
        return self
