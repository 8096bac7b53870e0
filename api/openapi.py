"""What OpenAPI cannot be told through the routes."""

from typing import Any

from api.problems import MEDIA_TYPE, Problem

DESCRIPTION = (
    "Names a model and a target, gets back a compressed checkpoint that loads and a report that is true. "
    "Every refusal is a problem document (RFC 9457)."
)
PROBLEM_ANSWERS: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": Problem, "description": "The request was refused; the problem says why."},
    "5XX": {"model": Problem, "description": "The service failed."},
}


def with_problem_media_type(document: dict[str, Any]) -> dict[str, Any]:
    """FastAPI documents a refusal under the media type of the success; put it under its own."""
    for path in document["paths"].values():
        for operation in path.values():
            for status in PROBLEM_ANSWERS:
                content = operation["responses"].get(status, {}).get("content", {})
                for media_type in content.keys() - {MEDIA_TYPE}:
                    content[MEDIA_TYPE] = content.pop(media_type)
    return document
