"""The client against the real application behind a real server."""

from collections.abc import Callable, Iterator

import pytest
from fastapi import FastAPI

from client import Job, Scalpel
from tests.api.conftest import api_key, app, sessions, settings, worker  # noqa: F401  fixtures
from tests.api.serving import Served, served

Submit = Callable[..., Job]


@pytest.fixture
def service(app: FastAPI) -> Iterator[Served]:  # noqa: F811
    with served(app) as running:
        yield running


@pytest.fixture
def scalpel(service: Served, api_key: str) -> Iterator[Scalpel]:  # noqa: F811
    with Scalpel(service.url, api_key=api_key) as client:
        yield client


@pytest.fixture
def job(scalpel: Scalpel) -> Job:
    return scalpel.submit("demo:smollm2-135m", {"sparsity": 0.5})
