"""The system calls that Python 3.11 has no names for."""

import ctypes
import os

CLONE_NEWNS, CLONE_NEWUSER, CLONE_NEWNET = 0x20000, 0x10000000, 0x40000000
MS_RDONLY, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 1, 1 << 5, 1 << 12, 1 << 14, 1 << 18
PR_SET_NO_NEW_PRIVS = 38

_libc = ctypes.CDLL(None, use_errno=True)


def syscall(number: int, *arguments: int | ctypes.Array[ctypes.c_char] | None) -> int:
    """Raises: OSError."""
    return _checked(_libc.syscall(ctypes.c_long(number), *(ctypes.c_long(a) if isinstance(a, int) else a for a in arguments)))


def unshare(flags: int) -> None:
    """Raises: OSError."""
    _checked(_libc.unshare(flags))


def mount(source: str, target: str, flags: int) -> None:
    """Raises: OSError."""
    _checked(_libc.mount(source.encode(), target.encode(), None, ctypes.c_ulong(flags), None))


def no_new_privileges() -> None:
    """No program that this process starts gains rights from its file. Raises: OSError."""
    _checked(_libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
