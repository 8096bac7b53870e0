"""What a job needs of the device that computes it, and which queue rings for that."""

from collections.abc import Mapping
from typing import Literal, get_args

Need = Literal["any", "cpu", "gpu"]
Device = Literal["auto", "cpu", "cuda"]

NEEDS: tuple[Need, ...] = get_args(Need)
GPU_QUEUE, CPU_QUEUE = "scalpel.gpu", "scalpel.cpu"
QUEUES_OF: Mapping[Need, tuple[str, ...]] = {
    "any": (GPU_QUEUE, CPU_QUEUE),  # whoever is idle comes; the others find nothing to do
    "cpu": (CPU_QUEUE,),
    "gpu": (GPU_QUEUE,),
}
_NEED_OF: Mapping[Device, Need] = {"auto": "any", "cpu": "cpu", "cuda": "gpu"}


def need_of(device: Device) -> Need:
    """What a request's `device` means for the queue."""
    return _NEED_OF[device]
