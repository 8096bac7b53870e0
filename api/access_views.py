"""What the API takes and answers about keys, secrets, the caller itself and the audit."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, SecretStr, StringConstraints, field_validator

from jobs.access.keys import Scope
from jobs.access.quotas import Quotas, Use
from jobs.access.tables import ApiKey, AuditEntry, Secret

MAX_KEY_DAYS = 3650
KEY_EXAMPLES: list[Any] = [{"name": "ci", "scopes": ["read", "write"], "expires_in_days": 90}]
TOKEN_EXAMPLES: list[Any] = [{"token": "hf_your_own_token"}]

KeyName = Annotated[str, StringConstraints(min_length=1, max_length=63, pattern=r"^[^\x00-\x1f\x7f]*$")]


class _View(BaseModel):
    model_config = ConfigDict(frozen=True)


class KeyRequest(BaseModel):
    """A key as asked for."""

    model_config = ConfigDict(frozen=True, extra="forbid", json_schema_extra={"examples": KEY_EXAMPLES})

    name: KeyName = Field(description="A word to know it by.")
    scopes: tuple[Scope, ...] = Field(min_length=1, max_length=3, description="What it may do; none that the caller's lacks.")
    expires_in_days: int | None = Field(None, ge=1, le=MAX_KEY_DAYS, description="null: it does not expire.")


class KeyView(_View):
    """A key of the tenant, without the key itself."""

    id: str
    name: str
    prefix: str = Field(description="How the key begins.")
    scopes: tuple[Scope, ...]
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None = Field(description="To the minute.")
    revoked_at: datetime | None


class NewKeyView(KeyView):
    """A key that was just made."""

    key: str = Field(description="The key itself; it is not kept and cannot be had again.")


class TenantView(_View):
    id: str
    name: str


class MeView(_View):
    """The caller: whose key it is and what may be done with it."""

    tenant: TenantView
    key_id: str | None = Field(description="null where the service asks for no keys.")
    scopes: tuple[Scope, ...]
    quotas: Quotas
    use: Use


class HubTokenRequest(BaseModel):
    """A hub token to be kept."""

    model_config = ConfigDict(frozen=True, extra="forbid", json_schema_extra={"examples": TOKEN_EXAMPLES})

    token: SecretStr = Field(min_length=8, max_length=512, description="Visible ASCII characters. It is never shown again.")

    @field_validator("token")
    @classmethod
    def _fits_into_a_header(cls, token: SecretStr) -> SecretStr:
        if not all("!" <= character <= "~" for character in token.get_secret_value()):
            raise ValueError("a token holds visible ASCII characters only, and no spaces")
        return token


class SecretView(_View):
    """Whether a secret is set; the secret itself is shown to nobody."""

    is_set: bool
    set_at: datetime | None


class AuditView(_View):
    """One thing that was done, or refused for want of a scope."""

    id: str
    created_at: datetime
    key_id: str | None = Field(description="Of the key; null where none was asked for, and for the operator.")
    address: str | None = Field(description="Where the request came from; `operator` for work on the server itself.")
    action: str = Field(examples=["job.submit"])
    resource: str | None = Field(description="Id of what it was done to.")
    outcome: str = Field(examples=["done", "forbidden"])


def key_view(row: ApiKey) -> KeyView:
    return KeyView(**_key_fields(row))


def new_key_view(row: ApiKey, key: str) -> NewKeyView:
    return NewKeyView(**_key_fields(row), key=key)


def secret_view(row: Secret | None) -> SecretView:
    return SecretView(is_set=row is not None, set_at=row and row.created_at)


def audit_view(entry: AuditEntry) -> AuditView:
    return AuditView(**{name: getattr(entry, name) for name in AuditView.model_fields})


def _key_fields(row: ApiKey) -> dict[str, Any]:
    return {name: getattr(row, name) for name in KeyView.model_fields}
