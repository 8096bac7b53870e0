"""What watches over one runner while it works, and what it says of the runner's end."""

import signal
from contextlib import ExitStack, suppress
from types import TracebackType
from typing import Self

from jobs.failure import DISK_FULL, OUT_OF_MEMORY, Failure, out_of_memory, scratch_quota_exceeded
from jobs.settings import Settings
from worker.cgroup import MemoryCgroup, make_group
from worker.child import Child
from worker.endings import Ending, HostLacksRoom, RunnerCrashed, RunnerOutOfMemory, RunnerRefused
from worker.folder import JobFolder
from worker.host_memory import memory_limit_bytes, oom_kills
from worker.memory_watch import MemoryWatch
from worker.scratch_watch import ScratchWatch

LIKELY_SHARE = 0.5  # of the limit; the host counts everybody's ends, and one who had little was hardly meant
CURE = "It takes a host with more memory, a higher memory_limit_bytes, or fewer or shorter windows."


class Guards:
    """The limits of one runner; enter the context as soon as the runner is started. Leaving it ends the runner."""

    def __init__(self, child: Child, settings: Settings, folder: JobFolder) -> None:
        self._child = child
        self._limit_bytes, self._quota_bytes = memory_limit_bytes(settings), settings.scratch_quota_bytes
        self._memory = MemoryWatch(child.pid, self._limit_bytes)
        self._scratch = ScratchWatch(folder.root, child.pid, self._quota_bytes, child.stop)
        self._group = self._grouped(child.pid, settings, folder)
        self._oom_kills_before = oom_kills()
        self._open = ExitStack()

    def __enter__(self) -> Self:
        self._open.enter_context(self._memory)
        self._open.enter_context(self._scratch)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._child.stop()  # watched to its end
        self._open.close()
        if self._group is not None:
            self._group.remove()

    def refusal(self, failure: Failure) -> Ending:
        """What a typed error of the runner means for its job."""
        measured = failure.model_copy(update={"peak_memory_bytes": self._peak_bytes})
        if failure.type == OUT_OF_MEMORY:
            update = {"memory_limit_bytes": self._limit_bytes, "detail": f"{failure.detail}. {CURE}"}
            return RunnerOutOfMemory(measured.model_copy(update=update))
        return HostLacksRoom(measured) if failure.type == DISK_FULL else RunnerRefused(measured)

    def explain(self, crash: RunnerCrashed) -> Ending:
        """Why the runner ended, if it was one of its limits; else the crash with what was measured."""
        if self._scratch.exceeded_bytes is not None and self._quota_bytes is not None:
            return RunnerRefused(scratch_quota_exceeded(self._scratch.exceeded_bytes, self._quota_bytes))
        seen: dict[str, object] = {"peak_memory_bytes": self._peak_bytes}
        evidence = self._out_of_memory(crash.failure)
        if evidence is None:
            return RunnerCrashed(crash.failure.model_copy(update=seen))
        seen |= {"memory_limit_bytes": self._limit_bytes, "last_words": crash.failure.last_words}
        seen |= {"exit_signal": crash.failure.exit_signal, "exit_code": crash.failure.exit_code}
        detail = f"{evidence} Its peak was {self._peak_bytes} bytes of anonymous memory, its limit {self._limit_bytes}. {CURE}"
        return RunnerOutOfMemory(out_of_memory(detail).model_copy(update=seen))

    @property
    def _peak_bytes(self) -> int:
        return self._memory.peak_bytes

    def _out_of_memory(self, failure: Failure) -> str | None:
        if self._memory.has_ended_the_runner:
            return "The runner was ended at its memory limit."
        if failure.exit_signal != signal.SIGKILL.name:
            return None
        if self._group is not None and self._group.oom_kills():
            return "The kernel ended the runner at the memory limit of its control group."
        if oom_kills() > self._oom_kills_before and self._peak_bytes > LIKELY_SHARE * self._limit_bytes:
            return "The runner was killed while the kernel was ending processes for want of memory."
        return None

    def _grouped(self, pid: int, settings: Settings, folder: JobFolder) -> MemoryCgroup | None:
        """The runner in a group of its own. It has hardly begun; memory that it has already stays with the old one."""
        group = make_group(folder.root.name, self._limit_bytes, settings.memory_cgroup)
        if group is not None:
            with suppress(OSError):  # it has ended already, or the group may not be entered from here
                group.add(pid)
                return group
            group.remove()
        return None
