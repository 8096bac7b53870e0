"""The true runner as its supervisor starts it."""

import fcntl
import gzip
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from compression.environment import processor
from compression.evaluation_report import EvaluationReport
from compression.models.source import ModelSource
from compression.protocol import Calibration, Evaluation, Output
from compression.recipe import Recipe
from compression.report import Report
from jobs import databases, repository
from jobs.access.tables import LOCAL_TENANT_ID as OURS
from jobs.database import Sessions
from jobs.estimating.estimates import Estimate
from jobs.estimating.rates import TimeEstimate, expected_times
from jobs.exports import solutions
from jobs.settings import Settings
from jobs.states import State
from jobs.store.artifacts import artifact_store
from jobs.tables import Job
from tests import tiny_models
from tests.jobs.sourcing.local_hub import Repository, running_hub
from tests.jobs.sourcing.test_fetch_texts import parquet
from tests.worker.conftest import Submit, events, read_job
from worker.attempt import RUNNER_COMMAND, Host
from worker.control import SUPERVISOR_IS_GONE
from worker.environment import child_environment
from worker.spec import SPEC, EvaluateSpec, RunSpec
from worker.supervisor import Supervisor


@pytest.fixture
def spec(tmp_path: Path) -> RunSpec:
    return RunSpec(
        model_path=tmp_path / "model",
        model_name="model",
        model_revision=None,
        model_notes=(),
        recipe=Recipe(sparsity=0.5),
        calibration=Calibration(),
        evaluation=Evaluation(),
        output=Output(),
        texts={},
        out=tmp_path / "out",
        work=tmp_path / "work",
        solutions=tmp_path / "solutions",
        lock=tmp_path / "lock",
        lock_timeout_s=0.3,
        cache=tmp_path / "cache",
        device="cpu",
        provenance={},
    )


