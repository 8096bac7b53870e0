"""Where and how a model will be run, and what its parts take there. Torch-free.

A table of times holds for the environment that it was measured in, and for no other: the file says which, and is refused
elsewhere.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from compression.errors import InvalidOptions

Phase = Literal["prefill", "decode", "encode"]
"""`prefill`: a prompt in, the logits of its last token out, no cache kept. `decode`: one more token for each sequence, whose
tokens before are in the cache. `encode`: windows in, their hidden states out."""

Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class RunEnvironment(BaseModel):
    """What a model is made faster for."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    device: str | None = Field(None, description="`cpu`, `cuda` or `cuda:N`; default: where the job is computed.")
    dtype: Literal["float32", "bfloat16", "float16"] = Field("float32", description="Of weights and activations.")
    batch: int = Field(1, ge=1, le=65536, description="Sequences at a time.")
    seqlen: int = Field(128, ge=1, le=131072, description="Tokens in each; of `decode` those before the one that comes.")
    threads: int | None = Field(
        None, ge=1, le=4096, description="Of the processor; default: as many as torch takes by itself."
    )
    phase: Phase | None = Field(None, description="Default: `encode` for encoders, `prefill` for others.")

    def on(self, device: str) -> "RunEnvironment":
        """With this device where none is named."""
        return self if self.device else self.model_copy(update={"device": device})


class Measured(BaseModel):
    """The environment that times were measured in, complete. Args: model: SHA-256 over config.json without its tensors."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    device: str
    device_name: str
    dtype: str
    batch: int
    seqlen: int
    threads: int
    phase: Phase
    model: str
    versions: dict[str, str]


class LatencyTable(BaseModel):
    """What the parts of a model take, in seconds for one forward of the whole batch.

    Args:
        attention_s, ffn_s: by units kept, of one half of one block, above what a block without halves takes.
        fixed_s: of the model without its halves: embedding, norms that stay, residual sums, head.
        blocks: how many blocks the model has.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    environment: Measured
    blocks: int = Field(ge=1)
    attention_s: dict[int, Seconds]
    ffn_s: dict[int, Seconds]
    fixed_s: Seconds

    @property
    def dense_s(self) -> float:
        return self.fixed_s + self.blocks * (self.attention_s[max(self.attention_s)] + self.ffn_s[max(self.ffn_s)])

    @property
    def fastest_s(self) -> float:
        """With the fastest level of every half."""
        return self.fixed_s + self.blocks * (min(self.attention_s.values()) + min(self.ffn_s.values()))

    @property
    def highest_speedup(self) -> float:
        return self.dense_s / self.fastest_s

    def predicted_s(self, kept: Sequence[tuple[int, int]]) -> float:
        """Args: kept: units of attention and feed-forward, block by block."""
        return self.fixed_s + sum(self.attention_s[attention] + self.ffn_s[ffn] for attention, ffn in kept)

    def require(self, here: Measured, levels: tuple[Sequence[int], Sequence[int]]) -> None:
        """Refuse to be used elsewhere. Raises: InvalidOptions: naming the first thing that differs."""
        mine, theirs = self.environment.model_dump(), here.model_dump()
        for name, value in mine.items():
            if value != theirs[name]:
                reason = f"its {name} is {value!r}, and here it is {theirs[name]!r}: such times say nothing of each other"
                raise InvalidOptions("table", reason, "measure a table here, or give none")
        for known, wanted in ((self.attention_s, levels[0]), (self.ffn_s, levels[1])):
            missing = [level for level in wanted if level not in known]
            if missing:
                raise InvalidOptions(
                    "table", f"it has no time for {missing[0]} units", "measure a table with the same multiple_of"
                )


def read_table(path: Path) -> LatencyTable:
    """Raises: InvalidOptions: no such file, or it is no table."""
    try:
        return LatencyTable.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise InvalidOptions("table", f"{path} is no table of times ({type(error).__name__})", "a latency.json") from error


def check_reach(table: LatencyTable, speedup: float) -> None:
    """Raises: InvalidOptions: with what can be reached at most."""
    if table.dense_s / speedup < table.fastest_s:
        best = table.highest_speedup
        reason = (
            f"{speedup:g} times as fast is out of reach: with nothing left in any block the model takes "
            f"{table.fastest_s * 1e3:.3g} of {table.dense_s * 1e3:.3g} ms"
        )
        raise InvalidOptions("goal.factor", reason, f"<= {int(best * 100) / 100:g}")
