"""What a user can change so that a job fits: the field, and how far."""

from collections.abc import Mapping

from compression.budgets import SPILL_BYTES
from compression.estimate import FLOAT32, Sizing
from jobs.estimating.capacity import Limits

LARGER = "a smaller model, or a server that gives a job more"


def of(sizing: Sizing | None, needed: Mapping[str, int], limits: Limits) -> dict[str, tuple[str, str]]:
    """By limit: field and words. Args: sizing: None of an evaluation."""
    found = {"host_memory": ("model", LARGER), "device_memory": ("model", LARGER), "disk": ("model", LARGER)}
    if sizing is None:
        return found
    if limits.memory_bytes is not None and "host_memory" in needed:
        fewer = _fewer_windows(sizing, needed["host_memory"] - limits.memory_bytes)
        if fewer is not None:
            found["host_memory"] = ("calibration.nsamples", f"<= {fewer} at this seqlen, or a shorter seqlen")
        elif sizing.output.embeddings == "int8":
            found["host_memory"] = ("output.embeddings", f"keep, or {LARGER}")
    found["disk"] = ("output.format", f"a format with smaller files, or {LARGER}")
    return found


def _fewer_windows(sizing: Sizing, excess_bytes: int) -> int | None:
    """The most calibration windows with which `excess_bytes` less are held; None where fewer windows do not help."""
    window = sizing.load.calibration_seqlen * sizing.hidden * FLOAT32
    copies = 2 if sizing.plan.recipe.asymmetric_calibration else 1
    nsamples = sizing.load.calibration
    if window * nsamples > SPILL_BYTES:
        return None  # it is not in memory anyway
    fewer = nsamples - -(-excess_bytes // (window * copies))
    return fewer if fewer >= 1 else None
