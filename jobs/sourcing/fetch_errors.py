"""The one failure of a fetch that time may cure. Refusals for good are `SourceError` and the library's `UnsupportedModel`."""

from jobs.errors import JobsError


class RetryableFetchError(JobsError):
    """The hub, the package index or the network did not answer as it should; a later attempt may succeed.

    Args:
        source: as the user named it.
        reason: one sentence on what was seen.
    """

    def __init__(self, source: str, reason: str) -> None:
        self.source = source
        self.reason = reason
        super().__init__(f"{source}: {reason}")
