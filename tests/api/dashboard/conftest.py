"""A browser without its window: cookies, forms, and the token that a form carries."""

import re
from collections.abc import Iterator

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from httpx2 import Response

from api.app import create_app
from jobs.settings import Settings
from tests.api.conftest import api_key, app, sessions, settings, submit, web, worker  # noqa: F401  fixtures

URL = "http://127.0.0.1:8321"


class Visitor:
    """Args: answer of the last request."""

    def __init__(self, client: TestClient) -> None:
        self.client = client

    def get(self, path: str, **more: object) -> Response:
        return self.client.get(path, follow_redirects=False, **more)  # type: ignore[arg-type]

    def token(self) -> str:
        """What the forms of a page carry."""
        found = re.search(r'name="csrf" value="(\w+)"', self.client.get("/").text)
        assert found is not None
        return found[1]

    def post(self, path: str, **fields: object) -> Response:
        return self.client.post(path, data={"csrf": self.token(), **fields}, follow_redirects=False)

    def sign_in(self, key: str) -> Response:
        return self.post("/sign-in", key=key)


def visitor_of(app: FastAPI) -> Visitor:  # noqa: F811
    return Visitor(TestClient(app, base_url=URL, raise_server_exceptions=False))


@pytest.fixture
def visitor(web: TestClient, app: FastAPI, api_key: str) -> Visitor:  # noqa: F811
    """Signed in as this machine's own user. `web` has started the application."""
    made = visitor_of(app)
    assert made.sign_in(api_key).status_code == 303
    return made


@pytest.fixture
def open_visitor(settings: Settings, api_key: str) -> Iterator[Visitor]:  # noqa: F811
    """Of a service without authentication."""
    opened = create_app(settings.model_copy(update={"authentication": "off"}))
    with TestClient(opened, base_url=URL, raise_server_exceptions=False) as client:
        yield Visitor(client)
