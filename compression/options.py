"""What each method can be told: one frozen pydantic model per method, torch-free.

The API validates with these models, `GET /v1/methods` publishes their JSON schemas, and forms are made from them.
A user writes the flat `Recipe` of `recipe.py`; it is resolved into one of these per layer.
"""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

WholeBits = Literal[2, 3, 4, 5, 6, 8]
Bits = WholeBits | Literal["ternary"]
BITS: tuple[WholeBits, ...] = (2, 3, 4, 5, 6, 8)
Offset = Literal["zero_point", "minimum"]
Sparsity = Annotated[float, Field(ge=0, lt=1)]
Damp = Annotated[float, Field(gt=0, le=1)]
BlockSize = Annotated[int, Field(ge=1, le=4096)]
GroupSize = Annotated[int, Field(ge=16, le=1024)] | Literal["row"]
Pattern = Annotated[str, StringConstraints(pattern=r"^(unstructured|[1-9][0-9]?:[1-9][0-9]?)$")]
BlockPattern = Annotated[
    str, StringConstraints(pattern=r"^(unstructured|[1-9][0-9]?:[1-9][0-9]?|block:([2-9]|[12][0-9]|3[0-2]))$")
]
Grid = Literal["minmax", "mse"]
StatisticBits = Literal[2, 3, 4, 5, 6, 8]
RunLength = Annotated[int, Field(ge=1, le=1024)]
OutlierThreshold = Annotated[float, Field(ge=0, le=1e9)]
SPQR_THRESHOLD = 0.3  # at 3 bits; an error goes with the square of the step, so every further bit takes a quarter of it
MethodName = Literal["magnitude", "rtn", "wanda", "sparsegpt", "optq", "joint", "obc", "spqr"]


