"""What the service answers about keys, secrets, the caller and the audit."""

from datetime import datetime
from typing import Any

from client.models import Answered


class Key(Answered):
    """An API key, without the key itself."""

    id: str
    name: str
    prefix: str
    scopes: tuple[str, ...]
    created_at: datetime
    expires_at: datetime | None = None
    last_used_at: datetime | None = None
    revoked_at: datetime | None = None


class NewKey(Key):
    """An API key that was just made."""

    key: str


class Tenant(Answered):
    id: str
    name: str


class Me(Answered):
    """The caller. `quotas` and `use` have the same names; a limit of None is none."""

    tenant: Tenant
    key_id: str | None = None
    scopes: tuple[str, ...]
    quotas: dict[str, Any]
    use: dict[str, Any]


class SecretStatus(Answered):
    """Whether a secret is set."""

    is_set: bool
    set_at: datetime | None = None


class AuditEntry(Answered):
    id: str
    created_at: datetime
    key_id: str | None = None
    address: str | None = None
    action: str
    resource: str | None = None
    outcome: str
