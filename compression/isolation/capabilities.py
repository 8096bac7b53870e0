"""Root's powers, taken from a process that stays root: all but those over files, which the paths' rules bound."""

import struct
from contextlib import suppress
from ctypes import create_string_buffer
from pathlib import Path
from platform import machine

from compression.isolation.libc import syscall

_CAPSET = {"x86_64": 126, "aarch64": 91}
_VERSION_3 = 0x20080522
OVER_FILES = 0b1111  # chown, dac_override, dac_read_search, fowner


def effective() -> int:
    """The bits of what this process may do now."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1], 16) for line in lines if line.startswith("CapEff:"))


def drop() -> None:
    """For good, once new privileges are ruled out. What the kernel does not let us, we keep."""
    number = _CAPSET.get(machine())
    with suppress(OSError, StopIteration):
        kept = effective() & OVER_FILES
        header = create_string_buffer(struct.pack("=Ii", _VERSION_3, 0), 8)
        low_and_high = create_string_buffer(struct.pack("=IIIIII", kept, kept, 0, 0, 0, 0), 24)
        if number is not None:
            syscall(number, header, low_and_high)
