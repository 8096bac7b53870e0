"""How many bytes of weights an artifact will have, foretold from the plan and the source's tensor headers. Torch-free.

Every safetensors format writes the same shards (`block_names`), and says in a rule which tensors take a solved matrix's place;
names, dtypes and shapes then give the files to the byte, their headers included.
"""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field

from compression.families import Architecture
from compression.formats.block_names import names_by_block
from compression.models.headers import DTYPE_BYTES, TensorInfo
from compression.models.stored_names import stored_name
from compression.options import QuantizationOptions, code_bits
from compression.plan import Plan, PlannedLayer
from compression.protocol import OutputFormat
from compression.report import Sizes

LAYOUT = ("I64", "F64", "F32", "I32", "BF16", "F16", "I16", "I8", "U8", "BOOL")  # the library's order of dtypes in a file


@dataclass(frozen=True)
class Stored:
    """A tensor as a file holds it; dtypes are spelled as safetensors spells them."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def size_bytes(self) -> int:
        return math.prod(self.shape) * DTYPE_BYTES[self.dtype]


Rule = Callable[[PlannedLayer, Stored, Plan], Mapping[str, Stored]]
"""A planned matrix, its tensor in the source, and the whole plan -> the tensors that take its place, by their last name."""


def _dense(_: PlannedLayer, source: Stored, __: Plan) -> Mapping[str, Stored]:
    return {"weight": source}


def _compressed_tensors(layer: PlannedLayer, source: Stored, plan: Plan) -> Mapping[str, Stored]:
    (rows, columns), (bits, groups) = layer.matrix.shape, _codes(layer)
    tensors = {
        "weight_packed": Stored("I32", (rows, _words(columns * bits))),
        "weight_scale": Stored(source.dtype, (rows, groups)),
        "weight_shape": Stored("I64", (2,)),
    }
    is_symmetric = all(getattr(other.options, "symmetric", True) for other in plan.targeted)
    return tensors if is_symmetric else tensors | {"weight_zero_point": Stored("I32", (_words(rows * bits), groups))}


def _gptq(layer: PlannedLayer, source: Stored, _: Plan) -> Mapping[str, Stored]:
    (rows, columns), (bits, groups) = layer.matrix.shape, _codes(layer)
    return {
        "qweight": Stored("I32", (_words(columns * bits), rows)),
        "qzeros": Stored("I32", (groups, _words(rows * bits))),
        "scales": Stored("F16" if source.dtype in ("F32", "F64") else source.dtype, (groups, rows)),
        "g_idx": Stored("I32", (columns,)),
    }


def _codes(layer: PlannedLayer) -> tuple[int, int]:
    """Bits of a code, and groups in a row, of a quantised matrix."""
    assert isinstance(layer.options, QuantizationOptions), "the format has refused what only prunes"
    size, columns = layer.options.group_size, layer.matrix.shape[1]
    return code_bits(layer.options.bits), columns // size if isinstance(size, int) else 1


def _words(bits: int) -> int:
    return -(-bits // 32)


RULES: dict[str, Rule] = {"dense": _dense, "compressed-tensors": _compressed_tensors, "gptq": _gptq}
NAMED_AS_IN_MODEL = ("compressed-tensors", "gptq")  # the base prefix is there, also where the source leaves it out


class Forecast(BaseModel):
    """Bytes of weights on disk, known before any work."""

    model_config = ConfigDict(frozen=True)

    source_bytes: int = Field(description="Of the source's tensors.")
    artifact_bytes: int = Field(description="Of the artifact's weight files.")
    note: str | None = Field(None, description="Said where the artifact will not be smaller than its source.")


def forecast(name: OutputFormat, plan: Plan, architecture: Architecture, tensors: Mapping[str, TensorInfo]) -> Forecast | None:
    """What the artifact will weigh, as far as its format has a rule for it."""
    artifact_bytes = predicted_bytes(name, plan, architecture, tensors)
    if artifact_bytes is None:
        return None
    source_bytes = sum(info.size_bytes for info in tensors.values())
    return Forecast(
        source_bytes=source_bytes, artifact_bytes=artifact_bytes, note=not_smaller(name, source_bytes, artifact_bytes)
    )


def beside(foretold: Forecast | None, sizes: Sizes) -> Sizes:
    """The sizes of a report with what was foretold of them."""
    return sizes.model_copy(update={"predicted_bytes": foretold.artifact_bytes}) if foretold else sizes


def predicted_bytes(
    name: OutputFormat, plan: Plan, architecture: Architecture, tensors: Mapping[str, TensorInfo]
) -> int | None:
    """Bytes of the artifact's weight files, headers included; None for a format without a rule."""
    rule = RULES.get(name)
    if rule is None:
        return None
    written: list[dict[str, Stored]] = [
        {tensor: Stored(tensors[tensor].dtype, tensors[tensor].shape) for tensor in names}
        for names in names_by_block(tensors, architecture)
    ]
    for layer in plan.targeted:
        shard = written[layer.block + 1]
        stored = stored_name(shard, architecture, f"{layer.name}.weight")
        if stored is None:
            continue  # it lies in a tensor with other experts, where only formats that keep the source's layout leave it
        parts = rule(layer, shard.pop(stored), plan)
        shard |= {f"{stored.removesuffix('weight')}{last}": tensor for last, tensor in parts.items()}
    if name in NAMED_AS_IN_MODEL:
        written = [{_full(tensor, architecture): stored for tensor, stored in shard.items()} for shard in written]
    return sum(file_bytes(shard) for shard in written)


def _full(name: str, architecture: Architecture) -> str:
    """A tensor's name with the base prefix; only the head stands outside it."""
    is_full = name.startswith((f"{architecture.base_prefix}.", "lm_head."))
    return name if is_full else f"{architecture.base_prefix}.{name}"


def not_smaller(name: OutputFormat, source_bytes: int, artifact_bytes: int) -> str | None:
    """The sentence that a user is owed where nothing is won on disk; None where something is."""
    if artifact_bytes < source_bytes:
        return None
    return (
        f"In the format {name} the weights take {artifact_bytes:,} bytes, the source's {source_bytes:,}: "
        "the artifact is no smaller than its source."
    )


def file_bytes(tensors: Mapping[str, Stored]) -> int:
    """Size of a safetensors file: 8 bytes, the JSON header filled up with spaces to a multiple of 8, the tensors.

    The library lays tensors out by dtype, then by name; the order decides how many digits the offsets have.
    """
    order = sorted(tensors, key=lambda tensor: (LAYOUT.index(tensors[tensor].dtype), tensor))
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    position = 0
    for tensor in order:
        end = position + tensors[tensor].size_bytes
        entry = tensors[tensor]
        header[tensor] = {"dtype": entry.dtype, "shape": list(entry.shape), "data_offsets": [position, end]}
        position = end
    length = len(json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode())
    return 8 + -(-length // 8) * 8 + position
