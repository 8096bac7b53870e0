"""What a format refuses, in words, found by asking: each wish goes through the same checks as a request. Torch-free."""

from collections.abc import Mapping
from typing import Any

from compression.errors import InvalidOptions
from compression.options import BITS
from compression.protocol import OutputFormat
from compression.recipe import parse_recipe, resolve

WISHES: Mapping[str, Mapping[str, Any]] = {
    "pruning alone": {"sparsity": 0.5},
    **{f"{bits} bits": {"bits": bits} for bits in BITS},
    "ternary codes": {"bits": "ternary"},
    "symmetric grids": {"bits": 4, "symmetric": True},
    "asymmetric grids": {"bits": 4, "symmetric": False, "offset": "zero_point"},
    "grids with a minimum": {"bits": 4, "symmetric": False, "offset": "minimum"},
    "groups of 32": {"bits": 4, "group_size": 32},
    "groups of 128": {"bits": 4, "group_size": 128},
    "whole rows": {"bits": 4, "group_size": "row"},
    "groups in the order of act_order": {"bits": 4, "act_order": True, "static_groups": False},
    "pruned and quantised": {"sparsity": 0.5, "bits": 4},
    "spqr with 3 bits": {"method": "spqr", "bits": 3},
}


def refusals(name: OutputFormat) -> dict[str, str]:
    """Wish -> the reason why the format does not grant it; what is granted is left out."""
    found = {}
    for wish, recipe in WISHES.items():
        try:
            resolve(parse_recipe(recipe), name)
        except InvalidOptions as refusal:
            _, is_of_format, reason = refusal.reason.partition("): ")  # after the names of format and method
            found[wish] = reason if is_of_format else refusal.reason
    return found
