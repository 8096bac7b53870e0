"""What a host has to compute on, found out without torch, and the slots that its worker makes of it."""

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from jobs.errors import SettingsError
from jobs.needs import CPU_QUEUE, GPU_QUEUE, Need
from jobs.settings import Settings

QUERY = ("--query-gpu=name,memory.total", "--format=csv,noheader,nounits")
QUERY_TIMEOUT_S = 20
MIB = 1024**2


class Gpu(BaseModel):
    """A GPU by its number as the host counts. `memory_bytes` is None where no driver's tool tells."""

    model_config = ConfigDict(frozen=True)

    name: str = "GPU"
    memory_bytes: int | None = None


class Slot(BaseModel):
    """One job at a time on one device of a worker."""

    model_config = ConfigDict(frozen=True)

    device: str = Field(examples=["cpu", "cuda:0"])
    name: str = Field(description="As its maker calls it.", examples=["NVIDIA H100 80GB HBM3"])
    memory_bytes: int | None = Field(description="Of the device itself; null for processors, which use the host's.")
    needs: tuple[Need, ...] = Field(description="What it can serve.")

    @property
    def is_gpu(self) -> bool:
        return self.device != "cpu"


def find_gpus(environment: Mapping[str, str], devices: Path = Path("/dev")) -> Sequence[Gpu]:
    """The GPUs that a process with this environment sees, in its own numbering (CUDA_VISIBLE_DEVICES)."""
    found = _ask_driver() or [Gpu() for path in devices.glob("nvidia*") if path.name.removeprefix("nvidia").isdecimal()]
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return found
    chosen = []
    for name in filter(None, map(str.strip, visible.split(","))):
        if name == "-1" or (name.isdecimal() and int(name) >= len(found)):
            break  # CUDA ignores what comes after an invalid one
        chosen.append(found[int(name)] if name.isdecimal() else Gpu(**_alike(found)))  # by UUID: one of them
    return chosen


def make_slots(settings: Settings, gpus: Sequence[Gpu]) -> tuple[Slot, ...]:
    """One slot for each GPU that this worker may use, and the processor's. Raises: SettingsError: none is left."""
    used = _used(settings.device, len(gpus))
    cpu_slots = settings.cpu_slots if settings.cpu_slots is not None else int(not used)
    if not used and not cpu_slots:
        raise SettingsError("SCALPEL_CPU_SLOTS is 0, and no GPU is used; this worker could do nothing")
    needs: tuple[Need, ...] = ("any", "cpu", "gpu") if settings.cpu_slots is None else ("any", "gpu")
    on_gpus = [(f"cuda:{index}", gpus[index]) for index in used]
    slots = [Slot(device=device, name=gpu.name, memory_bytes=gpu.memory_bytes, needs=needs) for device, gpu in on_gpus]
    slots += [Slot(device="cpu", name=_processor(), memory_bytes=None, needs=("any", "cpu"))] * cpu_slots
    return tuple(slots)


def queues_of(slots: Sequence[Slot]) -> tuple[str, ...]:
    """The queues whose rings these slots can answer."""
    needs = {need for slot in slots for need in slot.needs}
    gpu = any(slot.is_gpu for slot in slots)
    return tuple(queue for queue, is_served in ((GPU_QUEUE, gpu), (CPU_QUEUE, "cpu" in needs)) if is_served)


def _used(device: str, count: int) -> Sequence[int]:
    """The numbers of the GPUs that SCALPEL_DEVICE means. Raises: SettingsError: the host shows no such GPU."""
    if device == "cpu":
        return ()
    if device == "cuda" and not count:
        raise SettingsError("SCALPEL_DEVICE is cuda, and this host shows no GPU; use auto or cpu")
    if not device.startswith("cuda:"):
        return range(count)
    number = int(device.removeprefix("cuda:"))
    if number >= count:
        raise SettingsError(f"SCALPEL_DEVICE is {device}, and this host shows {count} GPUs; name another one, or auto")
    return (number,)


def _ask_driver() -> list[Gpu]:
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    try:
        said = subprocess.run([tool, *QUERY], capture_output=True, text=True, timeout=QUERY_TIMEOUT_S, check=True)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return []
    rows = (line.rpartition(",") for line in said.stdout.splitlines() if line.strip())
    return [Gpu(name=name.strip(), memory_bytes=_bytes(mebibytes)) for name, _, mebibytes in rows]


def _bytes(mebibytes: str) -> int | None:
    words = mebibytes.strip()
    return int(words) * MIB if words.isdecimal() else None


def _alike(found: Sequence[Gpu]) -> dict[str, object]:
    """What is true of every GPU of the host, for one that is named by its UUID."""
    return found[0].model_dump() if len(set(found)) == 1 else {}


def _processor() -> str:
    return f"{os.cpu_count()} CPU threads"
