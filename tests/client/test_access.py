import pytest

from client import ApiError, Job, Scalpel
from tests.api.serving import Served


def test_keys_are_made_listed_and_revoked(scalpel: Scalpel, service: Served) -> None:
    made = scalpel.create_key("ci", ["read"], expires_in_days=1)
    with Scalpel(service.url, api_key=made.key) as reader:
        me = reader.me()
        assert (me.key_id, me.scopes, me.tenant.name) == (made.id, ("read",), "local")
        assert set(me.quotas) == set(me.use) == {"running", "queued", "stored_bytes", "device_s"}
    newest, local = scalpel.keys()
    assert (newest.id, local.name) == (made.id, "local")
    assert scalpel.revoke_key(made.id).revoked_at is not None


def test_hub_token_is_set_told_and_forgotten(scalpel: Scalpel) -> None:
    assert scalpel.set_hub_token("hf_" + "x" * 20).is_set
    assert scalpel.hub_token().set_at is not None
    scalpel.delete_hub_token()
    assert not scalpel.hub_token().is_set
    with pytest.raises(ApiError, match="no secret hub-token") as caught:
        scalpel.delete_hub_token()
    assert caught.value.type == "secret-not-found"


def test_audit_is_read_over_all_pages(scalpel: Scalpel, job: Job) -> None:
    scalpel.cancel(job.id)
    keys = [scalpel.create_key("x", ["read"]).id for _ in range(3)]
    found = [(entry.action, entry.resource) for entry in scalpel.audit(page_size=2)]
    assert found == [*(("key.create", key) for key in keys[::-1]), ("job.cancel", job.id), ("job.submit", job.id)]
