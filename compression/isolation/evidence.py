"""What keeps this process apart from its host, found out from inside by trying: no claim of whoever started it."""

import fcntl
import os
import socket
import struct
from pathlib import Path

SIOCGIFFLAGS, IFF_UP = 0x8913, 1  # Linux

NO_NETWORK = "no network"
NO_TCP = "no TCP connections"
NO_NEW_PRIVILEGES = "no new privileges"
FEW_FILES = "files of the system and of this job only"
BLIND = "no look into the process that started it"
OTHER_USER = "another user"


def in_force() -> tuple[str, ...]:
    """In words for the report; empty: nothing but a process of its own, which contains a crash and no more."""
    found = (
        (NO_NETWORK, has_no_network),
        (NO_TCP, _may_not_connect),
        (NO_NEW_PRIVILEGES, _gains_nothing),
        (FEW_FILES, _may_not_list_root),
        (BLIND, _is_blind),
        (OTHER_USER, _is_other_user),
    )
    return tuple(words for words, holds in found if holds())


def has_no_network() -> bool:
    """But a loopback that is down: one that is up may lead to a broker or a database."""
    lines = _lines("/proc/self/net/dev")[2:]  # after the header, an interface a line
    return [line.split(":")[0].strip() for line in lines] == ["lo"] and not _is_up("lo")


def _is_up(interface: str) -> bool:
    request = struct.pack("16sh14x", interface.encode(), 0)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        _, flags = struct.unpack("16sh14x", fcntl.ioctl(asking, SIOCGIFFLAGS, request))
    return bool(flags & IFF_UP)


def _may_not_connect() -> bool:
    """Forbidden, which is not the same as refused by nobody listening there; without a network not worth saying."""
    if has_no_network():
        return False
    with socket.socket() as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(("127.0.0.1", 9))
        except PermissionError:
            return True
        except OSError:
            return False
    return False


def _gains_nothing() -> bool:
    return any(line.split() == ["NoNewPrivs:", "1"] for line in _lines("/proc/self/status"))


def _may_not_list_root() -> bool:
    try:
        next(Path("/").iterdir())
    except PermissionError:
        return True
    return False


def _is_blind() -> bool:
    """To the environment of its parent, where secrets are."""
    try:
        Path(f"/proc/{os.getppid()}/environ").read_bytes()
    except PermissionError:
        return True
    except OSError:
        return False
    return False


def _is_other_user() -> bool:
    try:
        return os.stat(f"/proc/{os.getppid()}").st_uid != os.getuid()  # noqa: PTH116  shorter
    except OSError:
        return False


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []
