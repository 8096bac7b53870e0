import pytest

from compression.errors import InvalidOptions
from jobs.access.tables import LOCAL_TENANT_ID
from jobs.access.tenants import create_tenant, find_tenant, list_tenants, rename_tenant, set_disabled
from jobs.database import Sessions
from jobs.errors import TenantExists, TenantNotFound


def test_tenant_is_found_by_name_and_by_id(sessions: Sessions) -> None:
    with sessions.begin() as session:
        made = create_tenant(session, "search-team")
        assert find_tenant(session, "search-team") is made
        assert find_tenant(session, made.id) is made
        assert [tenant.name for tenant in list_tenants(session)] == ["local", "search-team"]
        with pytest.raises(TenantNotFound, match="nobody"):
            find_tenant(session, "nobody")


def test_name_is_taken_once(sessions: Sessions) -> None:
    with sessions.begin() as session:
        create_tenant(session, "a")
        with pytest.raises(TenantExists):
            create_tenant(session, "a")
        with pytest.raises(TenantExists):
            rename_tenant(session, "a", "local")
        assert rename_tenant(session, "a", "a").name == "a"
        assert rename_tenant(session, "a", "b").name == "b"
        assert find_tenant(session, LOCAL_TENANT_ID).name == "local"


@pytest.mark.parametrize("name", ["", "-a", "A", "a b", "ä", "a" * 64, "a\n"])
def test_name_that_is_none_is_refused(sessions: Sessions, name: str) -> None:
    with sessions.begin() as session, pytest.raises(InvalidOptions, match="a-z"):
        create_tenant(session, name)


def test_tenant_is_disabled_once_and_enabled_again(sessions: Sessions) -> None:
    with sessions.begin() as session:
        create_tenant(session, "a")
        first = set_disabled(session, "a", is_disabled=True).disabled_at
        assert first is not None
        assert set_disabled(session, "a", is_disabled=True).disabled_at == first
        assert set_disabled(session, "a", is_disabled=False).disabled_at is None
