"""Where a pass ran: device, threads, instruction set and versions, for the report and the fingerprint."""

import os
import platform
from importlib.metadata import version
from pathlib import Path

import torch

import compression
from compression.errors import InvalidOptions
from compression.report import Environment

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


def describe(device: torch.device, compute_dtype: torch.dtype) -> Environment:
    is_cuda = device.type == "cuda"
    return Environment(
        device=str(device),
        device_name=torch.cuda.get_device_name(device) if is_cuda else processor(),
        threads=torch.get_num_threads(),
        instruction_set=torch.backends.cpu.get_cpu_capability(),
        compute_dtype=str(compute_dtype).removeprefix("torch."),
        platform=platform.platform(),
        versions={"scalpel": compression.__version__, "python": platform.python_version()}
        | {name: version(name) for name in LIBRARIES},
    )


def processor() -> str:
    """Model and number of logical cores, such as `AMD EPYC x 2`."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor() or platform.machine()} x {os.cpu_count()}"
