"""Secrets at rest: unreadable without the master key, in another row, and under a key that is gone."""

import stat
from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError
from sqlalchemy import text, update

from jobs.access.secrets import (
    MasterKeys,
    delete_secret,
    find_secret,
    keys_in_use,
    new_master_key,
    put_secret,
    read_secret,
    rotate,
    with_local_keys,
)
from jobs.access.tables import LOCAL_TENANT_ID as OURS
from jobs.access.tenants import create_tenant
from jobs.database import Sessions
from jobs.errors import SecretNotFound, SecretsNotConfigured, SecretUnreadable
from jobs.settings import Settings
from jobs.tables import Secret

VALUE = "hf_" + "S" * 34
OLD, NEW = new_master_key(), new_master_key()


def test_secret_comes_back_as_it_was_put_and_the_newest_counts(sessions: Sessions) -> None:
    keys = MasterKeys([OLD])
    with sessions.begin() as session:
        assert read_secret(session, keys, OURS, "hub-token") is None
        put_secret(session, keys, OURS, "hub-token", "first")
        put_secret(session, keys, OURS, "hub-token", VALUE)
        assert read_secret(session, keys, OURS, "hub-token") == VALUE
        delete_secret(session, OURS, "hub-token")
        assert read_secret(session, keys, OURS, "hub-token") is None
        with pytest.raises(SecretNotFound, match="hub-token"):
            delete_secret(session, OURS, "hub-token")


def test_database_does_not_hold_the_value(sessions: Sessions) -> None:
    with sessions.begin() as session:
        put_secret(session, MasterKeys([OLD]), OURS, "hub-token", VALUE)
        rows = session.execute(text("SELECT * FROM secrets")).all()
    (row,) = rows
    assert VALUE not in repr(row)
    assert not any(VALUE.encode() in bytes(value) for value in row if isinstance(value, bytes | memoryview))


def test_equal_secrets_do_not_look_equal(sessions: Sessions) -> None:
    keys = MasterKeys([OLD])
    assert keys.encrypt(VALUE, OURS, "a")[1] != keys.encrypt(VALUE, OURS, "a")[1]


@pytest.mark.parametrize("change", ["tenant", "name", "bit"])
def test_row_that_was_moved_or_damaged_does_not_open(sessions: Sessions, change: str) -> None:
    keys = MasterKeys([OLD])
    with sessions.begin() as session:
        put_secret(session, keys, OURS, "hub-token", VALUE)
        other = create_tenant(session, "thief").id
        row = find_secret(session, OURS, "hub-token")
        assert row is not None
        flipped = row.ciphertext[:-1] + bytes([row.ciphertext[-1] ^ 1])
        changes: dict[str, dict[str, object]] = {
            "tenant": {"tenant_id": other},
            "name": {"name": "other"},
            "bit": {"ciphertext": flipped},
        }
        session.execute(update(Secret).values(**changes[change]))
        session.expire_all()
        where = {"tenant": (other, "hub-token"), "name": (OURS, "other"), "bit": (OURS, "hub-token")}[change]
        with pytest.raises(SecretUnreadable, match="damaged or moved") as caught:
            read_secret(session, keys, *where)
    assert VALUE not in str(caught.value)


def test_without_a_master_key_nothing_is_stored(sessions: Sessions, settings: Settings) -> None:
    with sessions.begin() as session, pytest.raises(SecretsNotConfigured, match="SCALPEL_SECRET_KEYS"):
        put_secret(session, MasterKeys.of(settings), OURS, "hub-token", VALUE)


def test_rotation_encrypts_all_anew_and_the_old_key_may_go(sessions: Sessions) -> None:
    with sessions.begin() as session:
        other = create_tenant(session, "other").id
        for tenant_id in (OURS, other):
            put_secret(session, MasterKeys([OLD]), tenant_id, "hub-token", f"{VALUE}{tenant_id}")
        with pytest.raises(SecretUnreadable, match=r"master key [0-9a-f]{16} is not in SCALPEL_SECRET_KEYS"):
            read_secret(session, MasterKeys([NEW]), OURS, "hub-token")
        both = MasterKeys([NEW, OLD])
        assert read_secret(session, both, OURS, "hub-token") == f"{VALUE}{OURS}"
        done = rotate(session, both)
        assert (done.rotated, done.unreadable, set(done.tenants)) == (2, 0, {OURS, other})
        assert done.in_use == {both.newest: 2}
        assert rotate(session, both).rotated == 0
        for tenant_id in (OURS, other):
            assert read_secret(session, MasterKeys([NEW]), tenant_id, "hub-token") == f"{VALUE}{tenant_id}"


def test_rotation_leaves_what_it_cannot_read_and_says_so(sessions: Sessions) -> None:
    lost, new = MasterKeys([OLD]), MasterKeys([NEW])
    with sessions.begin() as session:
        put_secret(session, lost, OURS, "hub-token", VALUE)
        done = rotate(session, new)
        assert (done.rotated, done.unreadable, done.in_use) == (0, 1, {lost.newest: 1})
        assert keys_in_use(session) == {lost.newest: 1}
        assert read_secret(session, lost, OURS, "hub-token") == VALUE


@pytest.mark.parametrize("key", ["short", "A" * 43, "A" * 44, "!" * 44, "ü" * 44, "Zm9v" * 10 + "Zm"])
def test_what_is_no_master_key_is_refused_without_repeating_it(key: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Settings.from_mapping({"SCALPEL_SECRET_KEYS": f"{NEW},{key}"})
    assert "key 2 is not 32 bytes in base64" in str(caught.value)
    assert NEW not in str(caught.value)


def test_keys_are_read_from_the_environment_newest_first() -> None:
    settings = Settings.from_mapping({"SCALPEL_SECRET_KEYS": f" {NEW} , {OLD},"})
    assert [key.get_secret_value() for key in settings.secret_keys] == [NEW, OLD]
    assert NEW not in repr(settings)


def test_local_key_file_is_its_user_s_alone_and_is_kept(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    assert with_local_keys(settings).secret_keys == ()
    made = with_local_keys(settings, make=True).secret_keys
    assert len(made) == 1
    assert stat.S_IMODE(settings.secret_key_file.stat().st_mode) == 0o600
    assert with_local_keys(settings, make=True).secret_keys == with_local_keys(settings).secret_keys == made
    assert [path.name for path in tmp_path.iterdir()] == ["secret.keys"]
    configured = settings.model_copy(update={"secret_keys": (SecretStr(NEW),)})
    assert with_local_keys(configured, make=True) == configured
