import pytest

from compression.report import Outcome
from jobs import attempts, repository
from jobs.access.tables import LOCAL_TENANT_ID as OURS
from jobs.database import Sessions
from jobs.failure import Failure
from jobs.request import JobRequest, check_request
from jobs.states import State
from jobs.view import job_view
from tests.jobs.conftest import Submit


def test_a_queued_job_is_shown_with_its_request_recipe_and_links(submit: Submit) -> None:
    job = submit(labels={"team": "a"})
    view = job_view(job)
    assert (view.state, view.attempt, view.max_attempts, view.labels) == (State.QUEUED, 0, 3, {"team": "a"})
    assert view.request["recipe"] == {"sparsity": 0.5}
    assert view.recipe is not None and view.recipe.options.method == "sparsegpt"
    assert (view.task, view.verdict) == ("compress", None)
    assert view.links.events == f"/v1/jobs/{job.id}/events"
    assert view.progress.fraction is None and view.error is None


def test_a_failed_job_shows_its_reason(sessions: Sessions, submit: Submit) -> None:
    failure = Failure(type="numerical-error", title="t", detail="d", layer="l")
    job = submit()
    with sessions.begin() as session:
        attempts.claim(session, "worker", 30.0)
        view = job_view(attempts.fail(session, job.id, 1, failure))
    assert (view.state, view.error) == (State.FAILED, failure)


@pytest.mark.parametrize("verdict", ["accepted", "regressed", None])
def test_a_job_that_succeeded_shows_its_verdict(sessions: Sessions, submit: Submit, verdict: Outcome | None) -> None:
    job = submit()
    with sessions.begin() as session:
        attempts.claim(session, "worker", 30.0)
        view = job_view(attempts.succeed(session, job.id, 1, [], verdict))
    assert (view.state, view.verdict) == (State.SUCCEEDED, verdict)
    with sessions() as session:
        last = repository.events_after(session, job.id, 0)[-1]
    assert last.data.get("verdict") == verdict


def test_an_evaluation_has_no_recipe(sessions: Sessions) -> None:
    request = JobRequest.model_validate({"task": "evaluate", "model": "demo:smollm2-135m"})
    with sessions.begin() as session:
        view = job_view(repository.submit(session, OURS, request, check_request(request), max_attempts=3))
    assert (view.task, view.recipe, view.request["task"]) == ("evaluate", None, "evaluate")
