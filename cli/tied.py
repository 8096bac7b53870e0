"""Children that do not outlive us: where `scalpel serve` is killed in a way that no handler sees, the kernel ends them.

Linux signals a child when the thread that started it is gone, if the child asked for it. So that nothing of ours runs between
fork and exec, a tiny program asks and then becomes the command. On other systems the command runs as it is.
"""

import os
import sys
from collections.abc import Sequence

PR_SET_PDEATHSIG = 1
LAUNCHER = f"""
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl({PR_SET_PDEATHSIG}, signal.SIGTERM)
if os.getppid() != int(sys.argv[1]):
    sys.exit("the parent was gone before it could be watched")
os.execv(sys.argv[2], sys.argv[2:])
"""


def tied(command: Sequence[str]) -> list[str]:
    """The command, to be started by this process. Args: command: with the full path of its program."""
    if sys.platform != "linux":
        return list(command)
    return [sys.executable, "-I", "-S", "-c", LAUNCHER, str(os.getpid()), *command]
