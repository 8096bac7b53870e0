"""What a job would need, told before it runs; and the refusal of what no worker can hold."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from api.app import create_app
from compression.work import BY_METHOD
from jobs.database import Sessions
from jobs.estimating.foretelling import foretell
from jobs.estimating.rates import NO_HISTORY, Rate, record
from jobs.request import JobRequest, check_request
from jobs.settings import Settings
from tests import tiny_models

MODEL = "demo:smollm2-135m"
REQUEST: dict[str, Any] = {"model": MODEL, "recipe": {"bits": 4}, "calibration": {"nsamples": 16, "seqlen": 512}}

Serve = Callable[..., TestClient]


@pytest.fixture
def serve(settings: Settings, api_key: str) -> Iterator[Serve]:
    """The application with other settings."""
    headers = {"Authorization": f"Bearer {api_key}"}
    with ExitStack() as stack:
        yield lambda **changes: stack.enter_context(
            TestClient(create_app(settings.model_copy(update=changes)), base_url="http://127.0.0.1:8321", headers=headers)
        )


def estimated(web: TestClient, **changes: Any) -> dict[str, Any]:
    answer = web.post("/v1/estimates", json=REQUEST | changes)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_parameters_are_counted(web: TestClient) -> None:
    assert estimated(web)["parameters"] == {"all": 134_515_008, "touched": 106_168_320}


def test_every_format_has_its_bytes_or_its_refusal(web: TestClient) -> None:
    formats = {found["format"]: found for found in estimated(web)["formats"]}
    assert formats["dense"]["weight_bytes"] == 538_090_656 and formats["dense"]["is_exact"]
    assert formats["compressed-tensors"]["weight_bytes"] == 173_184_656, "as a real run has written it"
    assert formats["gguf"]["weight_bytes"] > 0 and not formats["gguf"]["is_exact"]
    assert formats["spqr"]["weight_bytes"] is None
    assert formats["spqr"]["refused"].startswith("output.format: spqr cannot hold recipe (optq): it holds what")


def test_memory_is_told_for_both_kinds_of_device(web: TestClient) -> None:
    cpu, cuda = estimated(web)["memory"]
    assert (cpu["on"], cpu["device_peak_bytes"], cuda["on"]) == ("cpu", None, "cuda")
    assert cpu["parts"]["streams"] == (16 * 512 + 2 * 20 * 2048) * 576 * 4
    assert cuda["device_peak_bytes"] > 0


def test_nothing_is_queued(web: TestClient) -> None:
    estimated(web)
    assert web.get("/v1/jobs").json()["items"] == []


def test_same_refusals_as_at_submit(web: TestClient) -> None:
    refused: list[dict[str, Any]] = [
        {"recipe": {"bits": 4, "group_size": 128}}, {"recipe": {}}, {"model": "nowhere"}, {"calibration": 3},
    ]  # fmt: skip
    for request in refused:
        answers = [web.post(path, json=REQUEST | request) for path in ("/v1/estimates", "/v1/jobs")]
        assert [answer.status_code for answer in answers] == [422, 422]
        first, second = ({**answer.json(), "request_id": None} for answer in answers)
    assert first == second


def test_unreachable_hub_leaves_nulls_and_the_reason(web: TestClient) -> None:
    found = estimated(web, model="owner/name")
    assert "the hub could not be reached" in found["unknown"]
    assert (found["parameters"], found["disk"], found["memory"], found["fits"]) == (None, None, [], None)


def test_evaluation_is_estimated_too(web: TestClient) -> None:
    alone = web.post("/v1/estimates", json={"task": "evaluate", "model": MODEL}).json()
    both = web.post("/v1/estimates", json={"task": "evaluate", "model": MODEL, "reference": MODEL}).json()
    assert alone["parameters"]["touched"] == 0 and alone["formats"] == []
    assert both["memory"][0]["parts"]["streams"] == 2 * alone["memory"][0]["parts"]["streams"] > 0


def test_evaluation_of_a_model_that_only_workers_open_is_not_refused(web: TestClient) -> None:
    found = web.post("/v1/estimates", json={"task": "evaluate", "model": "/models/packed"})
    assert found.status_code == 200 and found.json()["unknown"]


def test_local_model_needs_no_download_and_the_size_of_its_text_counts(serve: Serve, tmp_path: Path) -> None:
    folder, text = tiny_models.save(tmp_path / "models" / "tiny"), tmp_path / "models" / "text.txt"
    web = serve(model_roots=(tmp_path / "models",))
    said = {"model": str(folder), "calibration": {"source": str(text)}, "evaluation": {"sources": []}}
    peaks = []
    for size_bytes in (1000, 10_000_000):
        text.write_text("x" * size_bytes)
        found = estimated(web, **said)
        peaks.append(found["memory"][0]["host_peak_bytes"])
        assert found["disk"]["cache_bytes"] == 0
    assert peaks[1] > peaks[0] + 500_000_000, "a text is encoded whole"


def test_times_come_from_earlier_jobs(web: TestClient, settings: Settings, sessions: Sessions) -> None:
    assert (estimated(web)["time"], estimated(web)["time_note"]) == ([], NO_HISTORY)
    request = JobRequest.model_validate(REQUEST)
    work = foretell(request, check_request(request), settings).work
    assert work is not None
    with sessions.begin() as session:
        record(session, [Rate("a", "optq" if a == BY_METHOD else "", a, units, 10.0) for a, units in work.items()])
    (time,) = estimated(web)["time"]
    assert time == {"device": "a", "expected_s": 70.0, "low_s": 70.0, "high_s": 70.0, "jobs": 1}
    job = web.post("/v1/jobs", json=REQUEST).json()
    assert job["estimate"]["time"] == [time], "as it was foretold at submit"


def test_job_shows_what_was_expected(web: TestClient) -> None:
    job = web.post("/v1/jobs", json=REQUEST).json()
    assert job["estimate"]["parameters"] == {"all": 134_515_008, "touched": 106_168_320}
    assert web.get(f"/v1/jobs/{job['id']}").json()["estimate"] == job["estimate"]


def test_limits_that_are_not_known_refuse_nothing(web: TestClient) -> None:
    assert (estimated(web)["fits"], estimated(web)["misfits"]) == (None, [])


def test_job_within_the_limits_fits(serve: Serve) -> None:
    web = serve(max_memory_bytes=10**11, max_disk_bytes=10**11)
    assert estimated(web)["fits"] is True
    assert web.post("/v1/jobs", json=REQUEST).status_code == 202


@pytest.mark.parametrize(
    ("limits", "limit", "field"),
    [
        ({"device": "cpu", "max_memory_bytes": 2_600_000_000}, "host memory", "calibration.nsamples"),
        ({"max_memory_bytes": 1_000_000}, "host memory", "model"),
        ({"max_disk_bytes": 100_000_000}, "space in the work folder", "output.format"),
        ({"device": "cuda", "max_device_memory_bytes": 1000}, "device memory", "model"),
    ],
    ids=["windows", "runtime", "disk", "device"],
)
def test_what_cannot_fit_is_refused_at_submit(serve: Serve, limits: dict[str, Any], limit: str, field: str) -> None:
    web = serve(**limits)
    request = REQUEST | {"calibration": {"nsamples": 512, "seqlen": 1024}}
    answer = web.post("/v1/jobs", json=request)
    problem = answer.json()
    assert (answer.status_code, problem["type"]) == (422, "cannot-fit")
    (error,) = problem["errors"]
    (given,) = (value for name, value in limits.items() if name != "device")
    assert error["field"] == field
    assert f"bytes of {limit}, and this server gives a job at most {given:,}" in error["detail"]
    assert web.get("/v1/jobs").json()["items"] == []
    (misfit,) = estimated(web, calibration=request["calibration"])["misfits"]
    assert (misfit["limit_bytes"], misfit["field"], misfit["cure"]) == (given, field, error["allowed"])


def test_the_cure_cures(serve: Serve) -> None:
    web = serve(device="cpu", max_memory_bytes=2_600_000_000)
    said = {"nsamples": 512, "seqlen": 1024}
    (misfit,) = estimated(web, calibration=said)["misfits"]
    nsamples = int(misfit["cure"].split()[1])
    assert 0 < nsamples < 512
    assert estimated(web, calibration=said | {"nsamples": nsamples})["fits"] is True
    assert estimated(web, calibration=said | {"nsamples": nsamples + 2})["fits"] is False


def test_device_memory_does_not_refuse_where_a_cpu_could_do_it(serve: Serve) -> None:
    assert serve(device="auto", max_device_memory_bytes=1000).post("/v1/jobs", json=REQUEST).status_code == 202
