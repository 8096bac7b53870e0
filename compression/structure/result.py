"""What came of making a model faster, as the report tells it. Torch-free."""

from pydantic import BaseModel, ConfigDict, Field

from compression.goals.goal import AdaPruneOptions, Goal
from compression.goals.result import DatabaseUse, SearchResult, Stitched
from compression.structure.timing import LatencyTable


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Speed(_Part):
    """How fast dense and shrunk model are: whole forwards, in turns, in a fresh process on the machine that made it."""

    requested: float = Field(description="Speed-up that was asked for.")
    predicted: float = Field(description="By the table of times.")
    measured: float = Field(description="Dense over shrunk seconds.")
    dense_s: float = Field(description="Median of a forward.")
    shrunk_s: float
    runs: int

    @property
    def deviation(self) -> float:
        """Of measured from requested."""
        return self.measured / self.requested - 1


class BlockLeft(_Part):
    """What is left of a block. Errors are those of the halves' outputs, relative, on what they read when they were solved."""

    attention: int = Field(description="Units: heads, or groups of heads that share a key and value head; 0: it is gone.")
    ffn: int = Field(description="Columns; 0: the feed-forward is gone.")
    attention_error: float
    ffn_error: float


class AdaPruneResult(_Part):
    """What tuning as one came to."""

    options: AdaPruneOptions
    losses: tuple[float, ...] = Field(
        description="Before and after each pass, on calibration windows that were not tuned on: mean relative error of the "
        "blocks' outputs, and for models that predict tokens KL(dense || tuned) in nats added."
    )
    best: int = Field(description="The pass whose weights were taken; 0: those from before.")
    untuned: Stitched | None = Field(None, description="What those from before give.")


class StructureResult(_Part):
    """A model that was made smaller to be faster."""

    asked: Goal
    speed: Speed
    table: LatencyTable = Field(description="Times by units kept, in the environment that they hold for.")
    dense: BlockLeft = Field(description="A block before.")
    blocks: tuple[BlockLeft, ...]
    parameters: int = Field(description="Before.")
    parameters_left: int
    is_plain: bool = Field(description="transformers loads it as it loads the source; else by the loader beside it.")
    search: SearchResult
    database: DatabaseUse
    is_stitched: bool = Field(description="The weights were solved on the dense model's inputs; else block by block.")
    stitched: Stitched | None = Field(None, description="What those would give, where they were solved again.")
    adaprune: AdaPruneResult | None = None
    seconds: dict[str, float] = Field(description="Of the work before the report's own `seconds`.")
