"""How a full disk shows, in Python's own errors and in the words of libraries that write for themselves. Torch-free."""

import errno
from collections.abc import Iterator

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})  # no space, no quota left, a file beyond what the system allows
_WORDS = tuple(f"(os error {number})" for number in FULL)  # as safetensors and obstore give the system's error


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error and those that it came from, the newest first."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def is_disk_full(error: BaseException) -> bool:
    """Whether this error, or one that it came from, says that nothing more can be written."""
    return any(
        cause.errno in FULL if isinstance(cause, OSError) and cause.errno else any(words in str(cause) for words in _WORDS)
        for cause in causes(error)
    )
