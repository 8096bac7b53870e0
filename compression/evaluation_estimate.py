"""What an evaluation without solving will need: models of known families stream block by block, one after the other.

Shapes: D = hidden size. A model that is not streamed (packed, or of an unknown family) is loaded whole and not estimated here.
Torch-free.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from compression.budgets import CHUNK_LOGITS, SPILL_BYTES
from compression.estimate import (
    CUDA_RUNTIME_BYTES,
    ENCODING_BYTES,
    ENCODING_KEPT_BYTES,
    FLOAT32,
    RUNTIME_BYTES,
    SCORE_COPIES,
    SLACK,
    MemoryEstimate,
    main_dtype_bytes,
    tokens_at_once,
)
from compression.families import Architecture
from compression.formats.block_names import names_by_block
from compression.models.headers import TensorInfo
from compression.text_load import TextLoad


@dataclass(frozen=True)
class Streamed:
    """One model of an evaluation. Args: outside, largest_block, parameters: numbers; dtype_bytes: of one in the file."""

    architecture: Architecture
    outside: int
    largest_block: int
    parameters: int
    dtype_bytes: int

    @classmethod
    def of(cls, architecture: Architecture, tensors: Mapping[str, TensorInfo]) -> "Streamed":
        outside, *blocks = (
            sum(math.prod(tensors[name].shape) for name in names) for names in names_by_block(tensors, architecture)
        )
        total = sum(math.prod(info.shape) for info in tensors.values())
        return cls(architecture, outside, max(blocks, default=0), total, main_dtype_bytes(tensors))

    @property
    def hidden(self) -> int:
        return self.architecture.block(0)[0].shape[1]

    @property
    def is_mapped(self) -> bool:
        return self.dtype_bytes == FLOAT32

    def forward_work(self) -> float:
        """Multiply-adds of one token, its prediction included."""
        blocks = sum(math.prod(matrix.shape) for k in range(self.architecture.blocks) for matrix in self.architecture.block(k))
        return float(blocks + self.architecture.vocab_size * self.hidden)


def evaluation_memory(models: Sequence[Streamed], load: TextLoad, *, on_device: bool) -> MemoryEstimate:
    """Every model keeps its embedding, head and stream; one block and one chunk of logits are there at a time. For the sample
    one model after the other is loaded whole, while the heap still holds what the work has left."""
    weights = 0 if not on_device and all(model.is_mapped for model in models) else FLOAT32
    parts = {
        "embedding and head": weights * sum(model.outside for model in models),
        "block": weights * max(model.largest_block for model in models),
        "work": int(SLACK * max(_work(model, load, on_device=on_device) for model in models)),
    }
    streams = [load.evaluation_tokens * model.hidden * FLOAT32 for model in models]
    held = sum(size for size in streams if size <= SPILL_BYTES)
    sample = weights * max(model.parameters for model in models) + parts["embedding and head"] + parts["work"]
    text = load.longest_text_bytes
    runtime = CUDA_RUNTIME_BYTES if on_device else RUNTIME_BYTES
    encoding, kept = runtime + ENCODING_BYTES * text, runtime + ENCODING_KEPT_BYTES * text
    if on_device:
        return MemoryEstimate(max(encoding, kept + held), max(sum(parts.values()), sample), parts)
    host = max(encoding, kept + held + max(sum(parts.values()), sample))
    return MemoryEstimate(host, None, {"runtime": kept, "streams": held, **parts})


def evaluation_work(models: Sequence[Streamed], load: TextLoad) -> Mapping[str, float]:
    """Units by activity, in the proportions of `work.work_of`."""
    return {"evaluating": load.evaluation_tokens * sum(model.forward_work() for model in models)}


def _work(model: Streamed, load: TextLoad, *, on_device: bool) -> int:
    tokens, vocabulary = load.evaluation_seqlen, model.architecture.vocab_size
    matrices = model.architecture.block(0)
    widths = sum(m.shape[0] for m in matrices if m.slot is None or m.slot.index == 0) + 6 * model.hidden
    chunk = min(max(CHUNK_LOGITS, vocabulary), tokens * vocabulary)
    at_once = tokens_at_once(tokens, model.hidden, on_device=on_device)
    return FLOAT32 * max(SCORE_COPIES * chunk, at_once * (widths + 2 * tokens))
