"""How an attempt can end without a result, each with the failure that its job gets for it."""

from jobs.failure import Failure, exhausted


class Ending(Exception):
    """Args: failure: the end of the job; where another attempt may do better, only if none is left."""

    def __init__(self, failure: Failure) -> None:
        self.failure = failure
        super().__init__(failure.detail)


class RunnerRefused(Ending):
    """The runner, or what watches over it, met what another attempt would meet again."""


class RunnerOutOfMemory(RunnerRefused):
    """The runner had less memory than its plan needs; a plan that needs less may do."""


class HostLacksRoom(Ending):
    """The host had not the disk space or the memory at that moment; another one, or a later time, may."""


class RunnerCrashed(Ending):
    """The runner ended without a result, or spoke what is not the protocol."""

    def __init__(self, failure: Failure | str) -> None:
        super().__init__(exhausted(failure) if isinstance(failure, str) else failure)
