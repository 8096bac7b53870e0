"""Where a pass ran: device, threads, instruction set and versions, for the report and the fingerprint."""

import os
import platform
from importlib.metadata import version
from pathlib import Path

import torch

import compression
from compression.errors import InvalidOptions
from compression.isolation.evidence import in_force
from compression.obs import has_kernel
from compression.report import Environment

COMPUTE_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
LIBRARIES = ("torch", "transformers", "safetensors", "tokenizers", "numpy")


def pick_device(name: str) -> torch.device:
    """`auto` is the first CUDA device where there is one, else the CPU.

    Raises: InvalidOptions: a device that is not here.
    """
    if name == "auto":
        return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InvalidOptions("device", f"{name!r} is no device", "auto, cpu, cuda or cuda:N") from error
    if device.type == "cpu" or (device.type == "cuda" and (device.index or 0) < torch.cuda.device_count()):
        return device
    raise InvalidOptions("device", f"{name} is not on this machine", "auto, cpu, cuda or cuda:N")


def pick_compute_dtype(name: str, device: torch.device) -> torch.dtype:
    """`auto` is bfloat16 where the device multiplies it faster than float32, else float32.

    Without instructions for it a processor emulates bfloat16, a hundred times slower than float32 (AMD Zen 3, torch 2.13).

    Raises: InvalidOptions: another name.
    """
    if name == "auto":
        return torch.bfloat16 if has_bfloat16(device) else torch.float32
    if name not in COMPUTE_DTYPES:
        raise InvalidOptions("compute_dtype", f"{name!r} is unknown", " or ".join(("auto", *COMPUTE_DTYPES)))
    return COMPUTE_DTYPES[name]


def has_bfloat16(device: torch.device) -> bool:
    """Whether it has instructions for products in bfloat16."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return any(capabilities.get(feature) for feature in ("amx_bf16", "avx512_bf16"))


def describe(device: torch.device, compute_dtype: torch.dtype) -> Environment:
    return Environment(
        device=str(device),
        device_name=name_of(device),
        threads=torch.get_num_threads(),
        instruction_set=torch.backends.cpu.get_cpu_capability(),
        compute_dtype=str(compute_dtype).removeprefix("torch."),
        platform=platform.platform(),
        isolation=in_force(),
        versions=_versions(),
    )


def circumstances(device: torch.device, compute_dtype: torch.dtype) -> dict[str, str]:
    """What the numbers of a pass depend on beside the device and what it was given."""
    here = describe(device, compute_dtype)
    return {
        "compute_dtype": here.compute_dtype,
        "threads": str(here.threads),
        "instruction_set": here.instruction_set,
        **({"column_sweep": "fused" if has_kernel(device) else "plain"} if device.type == "cuda" else {}),
        **versions(),
    }


def versions() -> dict[str, str]:
    """For a fingerprint."""
    return {f"{name} version": number for name, number in _versions().items()}


def _versions() -> dict[str, str]:
    return {"scalpel": compression.__version__, "python": platform.python_version()} | {
        name: version(name) for name in LIBRARIES
    }


def name_of(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else processor()


def processor() -> str:
    """Model and number of logical cores, such as `AMD EPYC x 2`."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor() or platform.machine()} x {os.cpu_count()}"
