"""What a family file declares: where a model's blocks are and which matrices they hold. Torch-free."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Any, Literal

from compression.errors import UnsupportedModel

if TYPE_CHECKING:
    from compression.families.structure import Structure

MAX_SIZE = 2**24  # of any width, vocabulary or position in a config; a hostile one must not cost memory
MAX_BLOCKS = 4096
MAX_MATRICES = 2**18  # of a whole model; DeepSeek-V3 has 46,000

Task = Literal["causal-lm", "hidden-states", "masked-lm", "classification"]
"""What a model gives: next-token logits, last hidden states, logits for masked tokens, or logits of labels."""


@dataclass(frozen=True)
class Slot:
    """The part of a fused parameter (E, R, C) of a mixture of experts that is one expert's matrix.

    Args:
        parameter: name inside the block, such as `mlp.experts.gate_up_proj`; its module is given the routed tokens.
        index: the expert, from 0.
        rows: first and one past the last of its rows.
        is_second: reads what the expert's own gate and up make of the tokens, not the tokens routed to it.
    """

    parameter: str
    index: int
    rows: tuple[int, int]
    is_second: bool = False

    @property
    def module(self) -> str:
        return self.parameter.rpartition(".")[0]


@dataclass(frozen=True)
class Matrix:
    """One weight matrix of a block that a method may compress.

    Args:
        name: module name inside the block, such as `self_attn.q_proj`; of an expert, as checkpoints with one tensor for
            each expert name it.
        shape: (out_features, in_features), whatever the storage order.
        reads: label of the tensor it reads; matrices with the same label share one Hessian.
        stage: position in the true-sequential order inside the block, from 0.
        is_transposed: stored as (in, out), as GPT-2's Conv1D does.
        slot: where it lies, if not in a parameter of its own.
        kept_dense: why no method may touch it, such as a router; it is in the coverage table as skipped.
    """

    name: str
    shape: tuple[int, int]
    reads: str
    stage: int
    is_transposed: bool = False
    slot: Slot | None = None
    kept_dense: str | None = None

    @property
    def parameter(self) -> str:
        """Name inside the block of the parameter that holds it."""
        return self.slot.parameter if self.slot else f"{self.name}.weight"


@dataclass(frozen=True)
class Architecture:
    """Everything the layer-wise pass must know of a model before it reads a weight.

    Args:
        class_name: the checkpoint's class, such as `LlamaForCausalLM`.
        block_path: module path of the list of blocks; block k is `{block_path}.{k}`.
        base_prefix: prefix that some checkpoints leave out of their tensor names.
        matrices: of every block that `exceptions` does not name, in the order they are solved.
        max_positions: longest window the model takes, in tokens.
        exceptions: block index -> its matrices, for blocks unlike the others.
        renames: (model's, checkpoint's) parts of tensor names, where published checkpoints name them otherwise.
        block_returns_tuple: the model expects a tuple from a block, hidden states first.
        task: every one but "causal-lm" makes the model an encoder: it sees whole windows, and has no perplexity.
        structure: what can be cut out of every block; None where the family does not declare it.
    """

    family: str
    class_name: str
    model_type: str
    blocks: int
    block_path: str
    base_prefix: str
    matrices: tuple[Matrix, ...]
    max_positions: int
    vocab_size: int
    exceptions: Mapping[int, tuple[Matrix, ...]] = field(default_factory=dict)
    renames: tuple[tuple[str, str], ...] = ()
    block_returns_tuple: bool = False
    task: Task = "causal-lm"
    structure: "Structure | None" = None

    @property
    def is_encoder(self) -> bool:
        return self.task != "causal-lm"

    def block(self, index: int) -> tuple[Matrix, ...]:
        """The matrices of block `index`, from 0."""
        return self.exceptions.get(index, self.matrices)

    def module_name(self, block: int, matrix: Matrix) -> str:
        """Full module name of a matrix; blocks count from 0."""
        return f"{self.block_path}.{block}.{matrix.name}"

    def __post_init__(self) -> None:
        if self.blocks > MAX_BLOCKS:
            raise UnsupportedModel(f"config.json: {self.blocks} blocks are more than {MAX_BLOCKS}")
        if sum(len(self.block(k)) for k in range(self.blocks)) > MAX_MATRICES:
            raise UnsupportedModel(f"config.json: more than {MAX_MATRICES} matrices in all blocks together")
        for matrix in (*self.matrices, *chain.from_iterable(self.exceptions.values())):
            if min(matrix.shape) < 1:
                raise UnsupportedModel(f"config.json: {matrix.name} would have the shape {matrix.shape}")


Reader = Callable[["Config"], Architecture]


class Config:
    """A checkpoint's config.json with errors that name what is missing."""

    def __init__(self, data: Mapping[str, Any]) -> None:
        self.data = data
        self.model_type = str(data.get("model_type", ""))
        classes = data.get("architectures")
        self.class_name = str(classes[0]) if isinstance(classes, list) and classes else ""

    def positive(self, *names: str, default: int | None = None) -> int:
        """The first of the named entries that is there, as a positive integer.

        Raises: UnsupportedModel: absent without a default, or not a positive integer.
        """
        for name in names:
            value = self.data.get(name)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MAX_SIZE:
                raise UnsupportedModel(f"config.json: {name} is {value!r}, not an integer from 1 to {MAX_SIZE}")
            return value
        if default is None:
            raise UnsupportedModel(f"config.json has no {names[0]}, which a {self.model_type} model needs")
        return default

    def flag(self, name: str, *, default: bool) -> bool:
        """A true or false entry; null and absent give the default.

        Raises: UnsupportedModel: anything else.
        """
        value = self.data.get(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise UnsupportedModel(f"config.json: {name} is {value!r}, neither true nor false")
        return value
