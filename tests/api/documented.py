"""Every answer that any test of the API gets is held against the OpenAPI document."""

import re
from typing import Any

from fastapi import FastAPI

NO_OPERATION: dict[str, Any] = {}


class Documented:
    """Args: app: whose document it is."""

    def __init__(self, app: FastAPI) -> None:
        self._paths = [(_pattern(path), operations) for path, operations in app.openapi()["paths"].items()]

    def check(self, answer: Any) -> None:
        """Fails where the operation does not say that it may answer so. Unknown paths and methods have no operation."""
        request = answer.request
        path = request.url.path
        operations = next((operations for pattern, operations in self._paths if pattern.fullmatch(path)), NO_OPERATION)
        method = "get" if request.method == "HEAD" else request.method.lower()
        if method in operations:
            documented = operations[method]["responses"]
            assert str(answer.status_code) in documented, (request.method, path, answer.status_code)
            if answer.status_code >= 400:
                assert answer.headers["content-type"] == "application/problem+json"
            if answer.status_code in (429, 503) and b"quota-exceeded" not in answer.read():  # waiting alone does not help
                assert int(answer.headers["retry-after"]) > 0
        assert answer.headers["x-request-id"]


def _pattern(path: str) -> re.Pattern[str]:
    """`/v1/jobs/{job_id}` as what its addresses match; only an artifact's name may hold slashes."""
    return re.compile(re.sub(r"\{\w+\}", "[^/]+", path.replace("{name}", ".+")))
