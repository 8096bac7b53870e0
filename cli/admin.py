"""`scalpel admin`: tenants and their keys and limits, master keys, and the audit; on the server, without the service."""

from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from cli.exits import EPILOG, CommandError, Exit
from cli.keys import COLUMNS, ONCE, Days, KeyId, KeyName, Scopes
from cli.listing import Json, print_json, print_rows, tell, words
from cli.service import DEFAULT_DATA_DIR, DataDir

TenantName = Annotated[str, typer.Argument(metavar="TENANT", help="Its name or id.")]
TENANT_COLUMNS = ("name", "id", "created_at", "disabled_at")
AUDIT_COLUMNS = ("created_at", "tenant", "action", "resource", "outcome", "key_id", "address")


def _group(help_text: str) -> typer.Typer:
    return typer.Typer(help=help_text, no_args_is_help=True, epilog=EPILOG)


admin = _group("Manage the server's tenants; works on the database directly, by the server's own settings.")
tenants = _group("Teams that see nothing of each other.")
tenant_keys = _group("API keys of any tenant.")
quotas = _group("What a tenant may have.")
master_keys = _group("Master keys of the tenants' secrets.")
admin.add_typer(tenants, name="tenants")
admin.add_typer(tenant_keys, name="keys")
admin.add_typer(quotas, name="quotas")
admin.add_typer(master_keys, name="secrets")


