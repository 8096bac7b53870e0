"""`scalpel keys` and `scalpel hub-token`, through a running service."""

import json
from io import StringIO

import pytest

from cli.exits import Exit
from tests.api.serving import Served
from tests.cli.conftest import Scalpel

TOKEN = "hf_" + "T" * 34


def test_key_goes_to_stdout_alone_and_works_until_it_is_revoked(
    scalpel: Scalpel, service: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = scalpel("keys", "create", "ci", "--scope", "read", "--scope", "admin", "--days", 7)
    key = made.out.strip()
    assert (made.code, key.startswith("scalpel_")) == (Exit.OK, True)
    key_id = made.err.partition(":")[0]
    assert "shown once" in made.err
    listed = scalpel("keys", "list")
    assert key_id in listed.out and "read, admin" in listed.out and key not in listed.out
    monkeypatch.setenv("SCALPEL_API_KEY", key)
    assert "`write`" in scalpel("keys", "create", "x", "--scope", "write").error_line
    assert scalpel("keys", "revoke", key_id).out == f"{key_id} (ci) is revoked\n"
    again = scalpel("keys", "list")
    assert again.code == Exit.REFUSED
    assert "revoked" in again.error_line


def test_json_is_the_service_s_answer(scalpel: Scalpel, service: Served) -> None:
    made = json.loads(scalpel("keys", "create", "ci", "--scope", "read", "--json").out)
    (found, _) = json.loads(scalpel("keys", "list", "--json").out)
    assert found == {name: value for name, value in made.items() if name != "key"}
    assert scalpel("keys", "revoke", "nobody").code == Exit.NOT_FOUND


def test_hub_token_is_read_from_standard_input_and_not_printed(
    scalpel: Scalpel, service: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", StringIO(f"{TOKEN}\n"))
    assert "not set" in scalpel("hub-token", "show").out
    ran = scalpel("hub-token", "set")
    assert (ran.code, TOKEN in ran.out + ran.err) == (Exit.OK, False)
    assert scalpel("hub-token", "show").out.startswith("the hub token is set since ")
    assert scalpel("hub-token", "remove").code == Exit.OK
    assert scalpel("hub-token", "remove").code == Exit.NOT_FOUND
