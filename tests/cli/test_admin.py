"""`scalpel admin`, on the database of a data folder, without a service."""

import json
import os
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from cli.exits import Exit
from jobs.access.secrets import MasterKeys, new_master_key, put_secret, read_secret
from jobs.access.tables import LOCAL_TENANT_ID
from jobs.database import Sessions
from jobs.settings import Settings
from tests.api.test_auth import with_key
from tests.cli.conftest import Scalpel


@pytest.fixture
def admin(scalpel: Scalpel, settings: Settings) -> Scalpel:
    """`scalpel admin ...` on the migrated database of the test's data folder, where it looks by SCALPEL_DATA_DIR."""
    assert Path(os.environ["SCALPEL_DATA_DIR"]) == settings.data_dir
    return lambda *arguments: scalpel("admin", *arguments)


def test_tenant_is_made_with_a_key_that_opens_its_own_rooms(admin: Scalpel, app: FastAPI) -> None:
    made = admin("tenants", "create", "search")
    assert made.code == Exit.OK
    key = admin("keys", "create", "search", "first", "--scope", "read", "--scope", "write").out.strip()
    with with_key(app, key) as client:
        check_key(admin, client)


def check_key(admin: Scalpel, client: TestClient) -> None:
    """Through all that may become of it."""
    assert client.get("/v1/me").json()["tenant"]["name"] == "search"
    assert client.get("/v1/jobs").json()["items"] == []
    assert admin("tenants", "disable", "search").code == Exit.OK
    assert client.get("/v1/me").status_code == 401
    assert admin("tenants", "enable", "search").code == Exit.OK
    assert client.get("/v1/me").status_code == 200
    (row,) = json.loads(admin("keys", "list", "search", "--json").out)
    assert admin("keys", "revoke", "search", row["id"]).code == Exit.OK
    assert client.get("/v1/me").status_code == 401
    assert admin("tenants", "rename", "search", "found").code == Exit.OK
    assert [tenant["name"] for tenant in json.loads(admin("tenants", "list", "--json").out)] == ["found", "local"]
    shown = admin("tenants", "list").out
    assert "found" in shown and LOCAL_TENANT_ID in shown


def test_everything_done_is_in_the_audit_of_the_operator(admin: Scalpel) -> None:
    admin("tenants", "create", "search")
    admin("quotas", "set", "search", "running=2", "queued=none")
    admin("keys", "create", "search", "first", "--scope", "read")
    admin("keys", "create", "local", "other", "--scope", "read")
    rows = json.loads(admin("audit", "--tenant", "search", "--json").out)
    assert [row["action"] for row in rows] == ["tenant.create", "quotas.set", "key.create"]
    assert {row["address"] for row in rows} == {"operator"}
    assert rows[1]["resource"] == "running=2, queued=none"
    everything = admin("audit", "--limit", 2).out
    assert everything.count("key.create") == 2 and "quotas.set" not in everything


def test_limits_are_set_shown_and_given_back(admin: Scalpel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCALPEL_QUOTA_QUEUED", "5")
    monkeypatch.setenv("SCALPEL_QUOTA_RUNNING", "1")
    ran = admin("quotas", "set", "local", "running=none", "device_s=3600")
    assert ran.out == "local: running unlimited, queued 5, stored_bytes unlimited, device_s 3600\n"
    rows = {row["quota"]: row for row in json.loads(admin("quotas", "show", "local", "--json").out)}
    assert (rows["running"]["limit"], rows["running"]["set_for"]) == (None, "this tenant")
    assert (rows["queued"]["limit"], rows["queued"]["set_for"], rows["queued"]["used"]) == (5, "all tenants", 0)
    assert "running 1," in admin("quotas", "set", "local", "running=default").out


@pytest.mark.parametrize("change", ["running", "running=", "running=-1", "running=1.5", "speed=1", "=", f"queued={10**16}"])
def test_limit_that_is_none_is_refused_with_what_is_allowed(admin: Scalpel, change: str) -> None:
    ran = admin("quotas", "set", "local", change)
    assert ran.code == Exit.REFUSED
    assert "running, queued, stored_bytes, device_s" in ran.error_line


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("tenants", "disable", "nobody"), Exit.NOT_FOUND),
        (("keys", "revoke", "local", "nobody"), Exit.NOT_FOUND),
        (("tenants", "create", "local"), Exit.REFUSED),
        (("tenants", "create", "Not A Name"), Exit.REFUSED),
        (("keys", "create", "local", "x", "--scope", "root"), Exit.REFUSED),
        (("secrets", "rotate"), Exit.REFUSED),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_mistake_is_one_line_and_leaves_no_trace(admin: Scalpel, arguments: tuple[str, ...], code: Exit) -> None:
    ran = admin(*arguments)
    assert ran.code == code
    assert ran.error_line
    assert admin("audit").out == "nothing yet\n"


def test_rotation_says_which_keys_are_still_needed(
    admin: Scalpel, settings: Settings, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = new_master_key(), admin("secrets", "new-key").out.strip()
    with sessions.begin() as session:
        put_secret(session, MasterKeys([old]), LOCAL_TENANT_ID, "hub-token", "hf_word")
    monkeypatch.setenv("SCALPEL_SECRET_KEYS", new)
    lost = admin("secrets", "rotate")
    assert lost.code == Exit.FAILED
    assert MasterKeys([old]).newest in lost.out and "1 secrets cannot be read" in lost.err
    monkeypatch.setenv("SCALPEL_SECRET_KEYS", f"{new},{old}")
    done = json.loads(admin("secrets", "rotate", "--json").out)
    assert (done["rotated"], done["in_use"]) == (1, {MasterKeys([new]).newest: 1})
    with sessions() as session:
        assert read_secret(session, MasterKeys([new]), LOCAL_TENANT_ID, "hub-token") == "hf_word"
    assert "secrets.rotate" in admin("audit").out


def test_keys_of_the_data_folder_are_used_where_none_are_configured(admin: Scalpel, settings: Settings) -> None:
    key = new_master_key()
    settings.secret_key_file.write_text(f"{key}\n")
    assert MasterKeys([key]).newest in admin("secrets", "rotate").out


def test_database_that_is_not_there_is_said_so(scalpel: Scalpel, tmp_path: Path) -> None:
    ran = scalpel("admin", "tenants", "list", "--data-dir", tmp_path / "nowhere")
    assert ran.code == Exit.REFUSED
    assert "scalpel migrate" in ran.error_line


def test_wrong_setting_is_named_without_its_value(scalpel: Scalpel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCALPEL_SECRET_KEYS", "a-secret-word")
    ran = scalpel("admin", "tenants", "list")
    assert ran.code == Exit.REFUSED
    assert "SCALPEL_SECRET_KEYS" in ran.error_line and "a-secret-word" not in ran.error_line
