"""One tenant's rows, and nobody else's, whatever is sent as an id."""

import pytest

from jobs.access.tables import LOCAL_TENANT_ID as OURS
from jobs.access.tenants import create_tenant
from jobs.database import Sessions
from jobs.errors import ArtifactNotFound, JobNotFound
from jobs.repository import artifact, get, list_jobs
from jobs.scope import owned_row
from jobs.tables import Job
from tests.jobs.conftest import Submit


def test_row_is_there_for_its_tenant_alone(sessions: Sessions, submit: Submit) -> None:
    job_id = submit().id
    with sessions.begin() as session:
        other = create_tenant(session, "other").id
        assert owned_row(session, Job, OURS, job_id) is not None
        assert owned_row(session, Job, other, job_id) is None


@pytest.mark.parametrize("text", ["", "\x00", "a\x00b", "../x", "ü" * 26, "\ud800", "%", "x" * 5000], ids=range(8))
def test_what_is_no_id_finds_nothing(sessions: Sessions, submit: Submit, text: str) -> None:
    submit()
    with sessions() as session, pytest.raises(JobNotFound):
        get(session, OURS, text)


def test_nul_in_a_name_or_a_filter_finds_nothing(sessions: Sessions, submit: Submit) -> None:
    job_id = submit(labels={"team": "search"}).id
    with sessions() as session:
        with pytest.raises(ArtifactNotFound):
            artifact(session, OURS, job_id, "config\x00.json")
        assert list_jobs(session, OURS, model="\x00").rows == []
        assert list_jobs(session, OURS, label=("team", "\x00")).rows == []
        assert len(list_jobs(session, OURS, label=("team", "search")).rows) == 1
