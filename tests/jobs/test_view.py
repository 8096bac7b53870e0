from jobs import repository
from jobs.database import Sessions
from jobs.failure import Failure
from jobs.states import State
from jobs.view import job_view
from tests.jobs.conftest import Submit


def test_a_queued_job_is_shown_with_its_request_recipe_and_links(submit: Submit) -> None:
    job = submit(labels={"team": "a"})
    view = job_view(job)
    assert (view.state, view.attempt, view.max_attempts, view.labels) == (State.QUEUED, 0, 3, {"team": "a"})
    assert view.request["recipe"] == {"sparsity": 0.5}
    assert view.recipe.options.method == "sparsegpt"
    assert view.links.events == f"/v1/jobs/{job.id}/events"
    assert view.progress.fraction is None and view.error is None


def test_a_failed_job_shows_its_reason(sessions: Sessions, submit: Submit) -> None:
    failure = Failure(type="numerical-error", title="t", detail="d", layer="l")
    job = submit()
    with sessions.begin() as session:
        repository.claim(session, "worker", 30.0)
        view = job_view(repository.fail(session, job.id, 1, failure))
    assert (view.state, view.error) == (State.FAILED, failure)
