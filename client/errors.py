"""What a call of the client can fail with.

A refusal is an `ApiError`: of the class that its problem's type names (client/problems.py), else of the one of its status.
"""

from typing import ClassVar

from client.models import Problem


class ClientError(Exception):
    """Base of all errors of the client."""


class ServiceUnreachable(ClientError):
    """Nothing answers at the address, or the connection broke and could not be had again."""

    def __init__(self, url: str, reason: str) -> None:
        self.url = url
        self.reason = reason
        super().__init__(
            f"no Scalpel service answers at {url} ({reason}); start one with `scalpel serve`, or name its address"
        )


class ApiError(ClientError):
    """The service refused the request; `problem` is its answer (RFC 9457)."""

    named: ClassVar[dict[str, "type[ApiError]"]] = {}  # by the problem's type
    of_status: ClassVar[dict[int, "type[ApiError]"]] = {}

    def __init_subclass__(cls, *, type: str | None = None, status: int | None = None) -> None:
        """Args: type, status: of the problems that are told as this class."""
        super().__init_subclass__()
        if type is not None:
            ApiError.named[type] = cls
        if status is not None:
            ApiError.of_status[status] = cls

    def __init__(self, problem: Problem, retry_after_s: float | None = None) -> None:
        self.problem = problem
        self.status = problem.status
        self.type = problem.type
        self.retry_after_s = retry_after_s
        super().__init__(str(problem))


def api_error(problem: Problem, retry_after_s: float | None = None) -> ApiError:
    """The error of the class that fits best."""
    import client.problems  # noqa: F401  which defines the classes, and needs the one above

    generic = ServerError if problem.status >= 500 else ApiError
    kind = ApiError.named.get(problem.type) or ApiError.of_status.get(problem.status, generic)
    return kind(problem, retry_after_s)


class ServerError(ApiError):
    """The service failed at a request that may be right: 5xx. Its log says more; `problem.request_id` finds the line."""


class WaitTimeout(ClientError, TimeoutError):
    """A job has not ended in the time that the caller gave it. It goes on."""

    def __init__(self, job_id: str, timeout_s: float) -> None:
        self.job_id = job_id
        super().__init__(f"job {job_id} has not ended within {timeout_s:g} s; it goes on")


class ChecksumMismatch(ClientError):
    """A downloaded file is not what the service said it would be; nothing was left at its place."""

    def __init__(self, name: str, expected: str, actual: str) -> None:
        self.name = name
        super().__init__(f"{name} arrived damaged: SHA-256 {actual} instead of {expected}; download it again")


class UnsafeName(ClientError):
    """The service names an artifact that would be written outside the folder asked for."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"the service names a file {name!r}, which leads out of the folder; nothing was written")


class ModelRefused(ClientError):
    """Every byte of an uploaded model arrived, and the service does not take it."""

    def __init__(self, name: str, problem: str | None) -> None:
        self.name = name
        self.problem = problem
        super().__init__(f"{name} is refused: {problem}")
