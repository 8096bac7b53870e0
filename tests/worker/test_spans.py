"""From the request to the block: one trace, through the real application, the job's row and an attempt at it."""

from dataclasses import replace
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from api.app import create_app
from compression.events import BlockFinished, StageStarted
from jobs.database import Sessions
from jobs.settings import Settings
from jobs.watching.otel import OtelTracing
from tests import tiny_models
from tests.worker.conftest import MakeHost, Submit, read_job
from worker.spans import AttemptSpans
from worker.supervisor import Supervisor

CALLERS_TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.fixture
def exported() -> InMemorySpanExporter:
    return InMemorySpanExporter()


def spans_of(tracing: OtelTracing, exported: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    tracing.close()
    return {span.name: span for span in exported.get_finished_spans()}


def parent_of(span: ReadableSpan) -> int | None:
    return None if span.parent is None else span.parent.span_id


def id_of(span: ReadableSpan) -> int:
    assert span.context is not None
    return int(span.context.span_id)


def test_worker_joins_the_trace_of_the_request(
    settings: Settings, sessions: Sessions, scripted: MakeHost, model: Path, exported: InMemorySpanExporter
) -> None:
    tracing = OtelTracing("test", exported)
    with TestClient(
        create_app(settings.model_copy(update={"authentication": "off", "broker_url": "redis://127.0.0.1:1/0"}), tracing),
        base_url="http://127.0.0.1",
    ) as web:
        tiny_models.save(model.parent / "real")
        asked = {"model": str(model.parent / "real"), "recipe": {"sparsity": 0.5}}
        caller = {"traceparent": f"00-{CALLERS_TRACE}-00f067aa0ba902b7-01"}
        answer = web.post("/v1/jobs", json=asked, headers=caller)
        assert answer.status_code == 202, answer.text
        job_id = answer.json()["id"]
        assert (read_job(sessions, job_id).trace or "").startswith(f"00-{CALLERS_TRACE}-")
        Supervisor(replace(scripted("succeed"), tracing=tracing)).work_off()
        spans = spans_of(tracing, exported)
    assert {f"{span.context.trace_id:032x}" for span in spans.values() if span.context} == {CALLERS_TRACE}
    assert parent_of(spans["attempt"]) == id_of(spans["POST /v1/jobs"])
    assert {parent_of(spans[stage]) for stage in ("fetching", "publishing")} == {id_of(spans["attempt"])}
    assert (spans["attempt"].attributes or {})["scalpel.job"] == job_id
    assert (spans["attempt"].attributes or {})["scalpel.state"] == "succeeded"


def test_blocks_follow_each_other_inside_their_stage(
    sessions: Sessions, submit: Submit, exported: InMemorySpanExporter
) -> None:
    tracing = OtelTracing("test", exported)
    spans = AttemptSpans(tracing, read_job(sessions, submit()))
    spans.observe(StageStarted(stage="compressing"))
    for block in (1, 2):
        spans.observe(
            BlockFinished(
                block=block, blocks=2, fraction=block / 2, eta_s=None, mean_relative_error=None,
                host_memory_bytes=1, device_memory_bytes=None, is_replayed=False,
            )
        )  # fmt: skip
    spans.end(None)
    tracing.close()
    first, second, stage, attempt = exported.get_finished_spans()
    assert [span.name for span in (first, second, stage, attempt)] == ["block", "block", "compressing", "attempt"]
    assert parent_of(first) == parent_of(second) == id_of(stage)
    assert first.end_time is not None
    assert second.start_time is not None
    assert first.end_time <= second.start_time + 1_000_000
    assert attempt.status.description == "the attempt was lost"


def test_without_an_endpoint_there_is_no_trace(sessions: Sessions, submit: Submit, scripted: MakeHost) -> None:
    job_id = submit()
    Supervisor(scripted("succeed")).work_off()
    assert read_job(sessions, job_id).trace is None
