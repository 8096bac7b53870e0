"""Signing in with a key, or by the link that `scalpel serve` prints; and out."""

from dataclasses import replace

from fastapi import Request, Response
from sqlalchemy.orm import Session

from api import browser
from api.auth import address_of
from api.context import Context, InContext
from api.dashboard.pages import go_to, page_router, show
from jobs.access import audit, browser_sessions
from jobs.access.keys import Caller
from jobs.errors import Unauthenticated

router = page_router()


@router.get("/sign-in")
def ask(request: Request, next: str = "/") -> Response:
    return show(request, "sign_in.html", refusal=None, next=next)


@router.post("/sign-in")
def enter(request: Request, context: InContext) -> Response:
    form = browser.form_of(request)
    try:
        with context.sessions.begin() as session:
            caller, token = browser_sessions.open_session(session, form.get("key", "").strip())
            _record(session, request, caller, "session.open")
    except Unauthenticated as error:
        return _refused(request, context, error, form.get("next", "/"))
    response = go_to(request, own_path(form.get("next", "/")))
    browser.sign_in(request, response, token)
    return response


@router.get("/sign-in/once")
def ask_once(request: Request) -> Response:
    """The token stands behind the address's `#`, where it comes into no log; the page's script sends it from there."""
    return show(request, "sign_in_once.html")


@router.post("/sign-in/once")
def enter_once(request: Request, context: InContext) -> Response:
    try:
        with context.sessions.begin() as session:
            caller, opened = browser_sessions.use_link(session, browser.form_of(request).get("token", ""))
            _record(session, request, caller, "session.open")
    except Unauthenticated as error:
        return _refused(request, context, error, "/")
    response = go_to(request, "/")
    browser.sign_in(request, response, opened)
    return response


@router.post("/sign-out")
def leave(request: Request, context: InContext) -> Response:
    token = browser.session_token(request)
    if token is not None:
        with context.sessions.begin() as session:
            if (caller := browser_sessions.close_session(session, token)) is not None:
                _record(session, request, caller, "session.close")
    response = go_to(request, "/sign-in")
    browser.sign_out(request, response)
    return response


def _record(session: Session, request: Request, caller: Caller, action: str) -> None:
    audit.record(session, replace(caller, address=address_of(request)), action, caller.key_id)


def own_path(path: str) -> str:
    """The path where it leads to a page of ours; else the first page. `//host` and `/\\host` lead elsewhere."""
    is_ours = path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable()
    return path if is_ours else "/"


def _refused(request: Request, context: Context, error: Unauthenticated, next_path: str) -> Response:
    """As the API counts bad keys. Raises: RateLimited."""
    context.limiter.spend("requests without a good key", address_of(request)).check()
    return show(request, "sign_in.html", 401, refusal=str(error), next=next_path)
