import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from itertools import islice
from pathlib import Path

import pytest
from fastapi import FastAPI

import client.event_stream
import client.job_calls
from client import ApiError, Job, Scalpel, ServiceUnreachable, WaitTimeout
from client.problems import Unavailable
from tests.api.serving import Served, served
from tests.api.standin import Worker

MODEL = "demo:smollm2-135m"


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give up on a lost connection within a moment."""
    monkeypatch.setattr(client.event_stream, "RECONNECT_DELAYS_S", (0.05, 0.05))


@contextmanager
def answering(body: bytes, content_type: str) -> Iterator[str]:
    """Some other web server."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", content_type)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_submitted_job_comes_back_typed(scalpel: Scalpel) -> None:
    job = scalpel.submit(MODEL, {"pattern": "2:4"}, calibration={"nsamples": 4}, labels={"team": "search"})
    assert (job.state, job.is_final, job.labels) == ("queued", False, {"team": "search"})
    assert job.request["calibration"] == {"nsamples": 4}
    assert job.recipe is not None and job.recipe["options"]["method"] == "sparsegpt"
    assert scalpel.job(job.id) == job


def test_evaluation_comes_back_typed(scalpel: Scalpel) -> None:
    job = scalpel.evaluate(MODEL, "owner/name", acceptance={"max_kl": 0.2}, labels={"team": "search"})
    assert (job.task, job.state, job.recipe, job.verdict) == ("evaluate", "queued", None, None)
    assert (job.request["reference"], job.request["acceptance"]) == ("owner/name", {"max_kl": 0.2})
    assert "reference" not in scalpel.evaluate(MODEL).request


def test_finished_job_is_exported(scalpel: Scalpel, job: Job, worker: Worker) -> None:
    with pytest.raises(ApiError, match="Nothing to export"):
        scalpel.export(job.id, {"format": "dense"})
    report = {"recipe": job.recipe, "model": {"revision": None}, "output": {}}
    worker.succeed(worker.claim(), {"report.json": json.dumps(report).encode()}, solutions={"block": b"solutions"})
    export = scalpel.export(job.id, {"format": "dense"}, labels={"team": "search"})
    assert (export.task, export.parent, export.model, export.labels) == ("export", job.id, MODEL, {"team": "search"})
    assert list(scalpel.exports(job.id)) == [export]
    assert scalpel.job(job.id).solution_bytes == len(b"solutions")


def test_formats_are_listed(scalpel: Scalpel) -> None:
    formats = {found.name: found for found in scalpel.formats()}
    assert "transformers" in formats["dense"].loads_in


def test_jobs_are_fetched_page_by_page(scalpel: Scalpel) -> None:
    submitted = [scalpel.submit(MODEL, {"bits": 4}, labels={"n": str(n % 2)}).id for n in range(5)]
    assert [job.id for job in scalpel.jobs(page_size=2)] == submitted[::-1]
    assert [job.id for job in scalpel.jobs(label="n:1")] == [submitted[3], submitted[1]]
    assert [job.id for job in islice(scalpel.jobs(state="queued", model=MODEL), 1)] == [submitted[4]]


def test_cancelled_job_is_final(scalpel: Scalpel, job: Job) -> None:
    assert scalpel.cancel(job.id).is_final


def test_paused_job_is_queued_again_when_resumed(scalpel: Scalpel, job: Job) -> None:
    paused = scalpel.pause(job.id)
    assert (paused.state, paused.is_final, paused.pause_requested) == ("paused", False, False)
    assert scalpel.resume(job.id).state == "queued"


def test_refusal_carries_the_problem(scalpel: Scalpel) -> None:
    with pytest.raises(ApiError) as refusal:
        scalpel.submit(MODEL, {"sparsity": 1.5})
    assert (refusal.value.status, refusal.value.type) == (422, "invalid-request")
    assert refusal.value.problem.errors[0].field == "recipe.sparsity"
    assert str(refusal.value) == "Invalid request: recipe.sparsity: Input should be less than 1 (allowed: < 1.0)"


def test_unknown_job_is_a_404(scalpel: Scalpel) -> None:
    for call in (scalpel.job, scalpel.report, scalpel.artifacts, scalpel.cancel, scalpel.pause, scalpel.resume):
        with pytest.raises(ApiError) as refusal:
            call("../../healthz")
        assert refusal.value.status == 404


def test_methods_and_models_are_listed(scalpel: Scalpel) -> None:
    assert "sparsegpt" in [method.name for method in scalpel.methods()]
    assert MODEL in [model.name for model in scalpel.models()]


def test_job_is_asked_for_more(scalpel: Scalpel, job: Job, worker: Worker, tmp_path: Path) -> None:
    assert [job.pause().state, job.resume().state, job.refresh().state] == ["paused", "queued", "queued"]
    worker.succeed(worker.claim(), {"report.json": b'{"report_version": 1}'})
    assert job.wait().state == "succeeded"
    assert [event.data["state"] for event in job.events(after=1)][-1] == "succeeded"
    assert (job.report(), job.download(tmp_path)) == ({"report_version": 1}, (tmp_path / "report.json",))
    with pytest.raises(TypeError, match="not had from a client"):
        Job.model_validate(job.model_dump()).refresh()


def test_same_request_is_asked_for_again(scalpel: Scalpel, job: Job) -> None:
    again = scalpel.request(job.request)
    assert (again.request, again.id == job.id) == (job.request, False)


def test_waiting_ends_when_the_time_is_up_and_the_job_goes_on(scalpel: Scalpel, job: Job) -> None:
    with pytest.raises(WaitTimeout, match="goes on"):
        job.wait(timeout_s=0.1)
    assert not job.refresh().is_final


