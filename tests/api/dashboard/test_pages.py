"""Pages show what the API answers, and nothing of other tenants."""

import json
import re
from datetime import UTC, datetime

import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient
from markupsafe import escape

from api.dashboard import static_files
from api.dashboard.routers import ROUTERS
from compression.formats.snippets import FOLDER, snippets
from compression.page import fragment
from jobs.access.keys import create_key
from jobs.database import Sessions
from jobs.tables import Tenant
from tests.api.conftest import Submit
from tests.api.dashboard.conftest import Visitor, visitor_of
from tests.api.resources import House
from tests.api.standin import Worker
from tests.api.test_exports import report
from tests.compression import reports

MAKERS = {
    "job_id": House.solved_job,
    "key_id": House.key,
    "model_id": House.model,
    "dataset_id": House.dataset,
    "sweep_id": House.sweep,
    "webhook_id": House.webhook,
    "delivery_id": House.delivery,  # of that webhook
}
ROUTES = [
    (method, route.path)
    for router in ROUTERS
    for route in router.routes
    if isinstance(route, APIRoute) and "_id}" in route.path
    for method in route.methods or ()
]


@pytest.fixture
def house(web: TestClient, submit: Submit, worker: Worker) -> House:
    return House(web, submit, worker)


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_ids_of_another_tenant_are_not_there(app: FastAPI, house: House, sessions: Sessions, method: str, path: str) -> None:
    with sessions.begin() as session:
        session.add(Tenant(id="STRANGER", name="stranger", created_at=datetime.now(UTC)))
        session.flush()
        _, key = create_key(session, "STRANGER", "test", ["read", "write", "admin"])
    stranger = visitor_of(app)
    stranger.sign_in(key)
    place = re.sub(r"{(\w+)}", lambda found: MAKERS[found[1]](house), path)
    answer = stranger.post(place, format="dense") if method == "POST" else stranger.get(place)
    assert (answer.status_code, "not found" in answer.text.lower()) == (404, True)


def test_comparison_and_clone_open_no_foreign_job(app: FastAPI, house: House, sessions: Sessions) -> None:
    with sessions.begin() as session:
        session.add(Tenant(id="STRANGER", name="stranger", created_at=datetime.now(UTC)))
        session.flush()
        _, key = create_key(session, "STRANGER", "test", ["read"])
    stranger, job_id = visitor_of(app), house.solved_job()
    stranger.sign_in(key)
    assert stranger.get(f"/compare?job={job_id}").status_code == 404
    assert stranger.get(f"/new?from={job_id}").status_code == 404
    assert job_id not in stranger.get("/").text + stranger.get("/jobs").text


def test_all_results_of_a_model_are_compared_and_none_of_others(
    visitor: Visitor, submit: Submit, worker: Worker, house: House
) -> None:
    ids = [house.solved_job(), house.solved_job()]
    waiting, other = submit(), submit(model="demo:minilm-l6", recipe={"bits": 4})
    page = visitor.get("/compare?model=demo:smollm2-135m").text
    assert [f"/jobs/{job_id}" in page for job_id in (*ids, waiting, other)] == [True, True, False, False]
    assert visitor.get("/compare?model=nothing").status_code == 200
    assert "/compare?model=demo%3Asmollm2-135m" in visitor.get(f"/jobs/{ids[0]}").text


def test_models_that_were_cut_are_compared_by_measured_time_too(visitor: Visitor, submit: Submit, worker: Worker) -> None:
    found = reports.faster()
    assert found.structure is not None
    slower = found.structure.speed.model_copy(update={"shrunk_s": 0.015, "measured": 1.2667})
    other = found.model_copy(update={"structure": found.structure.model_copy(update={"speed": slower})})
    ids = []
    for report_of in (found, other):
        ids.append(submit())
        worker.claim()
        worker.succeed(ids[-1], {"report.json": report_of.model_dump_json().encode()})
    page = visitor.get(f"/compare?job={ids[0]}&job={ids[1]}").text
    assert "against measured time of a forward (8 x 128 tokens, prefill in float32 on A processor, 2 threads)" in page
    assert "12.8 ms" in page and "15 ms" in page and "Times as fast" in page
    assert page.count('<svg class="pareto"') == 2
    alone = visitor.get(f"/compare?job={ids[0]}").text
    assert '<svg class="pareto"' not in alone


