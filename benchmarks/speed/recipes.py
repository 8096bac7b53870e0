"""The recipes that speed is measured with, by name."""

from collections.abc import Mapping
from typing import Any

PRUNING = "sparsegpt 50%"
RECIPES: Mapping[str, dict[str, Any]] = {
    PRUNING: {"method": "sparsegpt", "sparsity": 0.5},
    "optq 4 bit": {"method": "optq", "bits": 4, "symmetric": False},
}
