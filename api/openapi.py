"""What OpenAPI cannot be told through the routes: which refusals an operation may answer, and under which media type.

Most follow from what the operation is (it has a body, it needs a key, ...); a route names only its own, with `refusals`.
"""

from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

from api.answer_headers import REQUEST_ID
from api.problems import MEDIA_TYPE, Problem

DESCRIPTION = (
    "Names a model and a target, gets back a compressed checkpoint that loads and a report that is true. "
    "Every refusal is a problem document (RFC 9457)."
)
REASONS = {
    400: "The host name is not this service's, or the request cannot be read.",
    401: "No key, or one that opens nothing.",
    403: "The key lacks the scope, or the request comes from a page of another site.",
    404: "There is no such thing, or it is somebody else's.",
    408: "The body did not come in time.",
    409: "The state of what is asked for does not allow this; or a request with this Idempotency-Key is at work.",
    410: "It was there, and is not kept any more.",
    412: "The resource is no longer the version of `If-Match`.",
    413: "The body is too large.",
    415: "The body is not of a type that is taken here.",
    416: "The range lies beyond the end of the file.",
    422: "A field, a parameter or a header does not hold; `errors` names it.",
    429: "Too many requests; `Retry-After` says when to go on.",
    500: "The service failed.",
    503: "A part that the service needs is down; `Retry-After` says when to try again.",
}
PROBLEM_SCHEMA = {"$ref": "#/components/schemas/Problem"}


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """For a route's `responses`: what it may refuse beyond what every route of its kind does."""
    return {status: {"model": Problem, "description": REASONS[status]} for status in statuses}


def document_refusals(document: dict[str, Any]) -> dict[str, Any]:
    """Give every operation all refusals that it may answer, each as a problem."""
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            answers = operation["responses"]
            for status in _implied(path, method, operation):
                answers[str(status)] = {"description": REASONS[status]}
            for status, answer in answers.items():
                if int(status) >= HTTPStatus.BAD_REQUEST:
                    answer["content"] = {MEDIA_TYPE: {"schema": PROBLEM_SCHEMA}}
                answer.setdefault("headers", {})[REQUEST_ID] = {"schema": {"type": "string"}}
    schemas = document["components"]["schemas"]
    for unused in ("HTTPValidationError", "ValidationError"):  # FastAPI's own, which this service does not answer
        schemas.pop(unused, None)
    return document


def _implied(path: str, method: str, operation: dict[str, Any]) -> Iterator[int]:
    yield from (400, 500, 503)
    if "security" in operation:
        yield from (401, 403, 429)
    if "{" in path:
        yield 404
    if method != "get":
        yield from (403, 413, 415)
    if operation.get("parameters") or "requestBody" in operation:
        yield 422
    if any(parameter["name"] == "Idempotency-Key" for parameter in operation.get("parameters", ())):
        yield 409
