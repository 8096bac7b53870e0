"""The only place where an error becomes an HTTP status: application/problem+json, RFC 9457."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.exc import OperationalError
from starlette.exceptions import HTTPException

from compression.errors import (
    CalibrationError,
    CompressionError,
    InvalidOptions,
    NumericalError,
    UnsupportedModel,
    VerificationError,
)
from jobs.errors import (
    ArtifactCorrupt,
    ArtifactNotFound,
    IllegalTransition,
    InvalidCursor,
    JobNotFound,
    JobsError,
    NotExportable,
    ReportNotReady,
    SettingsError,
    SolutionsGone,
    SourceError,
    StaleAttempt,
)
from jobs.failure import KINDS, SOLUTIONS_GONE, SOURCE_ERROR
from jobs.fetch_errors import RetryableFetchError

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


class ProblemResponse(JSONResponse):
    """A problem on the wire. ASCII only, since a refused field's name may hold what UTF-8 cannot."""

    media_type = MEDIA_TYPE

    def __init__(self, problem: Problem, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(problem.model_dump(exclude_defaults=True), problem.status, headers)

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
    NumericalError: Kind(500, *KINDS[NumericalError]),
    VerificationError: Kind(500, *KINDS[VerificationError]),
    JobsError: Kind(500, "jobs-error", "The service failed"),
    JobNotFound: Kind(404, "job-not-found", "Job not found"),
    ArtifactNotFound: Kind(404, "artifact-not-found", "Artifact not found"),
    ArtifactCorrupt: Kind(500, "artifact-corrupt", "The stored artifact is damaged"),
    ReportNotReady: Kind(409, "report-not-ready", "No report yet"),
    NotExportable: Kind(409, "not-exportable", "Nothing to export"),
    SolutionsGone: Kind(410, *SOLUTIONS_GONE),
    StaleAttempt: Kind(409, "stale-attempt", "The job has moved on"),
    IllegalTransition: Kind(409, "illegal-transition", "The job's state does not allow this"),
    InvalidCursor: Kind(422, "invalid-cursor", "Invalid cursor"),
    SourceError: Kind(422, *SOURCE_ERROR),
    RetryableFetchError: Kind(503, "fetch-failed", "The model or a text could not be fetched"),
    SettingsError: Kind(500, "settings-error", "The service is misconfigured"),
    OperationalError: Kind(503, "database-unavailable", "The database does not answer"),
}


def kind_of(error: Exception) -> Kind | None:
    """The entry of the nearest class that has one."""
    return next((PROBLEMS[base] for base in type(error).__mro__ if base in PROBLEMS), None)


def install(app: FastAPI) -> None:
    """Answer every error of `app` as a problem."""
    for known in (CompressionError, JobsError, OperationalError):
        app.add_exception_handler(known, _known)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _validation)
    app.add_exception_handler(Exception, _unexpected)


_RENAMED = {413: "Content Too Large", 416: "Range Not Satisfiable"}  # RFC 9110's words; older Pythons have RFC 2616's


def of_status(status: int, detail: str | None = None) -> Problem:
    """The problem of a bare HTTP status, its slug made from the standard's phrase."""
    phrase = _RENAMED.get(status) or HTTPStatus(status).phrase
    return Problem(type=phrase.lower().replace(" ", "-"), title=phrase, status=status, detail=detail)


async def _known(_: Request, error: Exception) -> ProblemResponse:
    kind = kind_of(error)
    assert kind is not None, "registered for these classes only"
    if kind.status >= 500:  # its words may name paths and hosts of this server; the log has them
        raise error
    fields = (
        (FieldProblem(field=error.field, detail=error.reason, allowed=error.allowed),)
        if isinstance(error, InvalidOptions)
        else ()
    )
    return ProblemResponse(Problem(type=kind.slug, title=kind.title, status=kind.status, detail=str(error), errors=fields))


async def _http(_: Request, error: Exception) -> ProblemResponse:
    assert isinstance(error, HTTPException)
    problem = of_status(error.status_code)
    if error.detail != problem.title:
        problem = problem.model_copy(update={"detail": error.detail})
    return ProblemResponse(problem, error.headers)


async def _unexpected(_: Request, error: Exception) -> ProblemResponse:
    """The server logs the traceback by itself; the answer tells nothing of it."""
    kind = kind_of(error) or Kind(500, "internal-error", "The service failed")
    return ProblemResponse(Problem(type=kind.slug, title=kind.title, status=kind.status, detail="the server's log says more"))


async def _validation(_: Request, error: Exception) -> ProblemResponse:
    assert isinstance(error, RequestValidationError)
    fields = tuple(_by_field(error.errors(), error.body))
    problem = Problem(type="invalid-request", title="Invalid request", status=422, detail=None, errors=fields)
    return ProblemResponse(problem)


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
