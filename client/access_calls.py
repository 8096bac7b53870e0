"""Keys, secrets, the caller and the audit."""

from collections.abc import Iterable
from urllib.parse import quote

from client.access import AuditEntry, Key, Me, NewKey, SecretStatus
from client.calls import Core, call, items
from client.steps import Flow, gathered

MAX_PAGE = 200


class AccessCalls(Core):
    """Who may do what with the service."""

    @call
    def me(self) -> Flow[Me]:
        """Whose key this is, what it may do, and the tenant's limits and use."""
        return self._call(Me, "GET", "/v1/me")

    @call
    def keys(self) -> Flow[tuple[Key, ...]]:
        """The tenant's keys, newest first, revoked ones too."""
        return tuple((yield from gathered(self._pages(Key, "/v1/keys", {"limit": MAX_PAGE}))))

    @call
    def create_key(self, name: str, scopes: Iterable[str], *, expires_in_days: int | None = None) -> Flow[NewKey]:
        """Make a key with some of this key's own scopes: read, write, admin. `key` is in the answer, and only there."""
        asked = {"name": name, "scopes": list(scopes), "expires_in_days": expires_in_days}
        return self._call(NewKey, "POST", "/v1/keys", is_repeatable=False, json=asked)  # twice would be two keys

    @call
    def revoke_key(self, key_id: str) -> Flow[Key]:
        """Have a key open nothing from now on."""
        return self._call(Key, "DELETE", f"/v1/keys/{quote(key_id, safe='')}")

    @call
    def set_hub_token(self, token: str) -> Flow[SecretStatus]:
        """Have the tenant's models and texts fetched with this token. It is kept encrypted and never shown again."""
        return self._call(SecretStatus, "PUT", "/v1/secrets/hub-token", json={"token": token})

    @call
    def hub_token(self) -> Flow[SecretStatus]:
        """Whether a hub token is set, and since when."""
        return self._call(SecretStatus, "GET", "/v1/secrets/hub-token")

    @call
    def delete_hub_token(self) -> Flow[None]:
        yield from self._send("DELETE", "/v1/secrets/hub-token")

    @items(AuditEntry)
    def audit(self, *, page_size: int = 50) -> Flow[None]:
        """What was done with the tenant's keys, newest first, fetched page by page."""
        return self._pages(AuditEntry, "/v1/audit", {"limit": page_size})