def start(tmp_path: Path, *command: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command or RUNNER_COMMAND,
        env=child_environment(os.environ, tmp_path, None),
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def tell(process: subprocess.Popen[bytes], spec: RunSpec) -> None:
    assert process.stdin is not None
    process.stdin.write(spec.to_line())
    process.stdin.flush()


def test_it_exits_at_once_when_its_supervisor_is_gone(tmp_path: Path, spec: RunSpec) -> None:
    with spec.lock.open("w") as lock, start(tmp_path) as process:
        fcntl.flock(lock, fcntl.LOCK_EX)  # so that it would wait for long
        tell(process, spec.model_copy(update={"lock_timeout_s": 600.0}))
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(1.0)
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(10.0) == SUPERVISOR_IS_GONE


def test_it_does_not_write_beside_another_attempt(tmp_path: Path, spec: RunSpec) -> None:
    with spec.lock.open("w") as lock, start(tmp_path) as process:
        fcntl.flock(lock, fcntl.LOCK_EX)
        tell(process, spec)
        assert process.stdout is not None and process.stderr is not None
        assert (process.stdout.read(), process.wait(10.0)) == (b"", 1)
        assert b"has not left" in process.stderr.read()


def test_what_others_print_does_not_reach_the_protocol(tmp_path: Path, spec: RunSpec) -> None:
    program = """
import os
from worker import runner
def run(spec, send):
    print("from Python")
    os.system("echo from a child")
    os.write(1, b"from C\\n")
runner.run = run
runner.main()
"""
    with start(tmp_path, sys.executable, "-c", program) as process:
        tell(process, spec)
        assert process.stdout is not None and process.stderr is not None
        assert [json.loads(line)["type"] for line in process.stdout] == ["result"]
        printed = process.stderr.read()
    assert all(words in printed for words in (b"from Python", b"from a child", b"from C"))


@pytest.mark.parametrize(
    ("report", "verdict"),
    [(None, None), ({"verdict": None}, None), ({"verdict": {"outcome": "regressed", "checks": []}}, "regressed")],
    ids=["no report", "not judged", "regressed"],
)
def test_an_artifact_that_an_earlier_attempt_completed_is_not_made_again(
    tmp_path: Path, spec: RunSpec, report: object, verdict: str | None
) -> None:
    spec.out.mkdir()
    if report is not None:
        (spec.out / "report.json").write_text(json.dumps(report))
    with start(tmp_path) as process:
        tell(process, spec)
        assert process.stdout is not None
        assert json.loads(process.stdout.readline()) == {"type": "result", "report": "report.json", "verdict": verdict}


def test_what_a_recipe_does_not_say_stays_unsaid(spec: RunSpec) -> None:
    recipe = Recipe.model_validate({"bits": 4, "overrides": {"*.q_proj": {"bits": None, "sparsity": 0.5}}})
    sent = RunSpec.model_validate_json(spec.model_copy(update={"recipe": recipe}).to_line())
    assert sent.recipe == recipe
    assert sent.recipe.model_fields_set == {"bits", "overrides"}


def test_a_real_model_is_compressed_and_published(settings: Settings, sessions: Sessions, submit: Submit) -> None:
    root = settings.model_roots[0]
    text = root / "text.txt"
    text.write_text(tiny_models.text())
    job_id = submit(
        model=str(tiny_models.save(root / "llama")),
        recipe={"sparsity": 0.5, "pattern": "2:4"},
        calibration={"source": str(text), "nsamples": 4, "seqlen": 32},
        evaluation={"sources": [str(text)], "windows": 2, "seqlen": 32},
        labels={"team": "a"},
    )
    here = processor()
    expect(sessions, job_id, TimeEstimate(device=here, expected_s=7.0, low_s=5.0, high_s=9.0, jobs=1))
    store = artifact_store(settings)
    Supervisor(Host(settings, sessions, store, os.environ, threading.Event())).work_off()

    job = read_job(sessions, job_id)
    assert job.state is State.SUCCEEDED, job.error
    told = events(sessions, job_id)
    stages = [event.data["stage"] for event in told if event.type == "stage"]
    assert stages == ["fetching", "compressing", "exporting", "verifying", "publishing"]
    assert [event.data["block"] for event in told if event.type == "block"] == list(range(1, tiny_models.BLOCKS + 1))
    with sessions() as session:
        names = {file.name for file in repository.artifacts(session, OURS, job_id)}
        found = repository.report(session, OURS, job_id)
    assert {"config.json", "scalpel.json", "report.json", "model.safetensors.index.json"} <= names
    report = Report.model_validate_json(b"".join(store.stream(found.sha256)))
    assert report.provenance == {"job_id": job_id, "attempt": 1, "labels": {"team": "a"}}
    assert all(layer.sparsity == 0.5 for layer in report.layers)
    assert report.estimated is not None and report.estimated.seconds == 7.0, "foretold at submit, for this device"
    with sessions() as session:
        (time,) = expected_times(session, report.estimated.work, "sparsegpt")
    assert (time.device, time.jobs) == (here, 1), "and the next one is foretold from this one"
    assert time.expected_s == pytest.approx(sum(report.seconds[activity] for activity in report.estimated.work), abs=0.1)


def expect(sessions: Sessions, job_id: str, time: TimeEstimate) -> None:
    """Have a job's row say that it was foretold to take so long."""
    with sessions.begin() as session:
        job = session.get_one(Job, job_id)
        job.estimate = Estimate(task="compress", model=job.model, time=(time,)).stored()


def test_a_result_that_regressed_is_published_and_marked(settings: Settings, sessions: Sessions, submit: Submit) -> None:
    root = settings.model_roots[0]
    text = root / "text.txt"
    text.write_text(tiny_models.text())
    job_id = submit(
        model=str(tiny_models.save(root / "llama")),
        recipe={"sparsity": 0.9, "method": "magnitude"},
        calibration={"source": str(text), "nsamples": 4, "seqlen": 32},
        evaluation={"sources": [str(text)], "windows": 2, "seqlen": 32},
        acceptance={"max_kl": 0.0, "max_perplexity_ratio": None},
    )
    store = artifact_store(settings)
    Supervisor(Host(settings, sessions, store, os.environ, threading.Event())).work_off()
    job = read_job(sessions, job_id)
    assert (job.state, job.verdict) == (State.SUCCEEDED, "regressed"), job.error
    assert events(sessions, job_id)[-1].data == {"state": "succeeded", "attempt": 1, "verdict": "regressed"}
    with sessions() as session:
        assert "model.safetensors.index.json" in {file.name for file in repository.artifacts(session, OURS, job_id)}
        report = Report.model_validate_json(b"".join(store.stream(repository.report(session, OURS, job_id).sha256)))
    assert report.verdict is not None
    assert {check.figure: check.passed for check in report.verdict.checks}["kl"] is False
    assert report.acceptance.max_perplexity_ratio is None


def test_a_model_is_evaluated_without_solving(settings: Settings, sessions: Sessions, submit: Submit) -> None:
    root = settings.model_roots[0]
    text = root / "text.txt"
    text.write_text(tiny_models.text())
    model = str(tiny_models.save(root / "llama"))
    job_id = submit(
        task="evaluate",
        model=model,
        reference=model,
        evaluation={"sources": [str(text)], "windows": 2, "seqlen": 32},
        labels={"team": "a"},
    )
    store = artifact_store(settings)
    Supervisor(Host(settings, sessions, store, os.environ, threading.Event())).work_off()
    job = read_job(sessions, job_id)
    assert (job.state, job.verdict, job.task) == (State.SUCCEEDED, "accepted", "evaluate"), job.error
    stages = [event.data["stage"] for event in events(sessions, job_id) if event.type == "stage"]
    assert stages == ["fetching", "evaluating", "publishing"]
    with sessions() as session:
        assert [file.name for file in repository.artifacts(session, OURS, job_id)] == ["report.html", "report.json"]
        report = EvaluationReport.model_validate_json(b"".join(store.stream(repository.report(session, OURS, job_id).sha256)))
    assert report.provenance == {"job_id": job_id, "attempt": 1, "labels": {"team": "a"}}
    assert report.results[0].comparison is not None and report.results[0].comparison.kl == 0.0
    assert report.reference is not None and report.reference.source == model


def test_a_goal_is_reached_and_the_next_one_on_the_model_finds_its_database(
    settings: Settings, sessions: Sessions, submit: Submit
) -> None:
    text = settings.model_roots[0] / "text.txt"
    text.write_text(tiny_models.text())
    levels = [{"bits": 4, "group_size": 32}, {"bits": 8, "group_size": 32}, None]
    asked = {
        "model": str(tiny_models.save(settings.model_roots[0] / "llama", "llama-wide")),
        "calibration": {"source": str(text), "nsamples": 4, "seqlen": 32},
        "evaluation": {"sources": [str(text)], "windows": 2, "seqlen": 32},
        "output": {"format": "compressed-tensors"},
    }
    search = {"max_evaluations": 2, "tokens": 16}
    ids = [
        submit(recipe={}, goal={"metric": "bytes", "factor": factor, "levels": levels, "search": search}, **asked)
        for factor in (1.8, 2.5)
    ]
    store = artifact_store(settings)
    Supervisor(Host(settings, sessions, store, os.environ, threading.Event())).work_off()
    reports = []
    for job_id in ids:
        job = read_job(sessions, job_id)
        assert job.state is State.SUCCEEDED, job.error
        assert job.recipe == {}
        with sessions() as session:
            reports.append(Report.model_validate_json(b"".join(store.stream(repository.report(session, OURS, job_id).sha256))))
    for report, factor in zip(reports, (1.8, 2.5), strict=True):
        assert report.goal is not None
        assert report.goal.asked.factor == factor
        assert report.sizes.artifact_bytes <= report.sizes.source_bytes / factor
    assert [report.goal and report.goal.database.was_there for report in reports] == [False, True]
    assert len({report.goal and report.goal.database.key for report in reports}) == 1
    with sessions() as session:
        (database,) = databases.list_databases(session, OURS).rows
        assert (database.kind, database.model) == ("levels", asked["model"])
        assert reports[0].goal is not None and database.size_bytes == reports[0].goal.database.size_bytes
        assert databases.jobs_of(session, database) == ids


def test_a_model_is_made_faster_and_its_artifact_says_by_how_much(
    settings: Settings, sessions: Sessions, submit: Submit
) -> None:
    text = settings.model_roots[0] / "text.txt"
    text.write_text(tiny_models.text())
    environment = {"batch": 16, "seqlen": 64, "threads": 1}  # much of the time is then spent on what can be cut out
    search = {"max_evaluations": 2, "windows": 1, "tokens": 16}
    job_id = submit(
        model=str(tiny_models.save(settings.model_roots[0] / "llama", "llama-wide")),
        recipe={},
        goal={"metric": "latency", "factor": 1.1, "multiple_of": 8, "environment": environment, "search": search},
        calibration={"source": str(text), "nsamples": 4, "seqlen": 32},
        evaluation={"sources": [str(text)], "windows": 2, "seqlen": 32},
    )
    store = artifact_store(settings)
    Supervisor(Host(settings, sessions, store, os.environ, threading.Event())).work_off()
    job = read_job(sessions, job_id)
    assert job.state is State.SUCCEEDED, job.error
    with sessions() as session:
        report = Report.model_validate_json(b"".join(store.stream(repository.report(session, OURS, job_id).sha256)))
        names = {file.name for file in repository.artifacts(session, OURS, job_id)}
        assert not solutions(session, job_id)  # nothing that another format could be written of
    assert report.structure is not None and report.recipe is None
    assert report.structure.parameters_left < report.structure.parameters
    assert report.structure.speed.measured > 0
    assert report.verification.verdict == "ok"
    assert ("load_shrunk.py" in names) is not report.structure.is_plain


def test_what_an_evaluation_needs_survives_the_line(spec: RunSpec) -> None:
    fields = spec.model_dump(exclude={"task", "recipe", "goal", "calibration", "output", "solutions", "expected_s"})
    wanted = EvaluateSpec(task="evaluate", reference=ModelSource(spec.work, "x", None, ("note",)), **fields)
    assert SPEC.validate_json(wanted.to_line()) == wanted
    assert SPEC.validate_json(spec.to_line()) == spec


def test_benchmarks_by_name_are_fetched_for_their_roles(settings: Settings, sessions: Sessions, submit: Submit) -> None:
    rows: list[str | None] = [tiny_models.text(200) for _ in range(3)]
    c4 = gzip.compress("".join(json.dumps({"text": row}) + "\n" for row in rows).encode())
    with running_hub() as hub:
        hub.datasets["Salesforce/wikitext"] = [Repository({"wikitext-2-raw-v1/test-00000-of-00001.parquet": parquet(rows)})]
        hub.datasets["allenai/c4"] = [Repository({"en/c4-train.00000-of-01024.json.gz": c4})]
        job_id = submit(
            model=str(tiny_models.save(settings.model_roots[0] / "llama")),
            recipe={"sparsity": 0.5},
            calibration={"source": "c4", "nsamples": 4, "seqlen": 32},
            evaluation={"sources": ["wikitext2"], "seqlen": 32},
        )
        connected = settings.model_copy(update={"hub_endpoint": hub.url})
        store = artifact_store(settings)
        Supervisor(Host(connected, sessions, store, os.environ, threading.Event())).work_off()
    job = read_job(sessions, job_id)
    assert job.state is State.SUCCEEDED, job.error
    with sessions() as session:
        report = Report.model_validate_json(b"".join(store.stream(repository.report(session, OURS, job_id).sha256)))
    assert report.calibration_text is not None and report.calibration_text.protocol == "c4"
    (result,) = report.results
    assert (result.text.protocol, result.text.windows, result.text.windows_in_text) == ("wikitext2", 18, 18)
