"""When the machine runs out: torch, Python and the operating system say it in many ways, the library in two typed errors."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from compression.disk import causes, is_disk_full
from compression.errors import CompressionError, DiskFull, OutOfMemory

ALLOCATOR = "DefaultCPUAllocator: can't allocate memory"  # a plain RuntimeError of torch's, known by its words alone


@contextmanager
def resource_errors() -> Iterator[None]:
    """Turn what means "out of memory" or "the disk is full" into the library's own errors; everything else passes.

    Raises: OutOfMemory, DiskFull.
    """
    try:
        yield
    except Exception as error:
        found = _typed(error)
        if found is None:
            raise
        raise found from error


def _typed(error: Exception) -> CompressionError | None:
    """What it comes down to, also where a parser took it for damage of the file that it was reading."""
    for cause in causes(error):
        if isinstance(cause, torch.OutOfMemoryError):
            return OutOfMemory("the device", _first_line(cause))
        if isinstance(cause, MemoryError) or (isinstance(cause, RuntimeError) and ALLOCATOR in str(cause)):
            return OutOfMemory("the host", _first_line(cause))
        if is_disk_full(cause):
            return DiskFull(str(getattr(cause, "filename", None) or "the work or output folder"), _first_line(cause))
    return None


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [""])[0] or type(error).__name__
