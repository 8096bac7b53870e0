"""What a browser brings along by itself: the cookie of its session, and the proof that a page of ours sent the form.

A cookie comes with every request, whoever made the browser send it. So a request that changes something and has nothing but
the cookie must also show a token that only our own pages know: made from two cookies, of which one is the session's.
"""

import hashlib
import hmac
import secrets
from datetime import timedelta

from fastapi import HTTPException, Request, Response
from starlette.datastructures import QueryParams

from jobs.access.browser_sessions import SESSION_LIFE

CSRF_FIELD, CSRF_HEADER = "csrf", "X-CSRF-Token"


def session_token(request: Request) -> str | None:
    """The token of the browser's session; None where it has none."""
    return request.cookies.get(_cookie(request, "session"))


def csrf_token(request: Request) -> str:
    """What a form on a page for this browser must carry."""
    told = f"{_form_secret(request)}:{session_token(request) or ''}"
    return hashlib.sha256(f"scalpel-form:{told}".encode()).hexdigest()


def check_csrf(request: Request) -> None:
    """Raises: HTTPException: 403, the form or the header does not carry the token."""
    given = request.headers.get(CSRF_HEADER) or form_of(request).get(CSRF_FIELD, "")
    has_secret = session_token(request) or request.cookies.get(_cookie(request, "form"))
    if not has_secret or not hmac.compare_digest(given.encode(), csrf_token(request).encode()):
        raise HTTPException(403, "this form is out of date: load the page again, and send it from there")


def form_of(request: Request) -> QueryParams:
    """The fields of a form, read by the page that it was sent to; else none."""
    form: QueryParams = getattr(request.state, "form", QueryParams())
    return form


def prepare(request: Request) -> None:
    """Before a page is made: have the secret that its forms need."""
    given = request.cookies.get(_cookie(request, "form"), "")
    request.state.form_secret = given if len(given) >= 32 else secrets.token_urlsafe(32)
    request.state.is_new_visitor = given != request.state.form_secret


def remember_visitor(request: Request, response: Response) -> None:
    """Give a browser that has no form secret yet the one that its page was made with."""
    if request.state.is_new_visitor:
        _set(request, response, "form", request.state.form_secret, SESSION_LIFE)


def sign_in(request: Request, response: Response, token: str) -> None:
    _set(request, response, "session", token, SESSION_LIFE)


def sign_out(request: Request, response: Response) -> None:
    _set(request, response, "session", "", timedelta())


def _form_secret(request: Request) -> str:
    return getattr(request.state, "form_secret", None) or request.cookies.get(_cookie(request, "form"), "")


def _set(request: Request, response: Response, name: str, value: str, life: timedelta) -> None:
    response.set_cookie(
        _cookie(request, name),
        value,
        max_age=int(life.total_seconds()),
        path="/",
        secure=request.url.scheme == "https",
        httponly=True,
        samesite="lax",  # strict would show whoever follows a link to a job the sign-in page
    )


def _cookie(request: Request, name: str) -> str:
    """Its port is part of the name, since browsers send the cookies of a host to all of its ports."""
    if request.url.scheme == "https":
        return f"__Host-scalpel-{name}"  # which no other host of the domain can set
    return f"scalpel-{name}-{request.url.port or 80}"