def test_report_that_this_version_cannot_read_is_told(visitor: Visitor, submit: Submit, worker: Worker) -> None:
    job_id = submit()
    worker.claim()
    worker.succeed(job_id, {"report.json": json.dumps({"report_version": 99}).encode()})
    answer = visitor.get(f"/jobs/{job_id}")
    assert (answer.status_code, "Another version of Scalpel wrote this report" in answer.text) == (200, True)


def test_report_as_a_page_is_shown_without_any_rights(visitor: Visitor, submit: Submit, worker: Worker) -> None:
    job_id = submit(recipe={"bits": 4})
    worker.claim()
    page = b"<script>parent.hacked = 1</script>"
    worker.succeed(job_id, {"report.json": report({"bits": 4, "group_size": 64}), "report.html": page})
    answer = visitor.get(f"/jobs/{job_id}/report.html")
    assert (answer.status_code, answer.content) == (200, page)
    assert answer.headers["content-security-policy"].startswith("sandbox; default-src 'none'")
    assert f"/jobs/{job_id}/report.html" in visitor.get(f"/jobs/{job_id}").text


def test_job_says_what_its_report_says(visitor: Visitor, submit: Submit, worker: Worker) -> None:
    job_id, found = submit(), reports.report()
    worker.claim()
    worker.succeed(job_id, {"report.json": found.model_dump_json().encode(), "model.safetensors": b"weights"})
    page = visitor.get(f"/jobs/{job_id}").text
    assert fragment(found) in page
    for snippet in snippets(found.output.format, found.model.architecture):
        assert str(escape(snippet.code.replace(FOLDER, f"./{job_id}"))) in page


def test_failure_of_the_service_is_a_page_that_tells_nothing_of_it(
    visitor: Visitor, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("disk 7 is on fire")

    monkeypatch.setattr("api.routes.models.list_models", fail)
    answer = visitor.get("/models")
    assert (answer.status_code, "The service failed" in answer.text, "disk 7" in answer.text) == (500, True, False)
    assert "<html" in answer.text
    assert "disk 7 is on fire" in caplog.text


def test_export_is_asked_for_by_form(visitor: Visitor, house: House) -> None:
    job_id = house.solved_job()
    answer = visitor.post(f"/jobs/{job_id}/export", format="dense")
    assert answer.status_code == 303
    assert f"/jobs/{job_id}" in visitor.get(answer.headers["location"]).text


def test_part_for_a_script_is_told_where_to_go(app: FastAPI, web: TestClient, visitor: Visitor) -> None:
    signed_out = visitor_of(app)
    headers = {"HX-Request": "true"}
    assert signed_out.get("/jobs", headers=headers).headers["hx-redirect"] == "/sign-in"
    assert signed_out.get("/overview/events", headers=headers).status_code == 401
    part = visitor.get("/jobs/01ARZ3NDEKTSV4RRFFQ69G5FAV", headers=headers)
    assert (part.status_code, "<html" in part.text) == (404, False)


def test_static_files_are_kept_by_their_version_and_nothing_else_is_there(web: TestClient) -> None:
    for name, file in static_files.FILES.items():
        answer = web.get(static_files.address(name))
        assert (answer.content, "immutable" in answer.headers["cache-control"]) == (file.content, True)
    assert web.get("/static/older/app.css").headers["cache-control"] == "no-store"
    for name in ("../app.py", "..%2f..%2fapp.py", "nothing.js", "vendor"):
        assert web.get(f"/static/{static_files.VERSION}/{name}").status_code == 404


def test_pages_are_no_part_of_the_documented_interface(app: FastAPI) -> None:
    assert all(path.startswith("/v1") or path in ("/healthz", "/readyz", "/metrics") for path in app.openapi()["paths"])


def test_sweep_leads_to_its_points_side_by_side(visitor: Visitor, house: House) -> None:
    sweep_id = house.sweep()
    ids = [point["job_id"] for point in house.web.get(f"/v1/sweeps/{sweep_id}").json()["points"]]
    answer = visitor.get(f"/sweeps/{sweep_id}")
    assert (answer.status_code, answer.headers["location"]) == (303, f"/compare?job={ids[0]}&job={ids[1]}")
    page = visitor.get(answer.headers["location"]).text
    assert [f"/jobs/{job_id}" in page for job_id in ids] == [True, True]
    assert f'href="/sweeps/{sweep_id}"' in visitor.get(f"/jobs/{ids[0]}").text
