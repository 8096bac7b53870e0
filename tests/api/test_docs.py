"""docs/api.md against the code: a page without a test drifts."""

import re
from pathlib import Path

import pytest
from fastapi import FastAPI

from api.problems import PROBLEMS
from cli.exits import MEANING

PAGE = (Path(__file__).parents[2] / "docs" / "api.md").read_text(encoding="utf-8")
# A job fails with these, or a worker or the operator is told; no request is.
JOB_RESULTS_ONLY = {"calibration-error", "stale-attempt", "tenant-not-found", "tenant-exists"}


def test_every_endpoint_is_described(app: FastAPI) -> None:
    for path in app.openapi()["paths"]:
        assert f"`{re.sub('{(job|key|dataset|model)_id}', '{id}', path)}`" in PAGE


@pytest.mark.parametrize("slug", [kind.slug for kind in PROBLEMS.values() if kind.status < 500])
def test_every_refusal_is_described(slug: str) -> None:
    assert (f"`{slug}`" in PAGE) is (slug not in JOB_RESULTS_ONLY)


def test_every_exit_code_is_described() -> None:
    for code, meaning in MEANING.items():
        assert f"| {code.value} | {meaning} |" in PAGE
