"""Any error that a command may meet -> one line for the user and an exit code."""

from cli.exits import CommandError, Exit
from compression.errors import CalibrationError, CompressionError, InvalidOptions, UnsupportedModel

REFUSALS = (InvalidOptions, UnsupportedModel, CalibrationError)


def exit_code(error: Exception) -> Exit | None:
    """None for an error that only a bug explains: its traceback is what helps then."""
    if isinstance(error, CommandError):
        return error.code
    if isinstance(error, CompressionError):
        return Exit.REFUSED if isinstance(error, REFUSALS) else Exit.FAILED
    if isinstance(error, ModuleNotFoundError | OSError):
        return Exit.FAILED
    return _client_code(error) or _jobs_code(error)


def line(error: Exception) -> str:
    """The cause, and the cure where one is known, without line breaks."""
    if isinstance(error, ModuleNotFoundError):
        return f"this command needs the package {error.name}, which is not installed: pip install 'scalpel[demo]' brings all"
    return " ".join(str(error).split()) or type(error).__name__


def _client_code(error: Exception) -> Exit | None:
    from client.errors import ApiError, ClientError, ServiceUnreachable

    match error:
        case ServiceUnreachable():
            return Exit.UNREACHABLE
        case ApiError(status=404):
            return Exit.NOT_FOUND
        case ApiError(status=status):
            return Exit.REFUSED if status < 500 else Exit.FAILED
        case ClientError():
            return Exit.FAILED
    return None


def _jobs_code(error: Exception) -> Exit | None:
    try:
        from jobs.errors import (
            JobsError,
            KeyNotFound,
            SecretsNotConfigured,
            SettingsError,
            SourceError,
            TenantExists,
            TenantNotFound,
        )
    except ModuleNotFoundError:  # only the client is installed here, and the error is none of theirs
        return None
    if isinstance(error, TenantNotFound | KeyNotFound):
        return Exit.NOT_FOUND
    if isinstance(error, SourceError | SettingsError | SecretsNotConfigured | TenantExists):
        return Exit.REFUSED
    return Exit.FAILED if isinstance(error, JobsError) else None
