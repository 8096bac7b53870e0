"""What every loader program does once the model is there: compare what it gives, generate a little, print one line of JSON.

A probe with `logits` is of a language model, one with `outputs` of an encoder, which generates nothing.
"""

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

Logits = Callable[[Tensor], Tensor]  # ids (1, L) -> logits (1, L, V), or an encoder's outputs (1, ...); any float dtype
Load = Callable[[Path, str], Logits]  # artifact folder, device


def run(loader: str, load: Load) -> None:
    """The whole program. Args: loader: names and versions of the software; shown to people."""
    folder, probe, device = Path(sys.argv[1]), load_file(sys.argv[2]), sys.argv[3]
    output, sys.stdout = sys.stdout, sys.stderr  # what libraries print must not stand between the lines of JSON
    with torch.inference_mode():
        logits = load(folder, device)
        is_encoder = "outputs" in probe
        expected = probe["outputs" if is_encoder else "logits"]
        found = {"loader": loader, **_differences(logits, probe["input_ids"], expected, is_encoder=is_encoder)}
        found["generated"] = None if is_encoder else _generate(logits, probe["input_ids"][:1, :PROMPT_TOKENS])
    print(json.dumps(found), file=output, flush=True)


def _differences(logits: Logits, ids_WL: Tensor, expected: Tensor, *, is_encoder: bool) -> dict[str, float]:
    """Largest and mean difference; then `kl` in nats, or of an encoder `relative_error`, |difference|^2 / |expected|^2."""
    found = torch.cat([logits(ids[None]).float().cpu() for ids in ids_WL])
    difference = (found - expected).abs()
    figures = {"max_difference": float(difference.max()), "mean_difference": float(difference.mean(dtype=torch.float64))}
    if is_encoder:
        return figures | {"relative_error": float(difference.double().square().sum() / expected.double().square().sum())}
    log_p, log_q = expected.log_softmax(-1), found.log_softmax(-1)
    return figures | {"kl": float(torch.sum(log_p.exp() * (log_p - log_q), -1, dtype=torch.float64).mean())}


def _generate(logits: Logits, prompt_1L: Tensor) -> list[int]:
    """Greedy tokens after the prompt, without a cache: every loader can do that."""
    ids_1L: Any = prompt_1L
    for _ in range(GENERATED_TOKENS):
        ids_1L = torch.cat([ids_1L, logits(ids_1L)[:, -1:].argmax(-1).cpu()], 1)
    generated: list[int] = ids_1L[0, prompt_1L.shape[1] :].tolist()
    return generated
