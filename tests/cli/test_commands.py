"""The commands that talk to a service."""

import json
import signal
import socket
import threading
from pathlib import Path

import pytest

from cli.exits import Exit
from cli.service import address_file
from tests.api.serving import Served
from tests.api.standin import Worker
from tests.cli.conftest import Scalpel

MODEL = "demo:smollm2-135m"


@pytest.fixture
def job_id(service: Served, scalpel: Scalpel) -> str:
    return scalpel("submit", MODEL, "--pattern", "2:4").out.strip()


def test_submit_prints_the_id_alone_on_stdout(service: Served, scalpel: Scalpel) -> None:
    ran = scalpel("submit", MODEL, "--sparsity", 0.5)
    assert ran.code == Exit.OK
    job_id = ran.out.strip()
    expected, note, hint = ran.err.splitlines()
    assert expected == "expected: artifact 538 MB", "no job has run here yet, so there is no time"
    assert note.startswith("note: In the format dense") and "no smaller than its source" in note
    assert hint == f"queued; follow it with: scalpel watch {job_id}"
    assert json.loads(scalpel("jobs", "--json").out)[0]["id"] == job_id


def test_submit_sends_what_the_flags_say_and_no_more(service: Served, scalpel: Scalpel, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.json"
    recipe.write_text('{"damp": 0.05, "bits": 8}')
    ran = scalpel(
        "submit", MODEL, "--recipe", recipe, "--sparsity", 0.5, "--pattern", "2:4", "--bits", 4, "--group-size", 64,
        "--symmetric", "--offset", "zero_point", "--skip-block", 0, "--skip-block", -1, "--ignore", "*.down_proj",
        "--override", "*.v_proj: bits=8", "--override", "*.o_proj: none", "--format", "dense",
        "--nsamples", 8, "--seqlen", 256, "--seed", 3, "--calibration", "sotu", "--eval", "none",
        "--label", "team=search", "--json",
    )  # fmt: skip
    assert json.loads(ran.out)["request"] == {
        "model": MODEL,
        "recipe": {
            "sparsity": 0.5, "pattern": "2:4", "bits": 4, "group_size": 64, "symmetric": True, "damp": 0.05,
            "offset": "zero_point",
            "ignore": ["*.down_proj"], "skip_blocks": [0, -1],
            "overrides": {"*.v_proj": {"bits": 8}, "*.o_proj": None},
        },
        "calibration": {"source": "sotu", "nsamples": 8, "seqlen": 256, "seed": 3},
        "evaluation": {"sources": []},
        "output": {"format": "dense"},
        "labels": {"team": "search"},
    }  # fmt: skip


def test_estimate_says_what_a_job_would_need_and_queues_none(service: Served, scalpel: Scalpel) -> None:
    ran = scalpel("estimate", MODEL, "--bits", 4, "--nsamples", 8, "--seqlen", 256, "--format", "gptq")
    assert ran.code == Exit.OK
    assert "134,515,008, 106,168,320 of them compressed" in ran.out
    assert "no job of this kind and size has run here yet" in ran.out
    assert "spqr" in ran.out and "it holds what the method spqr makes and nothing else" in ran.out
    assert json.loads(scalpel("jobs", "--json").out or "[]") == []


def test_estimate_takes_the_flags_of_submit(service: Served, scalpel: Scalpel) -> None:
    solving = json.loads(scalpel("estimate", MODEL, "--pattern", "2:4", "--nsamples", 4, "--json").out)
    assert next(found["format"] for found in solving["formats"] if found["refused"] is None) == "dense"
    evaluating = json.loads(scalpel("estimate", MODEL, "--evaluate", "--eval", "sotu", "--json").out)
    assert evaluating["task"] == "evaluate" and evaluating["formats"] == []
    assert evaluating["memory"][0]["host_peak_bytes"] > 0


def test_estimate_refuses_what_submit_refuses(service: Served, scalpel: Scalpel) -> None:
    ran = scalpel("estimate", MODEL, "--bits", 4, "--group-size", 128)
    assert ran.code == Exit.REFUSED
    assert "128 does not divide the 576 inputs of" in ran.error_line


def test_submit_can_force_the_exact_method(service: Served, scalpel: Scalpel) -> None:
    ran = scalpel("submit", MODEL, "--method", "obc", "--sparsity", 0.5, "--pattern", "block:4", "--force", "--json")
    sent = {"method": "obc", "sparsity": 0.5, "pattern": "block:4", "force": True}
    assert json.loads(ran.out)["request"]["recipe"] == sent


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["submit", MODEL], "recipe: no target (allowed: name at least one of sparsity, pattern, bits)"),
        (["submit", MODEL, "--bits", 7], "recipe.bits"),
        (["submit", "demo:nobody", "--bits", 4], "known: demo:smollm2-135m"),
        (["submit", MODEL, "--bits", "many"], "--bits many: a whole number or `ternary`"),
        (["submit", MODEL, "--label", "team"], "KEY=VALUE"),
        (["submit", MODEL, "--recipe", "/nowhere.json"], "/nowhere.json"),
        (["submit"], "MODEL"),
        (["submit", MODEL, "--bits", 4, "--group-size", 128], "128 does not divide the 576 inputs of"),
        (["submit", MODEL, "--bits", 4, "--format", "jpeg"], "output.format"),
        (["export", "some-job"], "--format is missing"),
        (["jobs", "--state", "asleep"], "state"),
        (["jobs", "--label", "team"], "label"),
        (["operate"], "operate"),
    ],
    ids=lambda value: " ".join(map(str, value[:3])) if isinstance(value, list) else "",
)
def test_refusal_is_one_line_that_names_the_cause(
    service: Served, scalpel: Scalpel, arguments: list[object], words: str
) -> None:
    ran = scalpel(*arguments)
    assert (ran.code, ran.out) == (Exit.REFUSED, "")
    assert ran.error_line.startswith("scalpel: ")
    assert words in ran.error_line


