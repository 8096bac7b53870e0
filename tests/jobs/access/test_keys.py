"""Keys: shown once, kept as a hash, and worth nothing once revoked, expired or disabled."""

import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from jobs.access.keys import SCOPES, authenticate, create_key, local_key
from jobs.access.tables import LOCAL_TENANT_ID
from jobs.database import Sessions
from jobs.errors import Unauthenticated
from jobs.tables import ApiKey, Tenant


def test_key_opens_what_its_scopes_say_and_only_its_hash_is_kept(sessions: Sessions) -> None:
    with sessions.begin() as session:
        row, token = create_key(session, LOCAL_TENANT_ID, "ci", ["write", "read"])
    with sessions.begin() as session:
        caller = authenticate(session, token)
        kept = session.get_one(ApiKey, row.id)
    assert (caller.tenant_id, caller.scopes, caller.key_id) == (LOCAL_TENANT_ID, frozenset({"read", "write"}), row.id)
    assert token.startswith(kept.prefix)
    assert token not in str({column.key: getattr(kept, column.key) for column in ApiKey.__table__.columns})
    assert kept.last_used_at is not None


def test_unknown_key_opens_nothing(sessions: Sessions) -> None:
    with sessions.begin() as session, pytest.raises(Unauthenticated, match="unknown"):
        authenticate(session, "scalpel_" + "x" * 43)


@pytest.mark.parametrize("change", ["revoked", "expired", "disabled"])
def test_key_opens_nothing_any_more(sessions: Sessions, change: str) -> None:
    past = datetime.now(UTC) - timedelta(seconds=1)
    with sessions.begin() as session:
        row, token = create_key(session, LOCAL_TENANT_ID, "old", SCOPES, past if change == "expired" else None)
        if change == "revoked":
            row.revoked_at = past
        if change == "disabled":
            session.get_one(Tenant, LOCAL_TENANT_ID).disabled_at = past
    with sessions.begin() as session, pytest.raises(Unauthenticated, match="expired" if change == "expired" else "revoked"):
        authenticate(session, token)


def test_local_key_is_kept_in_a_file_of_its_user_alone_and_made_again_when_it_opens_nothing(
    sessions: Sessions, tmp_path: Path
) -> None:
    file = tmp_path / "local.key"
    with sessions.begin() as session:
        first = local_key(session, file)
        assert local_key(session, file) == first
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        session.query(ApiKey).delete()
        second = local_key(session, file)
        assert second != first
        assert authenticate(session, second).scopes == set(SCOPES)
    assert file.read_text().strip() == second
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
