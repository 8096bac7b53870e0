"""The only place where an error becomes an HTTP status: application/problem+json, RFC 9457."""

import json
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.exc import DataError, OperationalError
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from api.answer_headers import REQUEST_ID, answer_headers
from compression.errors import (
    CalibrationError,
    CompressionError,
    DiskFull,
    InvalidOptions,
    InvalidTemplate,
    NumericalError,
    OutOfMemory,
    UnsupportedModel,
    VerificationError,
)
from jobs.errors import (
    ArtifactCorrupt,
    ArtifactGone,
    ArtifactNotFound,
    ArtifactsExpired,
    ArtifactsNotReady,
    CannotFit,
    DatabaseNotFound,
    DeliveryNotFound,
    Forbidden,
    IdempotencyKeyInFlight,
    IdempotencyKeyReused,
    IllegalTransition,
    InvalidCursor,
    JobNotFound,
    JobsError,
    KeyNotFound,
    NotExportable,
    NotPublishable,
    PreconditionFailed,
    QuotaExceeded,
    RateLimited,
    Referenced,
    ReportNotReady,
    SchemaMismatch,
    SecretNotFound,
    SecretsNotConfigured,
    SecretUnreadable,
    SettingsError,
    SolutionsGone,
    SourceError,
    StaleAttempt,
    StoreUnavailable,
    SweepNotFound,
    TenantExists,
    TenantNotFound,
    Unauthenticated,
    UrlRefused,
    WebhookDisabled,
    WebhookNotFound,
)
from jobs.failure import KINDS, SOLUTIONS_GONE, SOURCE_ERROR
from jobs.sourcing.fetch_errors import RetryableFetchError
from jobs.uploads.errors import (
    DatasetNotFound,
    FileNotInManifest,
    InUse,
    InvalidDataset,
    ModelNotFound,
    PartTooLong,
    UploadClosed,
    UploadOffsetMismatch,
)

RETRY_AFTER_S = 5  # while something is down
MEDIA_TYPE = "application/problem+json"


class FieldProblem(BaseModel):
    """What is wrong with one field."""

    field: str = Field(description="Dotted path in the request.", examples=["recipe.sparsity"])
    detail: str = Field(examples=["1.5 is not below 1"])
    allowed: str | None = Field(None, examples=["0 <= sparsity < 1"])


class Problem(BaseModel):
    """Every refusal looks like this."""

    model_config = ConfigDict(frozen=True)

    type: str = Field(description="A word for programs.", examples=["invalid-request"])
    title: str = Field(examples=["Invalid request"])
    status: int = Field(examples=[422])
    detail: str | None = None
    errors: tuple[FieldProblem, ...] = ()
    request_id: str | None = Field(None, description="Of this request; the server's log has it too.")


