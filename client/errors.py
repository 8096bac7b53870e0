"""What a call of the client can fail with."""

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

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.status = problem.status
        self.type = problem.type
        super().__init__(str(problem))


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
