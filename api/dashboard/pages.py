"""What every page has in common: its headers, its forms' token, and refusals as pages instead of problem documents."""

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar
from urllib.parse import quote

from fastapi import APIRouter, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError
from starlette.datastructures import QueryParams

from api import browser
from api.dashboard.templates import make
from api.problems import failure_of, refusal_of
from jobs.errors import Unauthenticated

POLICY = "; ".join((
    "default-src 'none'", "script-src 'self'", "style-src 'self'", "img-src 'self' data:", "connect-src 'self'",
    "form-action 'self'", "frame-ancestors 'none'", "base-uri 'none'",
))  # fmt: skip
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
THEMES = ("light", "dark")

log = logging.getLogger(__name__)

Handler = Callable[[Request], Awaitable[Response]]
Asked = TypeVar("Asked", bound=BaseModel)


class PageRoute(APIRoute):
    """A route whose answer is a page, also where it refuses."""

    def get_route_handler(self) -> Handler:  # type: ignore[override]  # FastAPI's says coroutine
        handle = super().get_route_handler()

        async def handle_page(request: Request) -> Response:
            browser.prepare(request)
            try:
                if request.method == "POST":
                    request.state.form = QueryParams((await request.body()).decode(errors="replace"))
                    browser.check_csrf(request)
                response = await handle(request)
            except Unauthenticated:
                response = _to_sign_in(request)
            except Exception as error:
                response = await _refused(request, error)
            response.headers.update({name: HEADERS[name] for name in HEADERS if name.lower() not in response.headers})
            browser.remember_visitor(request, response)
            return response

        return handle_page


def page_router() -> APIRouter:
    return APIRouter(route_class=PageRoute, include_in_schema=False, default_response_class=HTMLResponse)


def show(request: Request, template: str, status: int = 200, **context: Any) -> HTMLResponse:
    """A page, or a part of one."""
    return HTMLResponse(render(request, template, **context), status)


def render(request: Request, template: str, **context: Any) -> str:
    theme = request.cookies.get("scalpel-theme", "")
    return make(
        template,
        csrf=browser.csrf_token(request),
        theme=theme if theme in THEMES else "",
        path=request.url.path,
        is_signed_in=browser.session_token(request) is not None,
        **context,
    )


def go_to(request: Request, path: str) -> Response:
    """To another page, after a form was sent. Args: path: of this server, made by us."""
    if is_part(request):
        return Response(headers={"HX-Redirect": path})
    return RedirectResponse(path, 303)


def is_part(request: Request) -> bool:
    """Whether a script asks, which puts the answer into a page that is there."""
    return request.headers.get("HX-Request") == "true"


def _to_sign_in(request: Request) -> Response:
    """And from there back, to a page that was only looked at. A stream is no page: its script is told that it is over."""
    if request.url.path.endswith("/events"):
        return Response(status_code=401)
    back = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    wanted = f"?next={quote(back)}" if request.method == "GET" and not is_part(request) and back != "/" else ""
    return go_to(request, f"/sign-in{wanted}")


async def _refused(request: Request, error: Exception) -> Response:
    try:
        answer = await refusal_of(request, error)
    except Exception as failure:
        log.exception("a page cannot be shown")
        answer = await failure_of(request, failure)
    template = "parts/problem.html" if is_part(request) else "problem.html"
    response = show(request, template, answer.problem.status, problem=answer.problem)
    if retry := answer.headers.get("Retry-After"):
        response.headers["Retry-After"] = retry
    return response


def checked(kind: type[Asked], asked: Mapping[str, Any]) -> Asked:
    """A request as a form asks for it. Raises: RequestValidationError, as for any request over HTTP."""
    try:
        return kind.model_validate(asked)
    except ValidationError as error:
        found = [{**entry, "loc": ("body", *entry["loc"]), "input": None} for entry in error.errors()]
        raise RequestValidationError(found, body=asked) from None  # what was typed may be a secret
