"""What every loader program does once the model is there: compare logits, generate a little, print one line of JSON."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

PROMPT_TOKENS = 24
GENERATED_TOKENS = 40

Logits = Callable[[Tensor], Tensor]  # ids (1, L) -> logits (1, L, V), any float dtype
Load = Callable[[Path, str], Logits]  # artifact folder, device


def run(loader: str, load: Load) -> None:
    """The whole program. Args: loader: names and versions of the software; shown to people."""
    folder, probe, device = Path(sys.argv[1]), load_file(sys.argv[2]), sys.argv[3]
    output, sys.stdout = sys.stdout, sys.stderr  # what libraries print must not stand between the lines of JSON
    with torch.inference_mode():
        logits = load(folder, device)
        found = {"loader": loader, **_differences(logits, probe["input_ids"], probe["logits"])}
        found["generated"] = _generate(logits, probe["input_ids"][:1, :PROMPT_TOKENS])
    print(json.dumps(found), file=output, flush=True)


def _differences(logits: Logits, ids_WL: Tensor, expected_WLV: Tensor) -> dict[str, float]:
    found_WLV = torch.cat([logits(ids[None]).float().cpu() for ids in ids_WL])
    difference = (found_WLV - expected_WLV).abs()
    log_p, log_q = expected_WLV.log_softmax(-1), found_WLV.log_softmax(-1)
    kl = torch.sum(log_p.exp() * (log_p - log_q), -1, dtype=torch.float64).mean()
    return {
        "max_difference": float(difference.max()),
        "mean_difference": float(difference.mean(dtype=torch.float64)),
        "kl": float(kl),
    }


def _generate(logits: Logits, prompt_1L: Tensor) -> list[int]:
    """Greedy tokens after the prompt, without a cache: every loader can do that."""
    ids_1L: Any = prompt_1L
    for _ in range(GENERATED_TOKENS):
        ids_1L = torch.cat([ids_1L, logits(ids_1L)[:, -1:].argmax(-1).cpu()], 1)
    generated: list[int] = ids_1L[0, prompt_1L.shape[1] :].tolist()
    return generated
