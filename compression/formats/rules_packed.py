"""What `compressed-tensors` and `gptq` can hold. Torch-free; each function gives the reason of a refusal, or None.

Where a limit is a loader's and not the layout's, docs/formats.md names the versions that were tried.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from compression.families.base import Architecture
from compression.options import LayerOptions, code_bits

if TYPE_CHECKING:
    from compression.plan import Plan, PlannedLayer

GRID_METHODS = ("rtn", "optq", "joint", "obc")  # their solutions are codes on one grid to each group, and nothing else
GPTQ_BITS = (2, 3, 4, 8, "ternary")
GPTQ_GROUP_SIZES = (16, 32, 64, 128, 256, 512, 1024, "row")
GPTQ_TILE = 32  # qweight packs 32 inputs into whole words, qzeros 32 outputs
GPTQ_UNREAD = {
    "falcon": "optimum leaves transformers' FalconLinear unpacked without a word, and the model would talk nonsense",
    "gpt_bigcode": "transformers fails to set up its packed modules",
}
READ_WEIGHTS_DIRECTLY = ("falcon", "gpt_bigcode")  # these look at module.weight, which is not there while it is packed
NO_EXPERTS = "no loader was seen to open a mixture of experts in it; dense holds one"


@dataclass(frozen=True)
class Layout:
    """How one matrix is packed. Args: bits: of a stored code. group_size: inputs that share a scale."""

    bits: int
    group_size: int | Literal["row"]


def layout(options: LayerOptions) -> Layout | None:
    """The layout of a matrix solved with these options; None: they only prune. Ternary codes take two bits."""
    bits = getattr(options, "bits", None)
    return None if bits is None else Layout(code_bits(bits), getattr(options, "group_size", None) or "row")


def is_symmetric(plan: "Plan") -> bool:
    """Whether every matrix has the zero point in the middle of its codes, so that none need be stored."""
    return all(getattr(layer.options, "symmetric", True) for layer in plan.targeted)


def main_layout(plan: "Plan") -> Layout:
    """The layout that most matrices have; of equally frequent ones the first."""
    layouts = [found for layer in plan.targeted if layer.options and (found := layout(layer.options))]
    return Counter(layouts).most_common(1)[0][0]


def symmetric_unless_told(given: Mapping[str, Any]) -> Mapping[str, Any]:
    """Symmetric grids load everywhere and have the fast kernels; asymmetric ones are written where asked for."""
    return {} if given.get("offset") == "minimum" else {"symmetric": True}


def compressed_tensors_refuses(options: LayerOptions) -> str | None:
    reason = _refuses_both(options)
    if reason is None and has_dynamic_groups(options):
        return (
            "its groups are runs of consecutive inputs, and act_order with static_groups=false scatters them; "
            "leave static_groups true, or set act_order false"
        )
    return reason


def compressed_tensors_refuses_layer(layer: "PlannedLayer", _: Architecture) -> str | None:
    if layer.matrix.is_transposed:
        return "its loaders replace nn.Linear alone, and this is a Conv1D; gptq holds it"
    return None


def compressed_tensors_refuses_plan(plan: "Plan", architecture: Architecture) -> str | None:
    if _has_experts(plan):
        return NO_EXPERTS
    layouts = {layout(layer.options) for layer in plan.targeted if layer.options}
    if len(layouts) > 1 and unpacks_while_loading(plan, architecture):
        return (
            f"transformers reads asymmetric grids, and models of the families {' and '.join(READ_WEIGHTS_DIRECTLY)}, only "
            "where all matrices have the same bits and group_size; set symmetric true, or the same bits and group_size for all"
        )
    return None


def unpacks_while_loading(plan: "Plan", architecture: Architecture) -> bool:
    """Whether transformers must unpack while it loads: it fails on some modules that stay packed until their first use."""
    return not is_symmetric(plan) or architecture.family in READ_WEIGHTS_DIRECTLY


def gptq_refuses(options: LayerOptions) -> str | None:
    reason = _refuses_both(options)
    if reason is not None:
        return reason
    bits, group_size = getattr(options, "bits", None), getattr(options, "group_size", None)
    if bits not in GPTQ_BITS:
        return f"its loaders read 2, 3, 4 and 8 bits, not {bits}"
    if group_size is not None and group_size not in GPTQ_GROUP_SIZES:
        return f"its kernels take groups of {', '.join(map(str, GPTQ_GROUP_SIZES))}, not {group_size}"
    return None


def gptq_refuses_layer(layer: "PlannedLayer", _: Architecture) -> str | None:
    for width, what in zip(layer.matrix.shape, ("outputs", "inputs"), strict=True):
        if width % GPTQ_TILE:
            return f"codes are packed by {GPTQ_TILE}, which does not divide its {width} {what}"
    return None


def gptq_refuses_plan(plan: "Plan", architecture: Architecture) -> str | None:
    return NO_EXPERTS if _has_experts(plan) else GPTQ_UNREAD.get(architecture.family)


def has_dynamic_groups(options: LayerOptions | None) -> bool:
    """Whether groups are runs of the order in which columns were visited, so that each column needs its group's number."""
    is_dynamic = getattr(options, "act_order", False) and not getattr(options, "static_groups", True)
    return is_dynamic and getattr(options, "group_size", None) != "row"


def _refuses_both(options: LayerOptions) -> str | None:
    if getattr(options, "bits", None) is None:
        return "it only prunes, and this format holds packed integer codes; add bits, or leave the matrix alone (null)"
    if options.method not in GRID_METHODS:
        return f"it has codes, scales and zero points, and no place for what {options.method} stores besides"
    if getattr(options, "offset", "zero_point") == "minimum":
        return "it stores an integer zero point to each group and no minimum; set offset to zero_point"
    return None


def _has_experts(plan: "Plan") -> bool:
    return any(layer.matrix.slot for layer in plan.layers)