class ProblemResponse(JSONResponse):
    """A problem on the wire. ASCII only, since a refused field's name may hold what UTF-8 cannot."""

    media_type = MEDIA_TYPE

    def __init__(self, problem: Problem, headers: Mapping[str, str] | None = None) -> None:
        self.problem = problem
        super().__init__(problem.model_dump(exclude_defaults=True), problem.status, headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Only here is the request known; a failure is answered outside of every middleware, so the headers are added, too."""
        headers = answer_headers(scope)
        problem = self.problem.model_copy(update={"request_id": headers.get(REQUEST_ID)})
        self.body = self.render(problem.model_dump(exclude_defaults=True))
        self.headers.update({**headers, "Content-Length": str(len(self.body))})
        await super().__call__(scope, receive, send)

    def render(self, content: Any) -> bytes:
        return json.dumps(content, ensure_ascii=True, allow_nan=False).encode("ascii")


@dataclass(frozen=True)
class Kind:
    """How one type of error is answered."""

    status: int
    slug: str
    title: str


PROBLEMS: dict[type[Exception], Kind] = {
    CompressionError: Kind(500, *KINDS[CompressionError]),
    InvalidOptions: Kind(422, *KINDS[InvalidOptions]),
    UnsupportedModel: Kind(422, *KINDS[UnsupportedModel]),
    CalibrationError: Kind(422, *KINDS[CalibrationError]),
    InvalidTemplate: Kind(422, *KINDS[InvalidTemplate]),
    NumericalError: Kind(500, *KINDS[NumericalError]),
    VerificationError: Kind(500, *KINDS[VerificationError]),
    OutOfMemory: Kind(500, *KINDS[OutOfMemory]),
    DiskFull: Kind(507, *KINDS[DiskFull]),
    JobsError: Kind(500, "jobs-error", "The service failed"),
    Unauthenticated: Kind(401, "unauthenticated", "A key is needed"),
    Forbidden: Kind(403, "forbidden", "The key does not allow this"),
    QuotaExceeded: Kind(429, "quota-exceeded", "The tenant's limit is reached"),
    DatabaseNotFound: Kind(404, "database-not-found", "Database not found"),
    SweepNotFound: Kind(404, "sweep-not-found", "Sweep not found"),
    TenantNotFound: Kind(404, "tenant-not-found", "Tenant not found"),
    TenantExists: Kind(409, "tenant-exists", "The tenant exists"),
    KeyNotFound: Kind(404, "key-not-found", "Key not found"),
    SecretNotFound: Kind(404, "secret-not-found", "Secret not found"),
    SecretsNotConfigured: Kind(409, "secrets-not-configured", "The server cannot keep secrets"),
    SecretUnreadable: Kind(500, "secret-unreadable", "A secret cannot be read"),
    JobNotFound: Kind(404, "job-not-found", "Job not found"),
    ArtifactNotFound: Kind(404, "artifact-not-found", "Artifact not found"),
    ArtifactsNotReady: Kind(409, "artifacts-not-ready", "No files yet"),
    ArtifactGone: Kind(410, "artifact-gone", "The files were deleted"),
    Referenced: Kind(409, "referenced", "Something else needs this"),
    IdempotencyKeyReused: Kind(422, "idempotency-key-reused", "The key was used for another request"),
    IdempotencyKeyInFlight: Kind(409, "idempotency-key-in-flight", "A request with this key is at work"),
    RateLimited: Kind(429, "rate-limited", "Too many requests"),
    ArtifactCorrupt: Kind(500, "artifact-corrupt", "The stored artifact is damaged"),
    CannotFit: Kind(422, "cannot-fit", "The job does not fit this server"),
    ReportNotReady: Kind(409, "report-not-ready", "No report yet"),
    NotPublishable: Kind(409, "not-publishable", "Nothing to publish"),
    NotExportable: Kind(409, "not-exportable", "Nothing to export"),
    ArtifactsExpired: Kind(410, "artifacts-expired", "The files are not kept any more"),
    SolutionsGone: Kind(410, *SOLUTIONS_GONE),
    StaleAttempt: Kind(409, "stale-attempt", "The job has moved on"),
    IllegalTransition: Kind(409, "illegal-transition", "The job's state does not allow this"),
    PreconditionFailed: Kind(412, "precondition-failed", "The job has changed"),
    UrlRefused: Kind(422, "url-refused", "The address is refused"),
    WebhookNotFound: Kind(404, "webhook-not-found", "Webhook not found"),
    DeliveryNotFound: Kind(404, "delivery-not-found", "Delivery not found"),
    WebhookDisabled: Kind(409, "webhook-disabled", "The webhook is disabled"),
    InvalidCursor: Kind(422, "invalid-cursor", "Invalid cursor"),
    SourceError: Kind(422, *SOURCE_ERROR),
    RetryableFetchError: Kind(503, "fetch-failed", "The model or a text could not be fetched"),
    SchemaMismatch: Kind(503, "schema-mismatch", "The database is of another version"),
    InvalidDataset: Kind(422, "invalid-dataset", "Not a data set"),
    DatasetNotFound: Kind(404, "dataset-not-found", "Data set not found"),
    ModelNotFound: Kind(404, "model-not-found", "Model not found"),
    FileNotInManifest: Kind(404, "file-not-in-manifest", "The manifest names no such file"),
    InUse: Kind(409, "in-use", "Jobs need it"),
    UploadOffsetMismatch: Kind(409, "upload-offset", "The file goes on elsewhere"),
    UploadClosed: Kind(409, "upload-closed", "The upload has ended"),
    PartTooLong: Kind(422, "part-too-long", "No part of this file"),
    SettingsError: Kind(500, "settings-error", "The service is misconfigured"),
    StoreUnavailable: Kind(503, "store-unavailable", "The artifact store does not answer"),
    OperationalError: Kind(503, "database-unavailable", "The database does not answer"),
    DataError: Kind(422, "unstorable-value", "A value cannot be stored"),
}


RETRY_AFTER_S = 5
LOG_SAYS_MORE = "the server's log says more"

log = logging.getLogger(__name__)


def kind_of(error: Exception) -> Kind | None:
    """The entry of the nearest class that has one."""
    return next((PROBLEMS[base] for base in type(error).__mro__ if base in PROBLEMS), None)


def install(app: FastAPI) -> None:
    """Answer every error of `app` as a problem."""
    for known, handler in HANDLERS.items():
        app.add_exception_handler(known, handler)
    app.add_exception_handler(Exception, failure_of)


async def refusal_of(request: Request, error: Exception) -> ProblemResponse:
    """How an error is answered that is a refusal; any other is raised again."""
    for known, handler in HANDLERS.items():
        if isinstance(error, known):
            return await handler(request, error)
    raise error


_RENAMED = {413: "Content Too Large", 416: "Range Not Satisfiable"}  # RFC 9110's words; older Pythons have RFC 2616's


def of_status(status: int, detail: str | None = None) -> Problem:
    """The problem of a bare HTTP status, its slug made from the standard's phrase."""
    phrase = _RENAMED.get(status) or HTTPStatus(status).phrase
    return Problem(type=phrase.lower().replace(" ", "-"), title=phrase, status=status, detail=detail)


async def _known(_: Request, error: Exception) -> ProblemResponse:
    kind = kind_of(error)
    assert kind is not None, "registered for these classes only"
    if kind.status == 503:  # foreseen: one line in the log, and the connection stays open
        log.warning("%s: %s", kind.title, str(error).partition("\n")[0])
        problem = Problem(type=kind.slug, title=kind.title, status=503, detail=LOG_SAYS_MORE)
        return ProblemResponse(problem, {"Retry-After": str(RETRY_AFTER_S)})
    if kind.status >= 500:  # its words may name paths and hosts of this server; the log has them
        raise error
    fields = (
        (FieldProblem(field=error.field, detail=error.reason, allowed=error.allowed),)
        if isinstance(error, InvalidOptions | CannotFit)
        else ()
    )
    problem = Problem(type=kind.slug, title=kind.title, status=kind.status, detail=str(error), errors=fields)
    return ProblemResponse(problem, _headers(error, kind.status))


def _headers(error: Exception, status: int) -> dict[str, str]:
    """What a client must know to try again."""
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else {}
    if status == 503:
        headers["Retry-After"] = str(RETRY_AFTER_S)
    if isinstance(error, RateLimited | IdempotencyKeyInFlight):
        headers["Retry-After"] = str(error.retry_after_s)
    return headers


async def _unstorable(_: Request, __: Exception) -> ProblemResponse:
    """PostgreSQL holds no NUL in a text, wherever it came in. The error's own words quote the query."""
    kind = PROBLEMS[DataError]
    detail = "a text holds a character that the database cannot, or a number is out of its range"
    return ProblemResponse(Problem(type=kind.slug, title=kind.title, status=kind.status, detail=detail))


async def _http(_: Request, error: Exception) -> ProblemResponse:
    assert isinstance(error, HTTPException)
    problem = of_status(error.status_code)
    if error.detail != problem.title:
        problem = problem.model_copy(update={"detail": error.detail})
    return ProblemResponse(problem, error.headers)


async def failure_of(_: Request, error: Exception) -> ProblemResponse:
    """The server logs the traceback by itself; the answer tells nothing of it."""
    kind = kind_of(error) or Kind(500, "internal-error", "The service failed")
    problem = Problem(type=kind.slug, title=kind.title, status=kind.status, detail=LOG_SAYS_MORE)
    return ProblemResponse(problem, _headers(error, kind.status))


async def _validation(_: Request, error: Exception) -> ProblemResponse:
    assert isinstance(error, RequestValidationError)
    fields = tuple(_by_field(error.errors(), error.body))
    problem = Problem(type="invalid-request", title="Invalid request", status=422, detail=None, errors=fields)
    return ProblemResponse(problem)


HANDLERS: dict[type[Exception], Callable[[Request, Exception], Awaitable[ProblemResponse]]] = {
    CompressionError: _known,
    JobsError: _known,
    OperationalError: _known,
    DataError: _unstorable,
    HTTPException: _http,
    RequestValidationError: _validation,
}


def _by_field(errors: Iterable[Mapping[str, Any]], body: Any) -> Iterable[FieldProblem]:
    """One entry a field: a field that may take several types fails once for each of them."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for error in errors:
        found.setdefault(_path(error, body), []).append(error)
    for field, problems in found.items():
        allowed = [words for problem in problems if (words := _allowed(problem))]
        yield FieldProblem(
            field=field,
            detail="; or ".join(dict.fromkeys(str(problem["msg"]) for problem in problems)),
            allowed=" or ".join(dict.fromkeys(allowed)) or None,
        )


def _path(error: Mapping[str, Any], body: Any) -> str:
    """`("body", "recipe", "sparsity")` -> `recipe.sparsity`.

    pydantic appends the branch of a union to the location; walking along the body drops it, as no field lies there.
    """
    where, *parts = error["loc"]
    if where != "body" or error["type"] == "json_invalid":
        return str(parts[0] if where != "body" and parts else where)
    names: list[str] = []
    for part in parts:
        if isinstance(body, dict):
            body = body.get(part)
        elif isinstance(body, list) and isinstance(part, int) and part < len(body):
            body = body[part]
        else:
            break
        names.append(str(part))
    return ".".join(names) or "body"


_BOUNDS = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<", "min_length": "length >=", "max_length": "length <="}


def _allowed(error: Mapping[str, Any]) -> str | None:
    context = error.get("ctx", {})
    for name, sign in _BOUNDS.items():
        if name in context:
            return f"{sign} {context[name]}"
    allowed = context.get("expected") or context.get("pattern")
    return str(allowed) if allowed is not None else None
