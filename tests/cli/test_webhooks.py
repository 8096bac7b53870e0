"""`scalpel webhooks` and `scalpel publish`, through a running service."""

import json
from io import StringIO

import pytest

from cli.exits import Exit
from jobs.publications import Published
from tests.api.serving import Served
from tests.api.standin import Worker
from tests.cli.conftest import Scalpel

ADDRESS = "https://hooks.example.com/scalpel"


def test_webhook_is_added_tested_listed_and_removed(scalpel: Scalpel, service: Served) -> None:
    made = scalpel("webhooks", "add", ADDRESS, "--event", "job.failed", "--description", "pager")
    secret, webhook_id = made.out.strip(), made.err.partition(":")[0]
    assert (made.code, secret.startswith("whsec_")) == (Exit.OK, True)
    (listed,) = json.loads(scalpel("webhooks", "list", "--json").out)
    assert (listed["id"], listed["url"], listed["events"]) == (webhook_id, ADDRESS, ["job.failed"])
    assert secret not in scalpel("webhooks", "list").out
    assert scalpel("webhooks", "deliveries", webhook_id).out == "no deliveries\n"
    for _ in range(3):
        assert scalpel("webhooks", "test", webhook_id).code == Exit.OK
    log = json.loads(scalpel("webhooks", "deliveries", webhook_id, "--limit", "2", "--json").out)
    assert [entry["type"] for entry in log] == ["webhook.test"] * 2
    assert "pending" in scalpel("webhooks", "deliveries", webhook_id).out
    assert scalpel("webhooks", "remove", webhook_id).out == f"{webhook_id} ({ADDRESS}) is removed\n"
    assert scalpel("webhooks", "test", webhook_id).code == Exit.NOT_FOUND


def test_address_inside_is_refused_in_one_line(scalpel: Scalpel, service: Served) -> None:
    ran = scalpel("webhooks", "add", "https://169.254.169.254/")
    assert (ran.code, "not public" in ran.error_line) == (Exit.REFUSED, True)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "--hub or --bucket"),
        (["--hub", "a/b", "--bucket", "s3://a/b"], "--hub or --bucket"),
        (["--bucket", "s3://a/b", "--public"], "--hub"),
    ],
    ids=str,
)
def test_publication_names_one_target(scalpel: Scalpel, arguments: list[str], words: str) -> None:
    ran = scalpel("publish", "some-job", *arguments)
    assert (ran.code, words in ran.error_line) == (Exit.REFUSED, True)


def test_publication_is_watched_to_its_end(
    scalpel: Scalpel, service: Served, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = scalpel("submit", "demo:smollm2-135m", "--bits", "4").out.strip()
    assert worker.claim() == job_id
    worker.succeed(job_id, {"report.json": b"{}"})
    assert "does not publish there" in scalpel("publish", job_id, "--bucket", "s3://elsewhere/x").error_line
    monkeypatch.setattr("sys.stdin", StringIO("hf_" + "T" * 34))
    assert scalpel("hub-token", "set").code == Exit.OK
    published = scalpel("publish", job_id, "--hub", "owner/model", "--revision", "2of4").out.strip()
    assert worker.claim() == published
    worker.publish(published, Published(url="https://hub.example/c", revision="c", files=2, size_bytes=1_500_000))
    assert "2 files (1.5 MB) are at https://hub.example/c" in scalpel("watch", published).out
    (told,) = [job for job in json.loads(scalpel("jobs", "--json").out) if job["id"] == published]
    assert told["request"] == {"target": {"hub": "owner/model", "private": True, "revision": "2of4"}}
    assert f"publish {job_id} to owner/model" in " ".join(scalpel("jobs").out.split())


def test_publication_of_an_unknown_job_is_not_found(scalpel: Scalpel, service: Served) -> None:
    assert scalpel("publish", "nobody", "--hub", "a/b").code == Exit.NOT_FOUND