@tenants.command("list", epilog=EPILOG)
def list_tenants(is_json: Json = False, data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """List all tenants."""
    from cli.operator import operation, tenant_fields
    from jobs.access.tenants import list_tenants

    with operation(data_dir) as work:
        rows = [tenant_fields(tenant) for tenant in list_tenants(work.session)]
    print_rows(rows, TENANT_COLUMNS, is_json=is_json, if_none="no tenants")


@tenants.command("create", epilog=EPILOG)
def create_tenant(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of a-z, 0-9 and -.")],
    is_json: Json = False,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Make a tenant. It has no key yet: `scalpel admin keys create` makes one."""
    from cli.operator import operation, tenant_fields
    from jobs.access.tenants import create_tenant

    with operation(data_dir) as work:
        tenant = create_tenant(work.session, name)
        work.note(tenant, "tenant.create", tenant.id)
        fields = tenant_fields(tenant)
    if is_json:
        print_json(fields)
    else:
        typer.echo(f"made the tenant {name} ({fields['id']})")


@tenants.command("rename", epilog=EPILOG)
def rename_tenant(
    tenant: TenantName,
    new_name: Annotated[str, typer.Argument(metavar="NAME", help="Of a-z, 0-9 and -.")],
    is_json: Json = False,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Give a tenant another name; its id, keys and jobs stay."""
    from cli.operator import operation, tenant_fields
    from jobs.access.tenants import rename_tenant

    with operation(data_dir) as work:
        renamed = rename_tenant(work.session, tenant, new_name)
        work.note(renamed, "tenant.rename", renamed.id)
        fields = tenant_fields(renamed)
    tell(fields, f"{tenant} is now {new_name}", is_json=is_json)


@tenants.command("disable", epilog=EPILOG)
def disable_tenant(tenant: TenantName, is_json: Json = False, data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """Have a tenant's keys open nothing; nothing of it is deleted, and its jobs go on."""
    fields = _set_disabled(tenant, data_dir, is_disabled=True)
    tell(fields, f"{tenant} is disabled: its keys open nothing", is_json=is_json)


@tenants.command("enable", epilog=EPILOG)
def enable_tenant(tenant: TenantName, is_json: Json = False, data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """Have a disabled tenant's keys open again what they opened."""
    fields = _set_disabled(tenant, data_dir, is_disabled=False)
    tell(fields, f"{tenant} is enabled", is_json=is_json)


def _set_disabled(tenant: str, data_dir: DataDir, *, is_disabled: bool) -> dict[str, Any]:
    from cli.operator import operation, tenant_fields
    from jobs.access.tenants import set_disabled

    with operation(data_dir) as work:
        changed = set_disabled(work.session, tenant, is_disabled=is_disabled)
        work.note(changed, "tenant.disable" if is_disabled else "tenant.enable", changed.id)
        return tenant_fields(changed)


@tenant_keys.command("list", epilog=EPILOG)
def list_tenant_keys(tenant: TenantName, is_json: Json = False, data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """List a tenant's keys, the newest first, revoked ones too."""
    from cli.operator import key_fields, operation
    from jobs.access.keys import all_keys
    from jobs.access.tenants import find_tenant

    with operation(data_dir) as work:
        rows = [key_fields(key) for key in all_keys(work.session, find_tenant(work.session, tenant).id)]
    print_rows(rows, COLUMNS, is_json=is_json, if_none="no keys")


@tenant_keys.command("create", epilog=EPILOG)
def create_tenant_key(
    tenant: TenantName,
    name: KeyName,
    scope: Scopes,
    days: Days = None,
    is_json: Json = False,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Make a key for a tenant; it goes to stdout, once."""
    from cli.operator import expiry, key_fields, operation
    from jobs.access.keys import SCOPES, create_key
    from jobs.access.tenants import find_tenant

    unknown = set(scope) - set(SCOPES)
    if unknown:
        raise CommandError(f"--scope {min(unknown)} is none of {', '.join(SCOPES)}", Exit.REFUSED)
    with operation(data_dir) as work:
        owner = find_tenant(work.session, tenant)
        wanted = [known for known in SCOPES if known in scope]
        row, key = create_key(work.session, owner.id, name, wanted, expiry(days, datetime.now(UTC)))
        work.note(owner, "key.create", row.id)
        fields = {**key_fields(row), "key": key}
    if is_json:
        print_json(fields)
    else:
        typer.echo(key)
        typer.echo(f"{fields['id']}: {ONCE}", err=True)


@tenant_keys.command("revoke", epilog=EPILOG)
def revoke_tenant_key(tenant: TenantName, key_id: KeyId, is_json: Json = False, data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """Have a tenant's key open nothing from now on."""
    from cli.operator import operation
    from jobs.access.keys import revoke_key
    from jobs.access.tenants import find_tenant

    with operation(data_dir) as work:
        owner = find_tenant(work.session, tenant)
        revoke_key(work.session, owner.id, key_id)
        work.note(owner, "key.revoke", key_id)
    tell({"id": key_id, "tenant": tenant, "is_revoked": True}, f"{key_id} is revoked", is_json=is_json)


@quotas.command("show", epilog=EPILOG)
def show_quotas(tenant: TenantName, is_json: Json = False, data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """Show a tenant's limits, whose they are, and what it uses."""
    from cli.operator import operation, quota_rows
    from jobs.access.tenants import find_tenant

    with operation(data_dir) as work:
        rows = quota_rows(work, find_tenant(work.session, tenant))
    print_rows(rows, ("quota", "limit", "set_for", "used"), is_json=is_json, if_none="no limits")


@quotas.command("set", epilog=EPILOG)
def set_quotas(
    tenant: TenantName,
    changes: Annotated[
        list[str],
        typer.Argument(
            metavar="NAME=LIMIT...",
            help="running, queued, stored_bytes or device_s = a number, `none` (no limit) or `default` (the server's).",
        ),
    ],
    is_json: Json = False,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Change a tenant's limits."""
    from cli.operator import operation, parse_limits
    from jobs.access.quotas import quotas_of, set_quotas
    from jobs.access.tenants import find_tenant

    limits = parse_limits(changes)
    with operation(data_dir) as work:
        owner = find_tenant(work.session, tenant)
        set_quotas(owner, limits)
        work.note(owner, "quotas.set", ", ".join(changes))
        held = dict(quotas_of(owner, work.settings))
    limits_now = ", ".join(f"{name} {words(limit) or 'unlimited'}" for name, limit in held.items())
    tell({"tenant": tenant, **held}, f"{tenant}: {limits_now}", is_json=is_json)


@master_keys.command("new-key", epilog=EPILOG)
def new_key(is_json: Json = False) -> None:
    """Print a fresh master key, to be put first in SCALPEL_SECRET_KEYS (or in `secret.keys` in the data folder)."""
    from jobs.access.secrets import new_master_key

    made = new_master_key()
    tell({"key": made}, made, is_json=is_json)


@master_keys.command("rotate", epilog=EPILOG)
def rotate_secrets(is_json: Json = False, data_dir: DataDir = DEFAULT_DATA_DIR) -> int:
    """Encrypt every secret with the newest master key, and say which keys are still needed."""
    from dataclasses import asdict

    from cli.operator import operation, rotate_all

    with operation(data_dir) as work:
        done = rotate_all(work)
    if is_json:
        print_json(asdict(done))
    else:
        in_use = ", ".join(f"{key} ({count})" for key, count in done.in_use.items()) or "none"
        typer.echo(f"{done.rotated} secrets now have the key {done.newest}; keys in use: {in_use}")
        if done.unreadable:
            typer.echo(f"{done.unreadable} secrets cannot be read and were left; their keys are not configured", err=True)
    return Exit.FAILED if done.unreadable else Exit.OK


@admin.command("audit", epilog=EPILOG)
def tail_audit(
    tenant: Annotated[str | None, typer.Option("--tenant", help="Of this tenant alone.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many, the newest last.")] = 50,
    is_json: Json = False,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Show who did what, the newest last."""
    from cli.operator import audit_rows, operation

    with operation(data_dir) as work:
        rows = audit_rows(work.session, tenant, limit)
    print_rows(rows, AUDIT_COLUMNS, is_json=is_json, if_none="nothing yet")
