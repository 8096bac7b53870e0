"""`scalpel databases` tells what goals were chosen from."""

import json

from compression.goals.result import DatabaseUse
from jobs import attempts
from jobs.database import Sessions
from jobs.databases import Chosen
from tests.api.serving import Served
from tests.cli.conftest import Scalpel


def test_databases_are_listed_and_one_with_its_jobs(service: Served, scalpel: Scalpel, sessions: Sessions) -> None:
    assert scalpel("databases").out == "no databases\n"
    job_id = scalpel("submit", "demo:smollm2-135m", "--bits", "4").out.strip()
    use = DatabaseUse(key="0" * 32, levels=5, size_bytes=461_000_000, seconds=236.0, was_there=False)
    with sessions.begin() as session:
        job = attempts.claim(session, "01W/0", 60.0)
        assert job is not None
        attempts.succeed(session, job_id, job.attempt, [], chosen=Chosen("levels", use))
    listed = scalpel("databases").out
    for words in ("levels", "demo:smollm2-135m", "461 MB", "3 min 56 s"):
        assert words in listed
    assert job_id not in listed
    (found,) = json.loads(scalpel("databases", "--json").out)
    assert (found["key"], found["size_bytes"]) == (use.key, use.size_bytes)
    assert job_id in scalpel("databases", found["id"]).out.replace("\n", "")
    assert json.loads(scalpel("databases", found["id"], "--json").out)[0]["jobs"] == [job_id]
    assert scalpel("databases", "nothing").code != 0
