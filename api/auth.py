"""Who a request comes from: the key in its `Authorization` header or its browser's session, and whether it may do this."""

from collections.abc import Callable
from dataclasses import replace
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from sqlalchemy.orm import Session

from api import browser
from api.answer_headers import answer_headers
from api.context import InContext
from api.guard import SAFE_METHODS
from api.rate_limiter import Kind
from jobs.access import audit
from jobs.access.browser_sessions import session_caller
from jobs.access.hub_access import hub_settings
from jobs.access.keys import LOCAL_CALLER, Caller, Scope, authenticate
from jobs.errors import Forbidden, Unauthenticated
from jobs.settings import Settings

_bearer = HTTPBearer(auto_error=False, description="An API key: `Authorization: Bearer scalpel_...`.")
Credentials = Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]


def caller_of(request: Request, context: InContext, credentials: Credentials) -> Caller:
    """Raises: Unauthenticated, RateLimited."""
    caller = _authenticated(request, context, credentials)
    kind: Kind = "reads" if request.method in SAFE_METHODS else "writes"
    allowance = context.limiter.spend(kind, caller.key_id or address_of(request))
    answer_headers(request.scope).update(allowance.headers)
    allowance.check()
    return replace(caller, address=address_of(request))


def _authenticated(request: Request, context: InContext, credentials: HTTPAuthorizationCredentials | None) -> Caller:
    if context.settings.authentication == "off":
        return LOCAL_CALLER
    try:
        token = browser.session_token(request)
        with context.sessions.begin() as session:
            if credentials is not None:
                return authenticate(session, credentials.credentials)
            if token is not None:
                return _in_browser(session, request, token)
        raise Unauthenticated("send a key: `Authorization: Bearer scalpel_...`")
    except Unauthenticated:
        # A good key is let in whatever its address did before: behind a proxy, everybody shares one.
        context.limiter.spend("requests without a good key", address_of(request)).check()
        raise


def _in_browser(session: Session, request: Request, token: str) -> Caller:
    """The caller of a request that has no key but the cookie of a session, which proves less."""
    caller = session_caller(session, token)
    if request.method not in SAFE_METHODS:
        browser.check_csrf(request)
    return caller


def address_of(request: Request) -> str:
    return request.client.host if request.client else "nowhere"


AnyKey = Annotated[Caller, Depends(caller_of)]


def _as_tenant(caller: AnyKey, context: InContext) -> Settings:
    with context.sessions() as session:
        return hub_settings(session, context.settings, caller.tenant_id)


AsTenant = Annotated[Settings, Depends(_as_tenant)]
"""The settings with which the caller's models are looked up on the hub: its token, and its folder of the cache."""


def _with_scope(scope: Scope) -> Callable[[Caller, InContext, Request], Caller]:
    def check(caller: AnyKey, context: InContext, request: Request) -> Caller:
        if scope not in caller.scopes:
            if request.method not in SAFE_METHODS:
                with context.sessions.begin() as session:
                    audit.record(session, caller, f"{request.method} {_route(request)}", outcome="forbidden")
            raise Forbidden(scope)
        return caller

    return check


def _route(request: Request) -> str:
    """As the OpenAPI document writes it."""
    return str(request.scope["route"].path)


reader = _with_scope("read")
admin = _with_scope("admin")
Reader = Annotated[Caller, Depends(reader)]
Writer = Annotated[Caller, Depends(_with_scope("write"))]
Admin = Annotated[Caller, Depends(admin)]
