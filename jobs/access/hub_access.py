"""As whom the hub is asked for a tenant, and where what it gives is kept.

A folder of the cache is filled and read with one credential only, so nobody finds there what the hub would not show him:
the tenant `local` (and, by the setting `share_hub_token`, all) works as the operator; a tenant with a token of its own has a
folder of its own; the others share one of what the hub shows to everybody.
"""

from pydantic import SecretStr
from sqlalchemy.orm import Session

from jobs.access.secrets import MasterKeys, read_secret
from jobs.access.tables import LOCAL_TENANT_ID
from jobs.settings import Settings

HUB_TOKEN = "hub-token"  # noqa: S105  the name of the secret


def hub_settings(session: Session, settings: Settings, tenant_id: str) -> Settings:
    """The settings with which a tenant's models and texts are fetched. Raises: SecretUnreadable."""
    token = read_secret(session, MasterKeys.of(settings), tenant_id, HUB_TOKEN)
    of_tenants = settings.hub_cache_dir / "tenants"
    if token is not None:
        return settings.model_copy(update={"hub_token": SecretStr(token), "hub_cache_dir": of_tenants / tenant_id})
    if tenant_id == LOCAL_TENANT_ID or settings.share_hub_token:
        return settings
    return settings.model_copy(update={"hub_token": None, "hub_cache_dir": of_tenants / "public"})
