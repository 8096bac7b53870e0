"""Landlock, the kernel's own sandbox for any process: https://docs.kernel.org/userspace-api/landlock.html.

Opening files is allowed by path; TCP and, on newer kernels, signals and abstract sockets to processes outside are forbidden. A
process under Landlock can neither trace nor read the memory or environment of one that is not. The system call numbers are the
same on every architecture.
"""

import os
import stat
import struct
from collections.abc import Iterable
from contextlib import suppress
from ctypes import create_string_buffer

from compression.isolation.libc import syscall

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION = 1  # flag
_PATH_BENEATH = 1  # kind of rule

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_CHANGE_FOLDERS = sum(1 << bit for bit in range(4, 13))  # remove and make entries of every kind
_REFER, _TRUNCATE = 1 << 13, 1 << 14
_ON_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE  # what a rule on a file, not a folder, may allow
_TCP = 0b11  # bind, connect
_SCOPES = 0b11  # abstract sockets, signals

_READ = _EXECUTE | _READ_FILE | _READ_DIR
_WRITE = _READ_FILE | _READ_DIR | _WRITE_FILE | _CHANGE_FOLDERS | _REFER | _TRUNCATE  # what was written is never executed


class Landlock:
    """Rules, gathered first (opening the paths may need rights that are given up later) and put in force once.

    Args:
        listed: folders whose names may be seen.
        read: paths that may be read and executed.
        write: paths that may be read and changed. What is not there is left out.
    Raises: OSError: the kernel has no Landlock.
    """

    def __init__(self, listed: Iterable[str], read: Iterable[str], write: Iterable[str]) -> None:
        version = syscall(_CREATE_RULESET, None, 0, _VERSION)
        self._files = _EXECUTE | _WRITE_FILE | _READ_FILE | _READ_DIR | _CHANGE_FOLDERS
        self._files |= (_REFER if version >= 2 else 0) | (_TRUNCATE if version >= 3 else 0)
        fields = (self._files, _TCP if version >= 4 else 0, _SCOPES if version >= 6 else 0)
        size = 24 if version >= 6 else 16 if version >= 4 else 8
        attributes = create_string_buffer(struct.pack("=QQQ", *fields)[:size], size)
        self._ruleset = syscall(_CREATE_RULESET, attributes, size, 0)
        for paths, rights in ((listed, _READ_DIR), (read, _READ), (write, _WRITE)):
            for path in paths:
                self._allow(path, rights)

    def let_write(self, path: str) -> None:
        """Let the files below a path be changed as well, but none be made or removed."""
        self._allow(path, _WRITE_FILE | _TRUNCATE)

    def _allow(self, path: str, rights: int) -> None:
        with suppress(OSError):
            place = os.open(path, os.O_PATH | os.O_CLOEXEC)
            try:
                possible = self._files if stat.S_ISDIR(os.fstat(place).st_mode) else self._files & _ON_FILES
                rule = create_string_buffer(struct.pack("=Qi", rights & possible, place), 12)
                syscall(_ADD_RULE, self._ruleset, _PATH_BENEATH, rule, 0)
            finally:
                os.close(place)

    def restrict(self) -> None:
        """From here on, for this process and all that it starts; needs `no_new_privileges`. Raises: OSError."""
        syscall(_RESTRICT_SELF, self._ruleset, 0)
        os.close(self._ruleset)
