"""The audit: written with the change, read by its tenant alone, changed by nobody."""

import pytest
from sqlalchemy import delete, update
from sqlalchemy.exc import DBAPIError

from jobs.access import audit
from jobs.access.keys import SCOPES, Caller
from jobs.access.tables import LOCAL_TENANT_ID as OURS
from jobs.access.tenants import create_tenant
from jobs.database import Sessions
from jobs.tables import AuditEntry

CALLER = Caller(OURS, frozenset(SCOPES), "K" * 26, "10.0.0.7")


def test_entry_says_who_did_what(sessions: Sessions) -> None:
    with sessions.begin() as session:
        audit.record(session, CALLER, "job.submit", "J" * 26)
        audit.record(session, audit.operator_on(OURS), "quotas.set", "x" * 999)
    with sessions() as session:
        operators, users = audit.list_entries(session, OURS).rows
    assert (users.key_id, users.address, users.action, users.resource) == ("K" * 26, "10.0.0.7", "job.submit", "J" * 26)
    assert (operators.key_id, operators.address, operators.outcome) == (None, "operator", "done")


def test_change_that_is_rolled_back_leaves_no_entry(sessions: Sessions) -> None:
    with pytest.raises(ZeroDivisionError), sessions.begin() as session:
        audit.record(session, CALLER, "job.submit")
        raise ZeroDivisionError
    with sessions() as session:
        assert audit.newest(session, 10) == []


@pytest.mark.parametrize(
    "statement", [update(AuditEntry).values(action="nothing"), delete(AuditEntry)], ids=["change", "delete"]
)
def test_database_lets_nobody_change_or_delete_an_entry(sessions: Sessions, statement: object) -> None:
    with sessions.begin() as session:
        audit.record(session, CALLER, "job.submit")
    with pytest.raises(DBAPIError, match="append-only"), sessions.begin() as session:
        session.execute(statement)  # type: ignore[call-overload]
    with sessions() as session:
        assert [entry.action for entry in audit.newest(session, 10)] == ["job.submit"]


def test_pages_hold_every_entry_of_the_tenant_once(sessions: Sessions) -> None:
    with sessions.begin() as session:
        for number in range(5):
            audit.record(session, CALLER, f"job.{number}")
        audit.record(session, audit.operator_on(create_tenant(session, "other").id), "tenant.create")
    seen, cursor = [], None
    with sessions() as session:
        while True:
            page = audit.list_entries(session, OURS, cursor=cursor, limit=2)
            seen += [entry.action for entry in page.rows]
            if (cursor := page.next_cursor) is None:
                break
        assert sorted(seen) == [f"job.{number}" for number in range(5)]
        assert len(audit.newest(session, 10)) == 6
        assert [entry.action for entry in audit.newest(session, 1)] == ["tenant.create"]
