"""Peak memory of this process: what it allocated, apart from the files it has mapped; and what the host has left.

What is pinned for a GPU is allocated, too, although the kernel counts it among what is mapped.
"""

import threading
from pathlib import Path
from types import TracebackType

import torch

from compression.memory_series import MemorySeries
from compression.report import Memory, MemoryMode

SAMPLE_INTERVAL_S = 0.05
_STATUS, _MEMORY = Path("/proc/self/status"), Path("/proc/meminfo")


class MemoryMeter:
    """Samples resident memory in a thread while in use. The kernel keeps a peak of the sum only, not of its parts."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._peak_bytes, self._peak_mapped_bytes = 0, 0
        self._series = MemorySeries(SAMPLE_INTERVAL_S)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="memory-meter", daemon=True)

    def __enter__(self) -> "MemoryMeter":
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()

    def now_bytes(self) -> int:
        """Anonymous and pinned resident memory at this moment."""
        return _resident()[0] + self._pinned_bytes()

    def device_bytes(self) -> int | None:
        """Device memory allocated at this moment; None on CPU."""
        return torch.cuda.memory_allocated(self._device) if self._device.type == "cuda" else None

    def peak(self, mode: MemoryMode = "standard") -> Memory:
        """Peaks so far, of a pass in this mode."""
        self._sample()
        device = torch.cuda.max_memory_allocated(self._device) if self._device.type == "cuda" else None
        return Memory(
            host_peak_bytes=self._peak_bytes,
            host_peak_mapped_bytes=self._peak_mapped_bytes or None,
            device_peak_bytes=device,
            mode=mode,
            over_time=self._series.points,
        )

    def _watch(self) -> None:
        while not self._stop.wait(SAMPLE_INTERVAL_S):
            self._series.add(self._sample(), self.device_bytes())

    def _sample(self) -> int:
        """Anonymous and pinned resident memory at this moment, which the peaks now cover."""
        pinned = self._pinned_bytes()
        anonymous, mapped = _resident()
        self._peak_bytes = max(self._peak_bytes, anonymous + pinned)
        self._peak_mapped_bytes = max(self._peak_mapped_bytes, (mapped or 0) - pinned)
        return anonymous + pinned

    def _pinned_bytes(self) -> int:
        if self._device.type != "cuda":
            return 0
        return int(torch.cuda.host_memory_stats().get("allocated_bytes.current", 0))  # with what is kept for later


def total_device_bytes(device: torch.device) -> int | None:
    """All memory of a GPU; None of a CPU."""
    return torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else None


def available_bytes(limit_bytes: int | None = None) -> int:
    """Host memory that can be taken without swapping. Args: limit_bytes: of anonymous memory that this process is held to."""
    available = _available_bytes()
    return available if limit_bytes is None else min(available, limit_bytes - _resident()[0])


def _available_bytes() -> int:
    if not _MEMORY.exists():
        import psutil  # elsewhere than on Linux alone: a bare machine has no psutil

        return int(psutil.virtual_memory().available)
    fields = dict(line.split(":", 1) for line in _MEMORY.read_text().splitlines())
    return int(fields["MemAvailable"].split()[0]) * 1024


def _resident() -> tuple[int, int | None]:
    """(anonymous, file-backed) resident bytes; where the system does not tell them apart, (all, None)."""
    if not _STATUS.exists():
        import psutil

        return psutil.Process().memory_info().rss, None
    fields = dict(line.split(":", 1) for line in _STATUS.read_text().splitlines() if line.startswith("Rss"))
    kibibytes = {name: int(value.split()[0]) for name, value in fields.items()}
    return kibibytes["RssAnon"] * 1024, (kibibytes["RssFile"] + kibibytes["RssShmem"]) * 1024