class MethodOptions(BaseModel):
    """Base of all method options. `good_for` is the sentence that helps a user to choose."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    good_for: ClassVar[str]
    prunes_blocks: ClassVar[bool] = False
    method: str

    @property
    def nm(self) -> tuple[int, int] | None:
        """(n kept, m) of an n:m pattern; None without one."""
        return None

    @property
    def tile(self) -> int:
        """Consecutive inputs that the pattern takes together; the width of a matrix must be a multiple of it."""
        return self.nm[1] if self.nm else 1

    @property
    def quantization(self) -> "QuantizationOptions | None":
        """The part that says how weights are put on a grid; None where they are not."""
        return None


class PruningOptions(MethodOptions):
    """Options of every method that sets weights to zero."""

    sparsity: Sparsity = Field(description="Fraction of weights set to zero; exact per matrix.")
    pattern: Pattern = Field(
        "unstructured", description="`unstructured`, or `n:m` to keep n of every m consecutive inputs (1 <= n < m <= 32)."
    )

    @property
    def nm(self) -> tuple[int, int] | None:
        return parse_pattern(self.pattern)


class QuantizationOptions(MethodOptions):
    """Options of every method that puts weights on an integer grid."""

    bits: Bits = Field(description="Bits per code; `ternary` is -1, 0 or 1 times a scale.")
    group_size: GroupSize | None = Field(
        None,
        description="Consecutive inputs of a row that share one scale, or `row`. Default: the largest of 128, 64, 32 that "
        "divides every targeted width of the model, else `row`.",
    )
    symmetric: bool = Field(False, description="Zero point fixed at the middle code.")
    grid: Grid = Field("minmax", description="`minmax` covers the range; `mse` shrinks it for the least error.")
    offset: Offset = Field(
        "zero_point",
        description="`zero_point`: an integer code stands for zero, so that zeros are exact. `minimum`: a group's least value "
        "is stored in float16 instead, as GGUF's Q4_1 does; not with pruning, whose zeros would not be on the grid.",
    )

    @model_validator(mode="before")
    @classmethod
    def _ternary_is_symmetric(cls, given: Any) -> Any:
        return settle_ternary(given)

    @property
    def quantization(self) -> "QuantizationOptions | None":
        return self


class SecondOrderOptions(MethodOptions):
    """Options of the column sweep."""

    damp: Damp = Field(0.01, description="Fraction of the mean of diag(H) added to the diagonal.")
    block_size: BlockSize = Field(
        128, description="Columns solved between two lazy updates; also the columns over which one mask is chosen."
    )


class MagnitudeOptions(PruningOptions):
    good_for: ClassVar[str] = "A data-free baseline: removes the smallest weights. Fast, and usually the worst choice."
    method: Literal["magnitude"] = "magnitude"


class WandaOptions(PruningOptions):
    good_for: ClassVar[str] = "Quick pruning: |weight| times the norm of its input, compared within each row, no update."
    method: Literal["wanda"] = "wanda"


class SparseGptOptions(PruningOptions, SecondOrderOptions):
    good_for: ClassVar[str] = (
        "Pruning with the least loss of the fast methods: the remaining weights make up for each removal."
    )
    method: Literal["sparsegpt"] = "sparsegpt"


class RtnOptions(QuantizationOptions):
    good_for: ClassVar[str] = "A data-free baseline: rounds every weight to the nearest grid point. Fine at 8 bits."
    method: Literal["rtn"] = "rtn"


class OptqOptions(QuantizationOptions, SecondOrderOptions):
    good_for: ClassVar[str] = "Quantisation to 2-8 bits: each rounding error is pushed onto the columns not yet rounded."
    method: Literal["optq"] = "optq"
    act_order: bool = Field(True, description="Visit columns by falling diag(H).")
    static_groups: bool = Field(
        True, description="Fit the grids on the original weights, so that act_order keeps groups in storage order."
    )


class JointOptions(PruningOptions, QuantizationOptions, SecondOrderOptions):
    good_for: ClassVar[str] = "Pruning and quantisation in one sweep: zeros stay exact, kept weights land on the grid."
    method: Literal["joint"] = "joint"


class ObcOptions(MethodOptions):
    """Prunes with a sparsity, quantises with bits, does one after the other with both."""

    good_for: ClassVar[str] = (
        "The exact reference for small models: removes or rounds one weight at a time and re-optimises all others. Slow."
    )
    prunes_blocks: ClassVar[bool] = True
    method: Literal["obc"] = "obc"
    sparsity: Sparsity | None = Field(None, description="Fraction of weights set to zero; exact per matrix.")
    pattern: BlockPattern = Field(
        "unstructured",
        description="`unstructured`; `n:m` to keep n of every m consecutive inputs (1 <= n < m <= 32); or `block:s` to remove "
        "aligned blocks of s consecutive inputs (2 <= s <= 32).",
    )
    bits: Bits | None = Field(None, description="Bits per code; `ternary` is -1, 0 or 1 times a scale.")
    group_size: GroupSize | None = Field(None, description="Consecutive inputs of a row that share one scale, or `row`.")
    symmetric: bool = Field(False, description="Zero point fixed at the middle code.")
    grid: Grid = Field("minmax", description="`minmax` covers the range; `mse` shrinks it for the least error.")
    offset: Offset = Field("zero_point", description="`zero_point`, or without pruning `minimum` as GGUF's Q4_1 stores it.")
    damp: Damp = Field(0.01, description="Fraction of the mean of diag(H) added to the diagonal.")
    force: bool = Field(False, description="Solve matrices whose estimated time is beyond the limit.")

    @model_validator(mode="before")
    @classmethod
    def _ternary_is_symmetric(cls, given: Any) -> Any:
        return settle_ternary(given)

    @model_validator(mode="after")
    def _has_a_target(self) -> "ObcOptions":
        if self.sparsity is None and self.bits is None:
            raise ValueError("obc needs sparsity, bits, or both")
        return self

    @property
    def nm(self) -> tuple[int, int] | None:
        return parse_pattern(self.pattern)

    @property
    def tile(self) -> int:
        return parse_block(self.pattern) or super().tile

    @property
    def quantization(self) -> QuantizationOptions | None:
        if self.bits is None:
            return None
        return QuantizationOptions(**self.model_dump(include=set(QuantizationOptions.model_fields)))


class SpqrOptions(SecondOrderOptions):
    good_for: ClassVar[str] = (
        "Near-lossless 3-4 bits: small groups whose scales are quantised too, and the few weights that round badly in float16."
    )
    method: Literal["spqr"] = "spqr"
    bits: Literal[2, 3, 4] = Field(description="Bits per code.")
    group_size: GroupSize = Field(16, description="Consecutive visited inputs of a row that share one scale, or `row`.")
    qq_group_size: RunLength = Field(16, description="Consecutive rows whose scales (and zero points) share one grid.")
    qq_scale_bits: StatisticBits = Field(3, description="Bits per quantised scale.")
    qq_zero_bits: StatisticBits = Field(3, description="Bits per quantised zero point.")
    outlier_threshold: OutlierThreshold = Field(
        default_factory=lambda made: SPQR_THRESHOLD * 4.0 ** (3 - made.get("bits", 3)),
        description="A weight is kept as an outlier where rounding it would cost more than this, as a multiple of the layer's "
        "mean column variance: smaller means more outliers; 0 keeps every weight, 1e9 none. Default: 1.2, 0.3, 0.075 at 2, 3, "
        "4 bits, which keeps almost 1% of a language model's weights.",
    )
    act_order: bool = Field(True, description="Visit columns, and form groups, by falling diag(H).")
    damp: Damp = Field(
        1.0, description="Fraction of the mean of diag(H) added to the diagonal; the authors' 1 is high on purpose."
    )


LayerOptions = Annotated[
    MagnitudeOptions | WandaOptions | SparseGptOptions | RtnOptions | OptqOptions | JointOptions | ObcOptions | SpqrOptions,
    Field(discriminator="method"),
]

METHOD_OPTIONS: dict[str, type[MethodOptions]] = {
    "magnitude": MagnitudeOptions,
    "wanda": WandaOptions,
    "sparsegpt": SparseGptOptions,
    "rtn": RtnOptions,
    "optq": OptqOptions,
    "joint": JointOptions,
    "obc": ObcOptions,
    "spqr": SpqrOptions,
}


def settle_ternary(given: Any) -> Any:
    """The three codes stand for -1, 0 and 1; the range that covers a group is far from the best scale for them."""
    if isinstance(given, dict) and given.get("bits") == "ternary":
        if given.get("symmetric") is False:
            raise ValueError("ternary grids are symmetric")
        return {"grid": "mse", **given, "symmetric": True}
    return given


def top_code(bits: Bits) -> int:
    """The largest code; codes start at 0."""
    return 2 if bits == "ternary" else 2**bits - 1


def code_bits(bits: Bits) -> int:
    """Bits that one packed code takes."""
    return 2 if bits == "ternary" else bits


def parse_pattern(pattern: str) -> tuple[int, int] | None:
    """`"2:4"` -> (2, 4); `"unstructured"` and blocks -> None."""
    kept, _, of = pattern.partition(":")
    return (int(kept), int(of)) if kept.isdigit() else None


def parse_block(pattern: str) -> int | None:
    """`"block:4"` -> 4; every other pattern -> None."""
    kind, _, size = pattern.partition(":")
    return int(size) if kind == "block" else None