def test_waiting_outlives_a_service_that_is_away(app: FastAPI, api_key: str, worker: Worker) -> None:
    with served(app) as first:
        scalpel = Scalpel(first.url, api_key=api_key, retries=0)
        job = scalpel.submit(MODEL, {"bits": 4})
    waited: list[Job] = []
    waiting = threading.Thread(target=lambda: waited.append(job.wait(timeout_s=30)))
    waiting.start()
    worker.fail(worker.claim())
    with served(app, port=first.port), scalpel:
        waiting.join()
    assert [found.state for found in waited] == ["failed"]


def test_readiness_is_told(scalpel: Scalpel) -> None:
    with Scalpel(scalpel.base_url, retries=0) as impatient, pytest.raises(Unavailable, match="broker"):
        impatient.readiness()


def test_report_is_read_once_the_job_has_succeeded(scalpel: Scalpel, job: Job, worker: Worker) -> None:
    with pytest.raises(ApiError, match="No report yet"):
        scalpel.report(job.id)
    worker.succeed(worker.claim(), {"report.json": b'{"report_version": 1}'})
    assert scalpel.report(job.id) == {"report_version": 1}


def test_events_come_until_the_final_state(scalpel: Scalpel, job: Job, worker: Worker) -> None:
    events = scalpel.events(job.id)
    assert next(events).data["state"] == "queued"
    worker.note(worker.claim(), "hello")
    assert [next(events).type for _ in range(2)] == ["state", "note"]
    worker.fail(job.id)
    (last,) = events
    assert (last.data["state"], last.is_final) == ("failed", True)


def test_events_of_an_ended_job_after_the_last_are_none(scalpel: Scalpel, job: Job) -> None:
    scalpel.cancel(job.id)
    assert list(scalpel.events(job.id, after=2)) == []


def test_events_go_on_after_the_server_was_restarted(app: FastAPI, api_key: str, worker: Worker) -> None:
    with served(app) as first:
        scalpel = Scalpel(first.url, api_key=api_key)
        job = scalpel.submit(MODEL, {"bits": 4})
        events = job.events()
        assert next(events).seq == 1
    worker.note(worker.claim(), "written while the server was away")
    with served(app, port=first.port):
        assert [next(events).seq for _ in range(2)] == [2, 3]
        worker.succeed(job.id, {})
        assert [event.seq for event in events] == [4]
        scalpel.close()


@pytest.mark.usefixtures("impatient")
def test_events_give_up_when_the_server_stays_away(app: FastAPI, api_key: str) -> None:
    with served(app) as running:
        scalpel = Scalpel(running.url, api_key=api_key)
        job = scalpel.submit(MODEL, {"bits": 4})
        events = scalpel.events(job.id)
        next(events)
    with scalpel, pytest.raises(ServiceUnreachable):
        list(events)


def test_nobody_there_is_said_with_the_address_and_the_cure() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        with Scalpel(url, retries=1) as scalpel, pytest.raises(ServiceUnreachable, match="scalpel serve") as error:
            scalpel.job("some-job")
    assert url in str(error.value)


@pytest.mark.parametrize("body", [b"<html>welcome</html>", b'{"hello": "world"}', b""])
def test_another_service_at_the_address_is_told_apart(body: bytes) -> None:
    with answering(body, "application/json") as url, Scalpel(url, retries=0) as scalpel:
        with pytest.raises(ServiceUnreachable, match="not Scalpel"):
            scalpel.job("some-job")
        with pytest.raises(ServiceUnreachable, match="not Scalpel"):
            next(scalpel.events("some-job"))


def test_refusal_of_another_service_is_still_an_error_with_its_status() -> None:
    with answering(b"", "text/html") as url, Scalpel(url) as scalpel, pytest.raises(ApiError) as refusal:
        scalpel.submit(MODEL, {"bits": 4})  # it answers GET only
    assert refusal.value.status == 501


def test_fields_of_a_newer_service_do_no_harm(job: Job) -> None:
    newer = Job.model_validate({**job.model_dump(), "price": 7, "progress": {"speed": 1}})
    assert newer.id == job.id


def test_proxy_of_the_environment_is_not_asked_for_this_machine(
    service: Served, api_key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    with Scalpel(service.url, api_key=api_key) as scalpel:
        assert list(scalpel.jobs()) == []


def test_labels_and_priority_are_changed(scalpel: Scalpel, job: Job) -> None:
    changed = scalpel.change(job.id, labels={"team": "search"}, priority=5)
    assert (changed.labels, changed.priority) == ({"team": "search"}, 5)
    assert scalpel.change(job.id, labels={}).priority == 5
    assert scalpel.job(job.id).labels == {}


def test_files_are_deleted_and_then_the_job(scalpel: Scalpel, job: Job, worker: Worker) -> None:
    worker.succeed(worker.claim(), {"report.json": b"{}", "weights": b"x"}, {"block": b"y"})
    stripped = scalpel.delete_artifacts(job.id, solutions=True)
    assert stripped.artifacts_deleted_at is not None and stripped.solution_bytes is None
    assert [artifact.name for artifact in scalpel.artifacts(job.id)] == ["report.json"]
    scalpel.delete(job.id)
    with pytest.raises(ApiError, match="Job not found"):
        scalpel.job(job.id)


def test_lists_of_several_pages_come_whole(
    scalpel: Scalpel, job: Job, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"part-{number}" for number in range(5)]
    worker.succeed(worker.claim(), dict.fromkeys(names, b"x"))
    monkeypatch.setattr(client.job_calls, "MAX_PAGE", 2)
    assert [artifact.name for artifact in scalpel.artifacts(job.id)] == names
