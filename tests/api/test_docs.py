"""docs/api.md against the code: a page without a test drifts."""

from pathlib import Path

import pytest
from fastapi import FastAPI

from api.problems import PROBLEMS
from cli.exits import MEANING

PAGE = (Path(__file__).parents[2] / "docs" / "api.md").read_text(encoding="utf-8")
JOB_RESULTS_ONLY = {"calibration-error", "stale-attempt"}  # a job fails with these, or a worker is told; no request is


def test_every_endpoint_is_described(app: FastAPI) -> None:
    for path in app.openapi()["paths"]:
        assert f"`{path.replace('{job_id}', '{id}')}`" in PAGE


@pytest.mark.parametrize("slug", [kind.slug for kind in PROBLEMS.values() if kind.status < 500])
def test_every_refusal_is_described(slug: str) -> None:
    assert (f"`{slug}`" in PAGE) is (slug not in JOB_RESULTS_ONLY)


def test_every_exit_code_is_described() -> None:
    for code, meaning in MEANING.items():
        assert f"| {code.value} | {meaning} |" in PAGE