@pytest.mark.parametrize(
    "command",
    [
        "watch",
        "show",
        "compare nobody",
        "retry",
        "report",
        "download",
        "cancel",
        "pause",
        "resume",
        "delete",
        "delete --artifacts",
        "export --format dense",
    ],
)
def test_unknown_job_is_not_found(service: Served, scalpel: Scalpel, command: str) -> None:
    ran = scalpel(*command.split(), "nobody")
    assert (ran.code, ran.error_line) == (Exit.NOT_FOUND, "scalpel: Job not found: no job nobody")


@pytest.mark.parametrize(
    "command", [["jobs"], ["methods"], ["submit", MODEL, "--bits", "4"], ["watch", "some-job"]], ids=" ".join
)
def test_service_that_is_not_there_is_named_with_the_cure(scalpel: Scalpel, command: list[str]) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        ran = scalpel(*command, "--url", url)
    assert ran.code == Exit.UNREACHABLE
    assert url in ran.error_line
    assert "scalpel serve" in ran.error_line


def test_service_is_found_by_the_note_in_its_data_folder(
    service: Served, scalpel: Scalpel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SCALPEL_URL")
    address_file(tmp_path).write_text(json.dumps({"url": service.url}))
    assert scalpel("jobs", "--data-dir", tmp_path).out == "no jobs\n"


def test_jobs_are_shown_as_a_table_and_filtered(job_id: str, scalpel: Scalpel, worker: Worker) -> None:
    labelled = scalpel("submit", MODEL, "--bits", 4, "--label", "team=search").out.strip()
    worker.block(worker.claim(), 3)
    table = scalpel("jobs").out
    assert [word in table for word in (job_id, labelled, "running", "10%", "pattern 2:4", "bits 4")] == [True] * 6
    assert labelled not in scalpel("jobs", "--state", "running").out
    assert job_id not in scalpel("jobs", "--label", "team=search").out
    assert len(json.loads(scalpel("jobs", "--limit", 1, "--json").out)) == 1


def test_cancel_says_what_the_job_is_now(job_id: str, scalpel: Scalpel, worker: Worker) -> None:
    second = scalpel("submit", MODEL, "--bits", 4).out.strip()
    worker.claim()
    assert scalpel("cancel", second).out == f"{second} is cancelled\n"
    assert scalpel("cancel", job_id).out == f"{job_id} is running; it stops at the worker's next heartbeat\n"
    assert scalpel("cancel", second).code == Exit.REFUSED


def test_pause_and_resume_say_what_the_job_is_now(job_id: str, scalpel: Scalpel, worker: Worker) -> None:
    assert scalpel("pause", job_id).out == f"{job_id} is paused\n"
    assert scalpel("resume", job_id).out == f"{job_id} is queued\n"
    assert scalpel("resume", job_id).code == Exit.REFUSED
    worker.claim()
    assert scalpel("pause", job_id).out == f"{job_id} is running; it stops at the worker's next heartbeat\n"


def test_methods_are_listed_with_what_they_are_good_for(service: Served, scalpel: Scalpel) -> None:
    table = scalpel("methods").out
    assert "sparsegpt" in table
    assert "Pruning with the least loss" in table
    assert {method["name"] for method in json.loads(scalpel("methods", "--json").out)} >= {"sparsegpt", "optq", "joint"}


def test_formats_are_listed_with_what_loads_them_and_what_they_refuse(service: Served, scalpel: Scalpel) -> None:
    found = json.loads(scalpel("formats", "--json").out)
    assert {entry["name"] for entry in found} >= {"dense"}
    listed = scalpel("formats").out
    assert "dense" in listed and "vLLM" in listed
    for entry in found:
        for wish, reason in entry["refuses"].items():
            (line,) = (each for each in listed.splitlines() if each.startswith(entry["name"]) and each.endswith(f": {reason}"))
            assert wish in line


def finish(worker: Worker, folder: Path) -> None:
    """What a worker does with a job that it brings to a good end."""
    job_id = worker.claim()
    worker.record(job_id, "stage", stage="compressing")
    worker.block(job_id, 3)
    worker.record(job_id, "note", level="warning", message="one layer fell back")
    worker.succeed(job_id, {path.name: path.read_bytes() for path in folder.iterdir()}, {"block": b"solutions"})


def test_watch_follows_a_job_to_its_good_end(job_id: str, scalpel: Scalpel, worker: Worker, compressed: Path) -> None:
    finishing = threading.Timer(0.3, finish, args=(worker, compressed))
    finishing.start()
    ran = scalpel("watch", job_id)
    finishing.join()
    assert ran.code == Exit.OK
    assert ran.err.splitlines() == [
        "queued", "running", "compressing", "block 3 of 30  relative error 0.02  12 s left", "warning: one layer fell back",
        "succeeded",
    ]  # fmt: skip
    assert f"job {job_id} succeeded in" in ran.out
    assert "perplexity" in ran.out
    assert "sparsity 50.00%" in ran.out


def test_watch_of_a_failed_job_exits_1_and_says_why(job_id: str, scalpel: Scalpel, worker: Worker) -> None:
    worker.fail(worker.claim())
    ran = scalpel("watch", job_id)
    assert (ran.code, ran.out) == (Exit.FAILED, "")
    assert ran.err.splitlines()[-1] == f"scalpel: job {job_id} failed: The mathematics broke down: layer 3: NaN"


def test_watch_of_a_cancelled_job_exits_1(job_id: str, scalpel: Scalpel) -> None:
    scalpel("cancel", job_id)
    ran = scalpel("watch", job_id)
    assert (ran.code, ran.err.splitlines()[-1]) == (Exit.FAILED, f"scalpel: job {job_id} cancelled")


def test_interrupted_watch_leaves_the_job_alone_and_says_how_to_go_on(job_id: str, scalpel: Scalpel) -> None:
    main_thread = threading.main_thread().ident
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts background jobs with it ignored
    try:
        threading.Timer(2, signal.pthread_kill, args=(main_thread, signal.SIGINT)).start()
        ran = scalpel("watch", job_id)
    finally:
        signal.signal(signal.SIGINT, before)
    assert ran.code == Exit.INTERRUPTED
    assert ran.err.splitlines()[-1] == f"scalpel: the job goes on; `scalpel watch {job_id}` takes it up again"
    assert json.loads(scalpel("jobs", "--json").out)[0]["state"] == "queued"


def test_submit_and_watch_in_one_keeps_stdout_for_the_answer(
    service: Served, scalpel: Scalpel, worker: Worker, compressed: Path
) -> None:
    def finish_soon() -> None:
        for _ in range(100):
            try:
                return finish(worker, compressed)
            except AssertionError:  # nothing is queued yet
                threading.Event().wait(0.05)

    finishing = threading.Thread(target=finish_soon)
    finishing.start()
    ran = scalpel("submit", MODEL, "--pattern", "2:4", "--watch", "--json")
    finishing.join()
    assert (ran.code, json.loads(ran.out)["state"]) == (Exit.OK, "succeeded")


def test_report_and_download_of_a_finished_job(
    job_id: str, scalpel: Scalpel, worker: Worker, compressed: Path, tmp_path: Path
) -> None:
    finish(worker, compressed)
    assert "What was lost" in scalpel("report", job_id).out
    assert json.loads(scalpel("report", job_id, "--json").out) == json.loads((compressed / "report.json").read_bytes())
    ran = scalpel("download", job_id, "-o", tmp_path / "out")
    assert ran.code == Exit.OK
    files = {path.name: path.read_bytes() for path in compressed.iterdir()}
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == files
    assert f"{len(files)} files, verified" in ran.out


def test_report_and_download_of_an_unfinished_job_are_refused(job_id: str, scalpel: Scalpel, tmp_path: Path) -> None:
    assert scalpel("report", job_id).code == Exit.REFUSED
    ran = scalpel("download", job_id, "-o", tmp_path / "out")
    assert (ran.code, "has no files" in ran.err) == (Exit.NOT_FOUND, True)
    assert not (tmp_path / "out").exists()


def test_finished_job_is_exported_and_watched(job_id: str, scalpel: Scalpel, worker: Worker, compressed: Path) -> None:
    assert scalpel("export", job_id, "--format", "dense").error_line == (
        f"scalpel: Nothing to export: job {job_id} cannot be exported: it is queued; solutions are kept once it has succeeded"
    )
    finish(worker, compressed)
    ran = scalpel("export", job_id, "--format", "dense", "--label", "team=search")
    assert ran.code == Exit.OK
    export = ran.out.strip()
    (told,) = json.loads(scalpel("jobs", "--label", "team=search", "--json").out)
    assert (told["id"], told["task"], told["parent"]) == (export, "export", job_id)
    assert f"dense of {job_id}" in " ".join(scalpel("jobs").out.split())
    finish(worker, compressed)
    assert f"job {export} succeeded" in scalpel("watch", export).out


def test_delete_takes_the_files_and_then_the_job(job_id: str, scalpel: Scalpel, worker: Worker) -> None:
    assert scalpel("delete", job_id).code == Exit.REFUSED, "it has not ended"
    worker.succeed(worker.claim(), {"report.json": b"{}", "model.safetensors": b"weights"})
    assert scalpel("delete", job_id, "--artifacts").out == f"the files of {job_id} are deleted; its report stays\n"
    assert scalpel("report", job_id, "--json").code == Exit.OK
    assert scalpel("delete", job_id).out == f"{job_id} is deleted\n"
    assert scalpel("report", job_id).code == Exit.NOT_FOUND


@pytest.mark.parametrize("flags", [["--solutions"], ["--artifacts", "--cascade"]], ids=" ".join)
def test_delete_refuses_flags_that_do_not_go_together(service: Served, scalpel: Scalpel, flags: list[str]) -> None:
    assert scalpel("delete", "some-job", *flags).code == Exit.REFUSED


def test_job_is_shown_with_what_comes_next(job_id: str, scalpel: Scalpel, worker: Worker) -> None:
    queued = scalpel("show", job_id)
    assert (queued.code, f"next: scalpel watch {job_id}" in queued.out) == (Exit.OK, True)
    assert "sparsegpt" in queued.out
    worker.fail(worker.claim())
    failed = scalpel("show", job_id).out
    assert "The mathematics broke down: layer 3: layer 3: NaN" in failed and f"scalpel retry {job_id}" in failed
    assert json.loads(scalpel("show", job_id, "--json").out)["error"]["type"] == "numerical-error"


def test_failed_job_is_asked_for_again(job_id: str, scalpel: Scalpel, worker: Worker) -> None:
    early = scalpel("retry", job_id)
    assert (early.code, "is queued" in early.error_line) == (Exit.REFUSED, True)
    worker.fail(worker.claim())
    again = scalpel("retry", job_id)
    assert (again.code, again.out.strip() != job_id) == (Exit.OK, True)
    first, second = (json.loads(scalpel("show", one, "--json").out) for one in (job_id, again.out.strip()))
    assert (first["request"], second["state"]) == (second["request"], "queued")


def test_actions_answer_in_json(job_id: str, scalpel: Scalpel) -> None:
    for action, state in (("pause", "paused"), ("resume", "queued"), ("cancel", "cancelled")):
        assert json.loads(scalpel(action, job_id, "--json").out)["state"] == state
    events = [json.loads(line) for line in scalpel("watch", job_id, "--json").out.splitlines()]
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert json.loads(scalpel("delete", job_id, "--json").out) == {"id": job_id, "deleted": "job"}
