"""Whether a job can fit on this host at all, asked before its runner is started: disk space, and the least memory.

Both are estimates from the model's files and lean low: a job that passes may still run out, one that does not would have.
"""

import os
from collections import defaultdict
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from urllib.parse import unquote, urlparse

from compression.errors import CompressionError
from compression.families import read_architecture
from compression.formats.block_names import names_by_block
from compression.models.headers import DTYPE_BYTES, TensorInfo, read_folder
from compression.models.untrusted import CONFIG, read_object
from jobs.failure import disk_full, out_of_memory
from jobs.settings import Settings
from worker.endings import HostLacksRoom
from worker.folder import JobFolder
from worker.host_memory import available_bytes, memory_limit_bytes
from worker.scratch_watch import used_bytes
from worker.spec import EvaluateSpec, RunSpec, Spec

MARGIN_BYTES = 64 * 2**20  # report, tokenizer, logs, and whatever else there is
FLOAT32_BYTES = 4
UNPACKED = 4  # a .gguf file of 4 to 8 bits a weight, de-quantised


def check_fits(spec: Spec, folder: JobFolder, settings: Settings, forecast_bytes: int | None = None) -> None:
    """Args: forecast_bytes: of the artifact's weights, where they were foretold. Raises: HostLacksRoom."""
    check_disk(needed_space(spec, folder, settings, forecast_bytes))
    least = least_memory_bytes(spec)
    if least is not None:
        check_memory(least, memory_limit_bytes(settings), available_bytes())


def needed_space(spec: Spec, folder: JobFolder, settings: Settings, forecast_bytes: int | None = None) -> dict[Path, int]:
    """Bytes that the job will still write, by the folder that they go to.

    Finished blocks are no larger than the model, and solutions are links to them; what an earlier attempt left counts.
    """
    needed = {folder.root: MARGIN_BYTES}
    if isinstance(spec, EvaluateSpec):
        return needed
    is_packed = spec.model.path.suffix == ".gguf"
    model_bytes = used_bytes_of_model(spec.model.path) * (UNPACKED if is_packed else 1)
    artifact_bytes = model_bytes if forecast_bytes is None else forecast_bytes
    solved_bytes = model_bytes if isinstance(spec, RunSpec) else 0
    needed[folder.root] += max(0, solved_bytes + artifact_bytes - used_bytes(folder.root))
    if is_packed and not any(spec.cache.glob("gguf-*")):
        needed[spec.cache] = model_bytes
    store = urlparse(settings.artifact_url)
    if store.scheme == "file":
        needed[Path(unquote(store.path))] = solved_bytes + artifact_bytes
    return needed


def check_disk(needed: Mapping[Path, int]) -> None:
    """Folders on one disk need the sum. Raises: HostLacksRoom: naming what is needed, what is free, and where."""
    disks: dict[int, dict[Path, int]] = defaultdict(dict)
    for folder, size_bytes in needed.items():
        disks[_existing(folder).stat().st_dev][folder] = size_bytes
    for folders in disks.values():
        total, where = sum(folders.values()), ", ".join(map(str, folders))
        found = os.statvfs(_existing(next(iter(folders))))
        free = found.f_bavail * found.f_frsize
        if total > free:
            raise HostLacksRoom(
                disk_full(
                    f"The job needs about {total} bytes for {where}, and {free} are free there. Free some space, or give the "
                    "worker a larger disk."
                )
            )


def check_memory(least_bytes: int, limit_bytes: int, free_bytes: int) -> None:
    """Raises: HostLacksRoom."""
    if least_bytes <= min(limit_bytes, free_bytes):
        return
    has = f"is allowed {limit_bytes}" if least_bytes > limit_bytes else f"finds {free_bytes} available at this moment"
    failure = out_of_memory(
        f"The model's embedding, head and largest block alone take {least_bytes} bytes in float32, and a runner here {has}. "
        "It takes a host with more memory, or a higher memory_limit_bytes."
    )
    raise HostLacksRoom(failure.model_copy(update={"memory_limit_bytes": limit_bytes}))


def least_memory_bytes(spec: Spec) -> int | None:
    """What no plan can do without: what lies outside the blocks, or the largest block, whichever is more, in float32. On the
    CPU both at once. None where the files do not tell: the runner then says what is wrong with them."""
    if isinstance(spec, EvaluateSpec):
        return None
    with suppress(CompressionError, OSError):
        tensors = read_folder(spec.model.path)
        architecture = read_architecture(read_object(spec.model.path / CONFIG))
        groups = names_by_block(tensors, architecture)
        ends, *blocks = (sum(_float32_bytes(tensors[name]) for name in names) for names in groups)
        return ends + max(blocks) if spec.device == "cpu" else max(ends, *blocks)
    return None


def _float32_bytes(tensor: TensorInfo) -> int:
    """Anonymous memory of its copy in float32; one that is so already may stay a mapped file."""
    if tensor.dtype == "F32":
        return 0
    return FLOAT32_BYTES * tensor.size_bytes // DTYPE_BYTES[tensor.dtype]


def used_bytes_of_model(path: Path) -> int:
    """Apparent size of a model's weights: of a .gguf file, or of a folder's files by name, links followed."""
    files = [path] if path.is_file() else list(path.glob("*.safetensors"))
    with suppress(OSError):
        return sum(file.stat().st_size for file in files)
    return 0


def _existing(folder: Path) -> Path:
    return next(parent for parent in (folder, *folder.parents) if parent.exists())
