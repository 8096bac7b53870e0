"""What the `spqr` format can hold: the one shape that spqr-quant's kernel reads. Torch-free; each gives a reason, or None."""

from typing import TYPE_CHECKING, Final

from compression.families.base import Architecture
from compression.options import LayerOptions, SpqrOptions

if TYPE_CHECKING:
    from compression.plan import PlannedLayer

TILE: Final = 16  # rows and columns of a tile
BITS: Final = 3  # of every code: weights, scales, zero points
MAX_COLUMNS = 2**15  # the kernel takes an outlier's column as a signed 16-bit number


def refuses(options: LayerOptions) -> str | None:
    if not isinstance(options, SpqrOptions):
        return "it holds what the method spqr makes and nothing else; set method to spqr, with 3 bits"
    if options.bits != BITS:
        return f"its only reader, spqr-quant, knows codes of {BITS} bits; no other software reads SpQR at {options.bits} bits"
    for name, wanted in (("group_size", TILE), ("qq_group_size", TILE), ("qq_scale_bits", BITS), ("qq_zero_bits", BITS)):
        if getattr(options, name) != wanted:
            return f"its only reader, spqr-quant, has {name} {wanted} built in, not {getattr(options, name)}"
    return None


def refuses_layer(layer: "PlannedLayer", _: Architecture) -> str | None:
    if layer.matrix.is_transposed or layer.matrix.slot:
        return f"its loader replaces nn.Linear alone, and this is {'one expert of many' if layer.matrix.slot else 'a Conv1D'}"
    for width, what in zip(layer.matrix.shape, ("outputs", "inputs"), strict=True):
        if width % TILE:
            return f"its tiles are {TILE} wide, and {TILE} does not divide the {width} {what}"
    if layer.matrix.shape[1] > MAX_COLUMNS:
        return f"its reader cannot name outliers beyond input {MAX_COLUMNS}, and there are {layer.matrix.shape[1]}"
    return None
