"""As whom the hub is asked, and that nobody finds in the cache what the hub would not show him."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from jobs.access.hub_access import HUB_TOKEN, hub_settings
from jobs.access.secrets import MasterKeys, new_master_key, put_secret
from jobs.access.tables import LOCAL_TENANT_ID
from jobs.access.tenants import create_tenant
from jobs.database import Sessions
from jobs.errors import SourceError
from jobs.settings import Settings
from jobs.sourcing.fetch import fetch_model
from jobs.sourcing.known_model import known_model
from tests.jobs.sourcing.local_hub import LocalHub, Repository, running_hub
from tests.jobs.sourcing.test_fetch_models import model_files

COMMIT = "c" * 40
PRIVATE = f"owner/private@{COMMIT}"
OPERATOR_S, THEIRS = "hf_of_the_operator", "hf_of_the_tenant"


@pytest.fixture
def hub() -> Iterator[LocalHub]:
    with running_hub() as hub:
        hub.models["owner/open"] = [Repository(model_files())]
        hub.models["owner/private"] = [Repository(model_files(), COMMIT, gated_for=THEIRS)]
        hub.models["owner/operators"] = [Repository(model_files(), COMMIT, gated_for=OPERATOR_S)]
        yield hub


@pytest.fixture
def settings(hub: LocalHub, tmp_path: Path) -> Settings:
    return Settings(
        data_dir=tmp_path / "data",
        hub_endpoint=hub.url,
        hub_token=SecretStr(OPERATOR_S),
        secret_keys=(SecretStr(new_master_key()),),
    )


def tenant(sessions: Sessions, settings: Settings, name: str, token: str | None = None) -> str:
    with sessions.begin() as session:
        made = create_tenant(session, name).id
        if token is not None:
            put_secret(session, MasterKeys.of(settings), made, HUB_TOKEN, token)
        return made


def of(sessions: Sessions, settings: Settings, tenant_id: str) -> Settings:
    with sessions() as session:
        return hub_settings(session, settings, tenant_id)


def test_tenant_s_own_token_opens_its_models_and_no_server_token_is_sent(
    sessions: Sessions, settings: Settings, hub: LocalHub
) -> None:
    theirs = of(sessions, settings, tenant(sessions, settings, "a", THEIRS))
    assert fetch_model(PRIVATE, theirs).path.is_dir()
    assert hub.tokens == {THEIRS}


def test_private_model_in_the_cache_is_nobody_else_s(sessions: Sessions, settings: Settings, hub: LocalHub) -> None:
    fetch_model(PRIVATE, of(sessions, settings, tenant(sessions, settings, "a", THEIRS)))
    fetch_model(f"owner/operators@{COMMIT}", of(sessions, settings, LOCAL_TENANT_ID))
    strangers = [tenant(sessions, settings, "b"), tenant(sessions, settings, "c", "hf_of_another")]
    for stranger in strangers:
        for source in (PRIVATE, f"owner/operators@{COMMIT}"):
            with pytest.raises(SourceError, match="access"):
                fetch_model(source, of(sessions, settings, stranger))
            with pytest.raises(SourceError, match="access"):
                known_model(source, of(sessions, settings, stranger))
    with pytest.raises(SourceError, match="access"):
        fetch_model(PRIVATE, of(sessions, settings, LOCAL_TENANT_ID))


def test_tenant_without_a_token_sends_none_unless_the_operator_shares(
    sessions: Sessions, settings: Settings, hub: LocalHub
) -> None:
    stranger = tenant(sessions, settings, "a")
    fetch_model("owner/open", of(sessions, settings, stranger))
    assert hub.tokens == {None}
    shared = settings.model_copy(update={"share_hub_token": True})
    fetch_model(f"owner/operators@{COMMIT}", of(sessions, shared, stranger))
    assert hub.tokens == {None, OPERATOR_S}
    with pytest.raises(SourceError, match="access"):  # the operator has thought better of it
        fetch_model(f"owner/operators@{COMMIT}", of(sessions, settings, stranger))


def test_local_tenant_works_as_the_operator_until_it_has_a_token_of_its_own(sessions: Sessions, settings: Settings) -> None:
    assert of(sessions, settings, LOCAL_TENANT_ID) == settings
    with sessions.begin() as session:
        put_secret(session, MasterKeys.of(settings), LOCAL_TENANT_ID, HUB_TOKEN, THEIRS)
    own = of(sessions, settings, LOCAL_TENANT_ID)
    assert own.hub_token == SecretStr(THEIRS)
    assert own.hub_cache_dir != settings.hub_cache_dir


def test_texts_of_the_cache_are_kept_apart_too_and_demo_models_are_not(sessions: Sessions, settings: Settings) -> None:
    folders = {
        of(sessions, settings, tenant(sessions, settings, name, token)).hub_cache_dir
        for name, token in (("a", THEIRS), ("b", THEIRS), ("c", None), ("d", None))
    }
    assert len(folders | {settings.hub_cache_dir}) == 4
    assert of(sessions, settings, tenant(sessions, settings, "e", THEIRS)).cache_dir == settings.cache_dir
