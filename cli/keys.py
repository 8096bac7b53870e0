"""`scalpel keys` and `scalpel hub-token`: what the tenant's administrators manage, through the service."""

import sys
from typing import Annotated

import typer

from cli.exits import EPILOG
from cli.listing import Json, print_json, print_rows, tell
from cli.service import DEFAULT_DATA_DIR, DataDir, Url, connect

COLUMNS = ("id", "name", "prefix", "scopes", "created_at", "expires_at", "last_used_at", "revoked_at")
ONCE = "this key is shown once and not kept; whoever has it may use it"

KeyId = Annotated[str, typer.Argument(metavar="KEY_ID", help="The key, as the list shows it.")]
KeyName = Annotated[str, typer.Argument(metavar="NAME", help="A word to know the key by.")]
Scopes = Annotated[list[str], typer.Option("--scope", help="read, write or admin; repeat it for several.")]
Days = Annotated[int | None, typer.Option("--days", min=1, max=3650, help="The key expires then; never by default.")]

keys = typer.Typer(help="Manage this tenant's API keys.", no_args_is_help=True, epilog=EPILOG)
hub_token = typer.Typer(help="Give the service a token for private and gated models.", no_args_is_help=True, epilog=EPILOG)


@keys.command("list", epilog=EPILOG)
def list_keys(is_json: Json = False, url: Url = None, data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """List the keys, the newest first, revoked ones too."""
    with connect(url, data_dir) as service:
        found = service.keys()
    rows = [key.model_dump(mode="json" if is_json else "python") for key in found]
    print_rows(rows, COLUMNS, is_json=is_json, if_none="no keys")


@keys.command("create", epilog=EPILOG)
def create_key(
    name: KeyName,
    scope: Scopes,
    days: Days = None,
    is_json: Json = False,
    url: Url = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Make a key that can do no more than the one used here; it goes to stdout, once."""
    with connect(url, data_dir) as service:
        made = service.create_key(name, scope, expires_in_days=days)
    if is_json:
        print_json(made.model_dump(mode="json"))
    else:
        typer.echo(made.key)
        typer.echo(f"{made.id}: {ONCE}", err=True)


@keys.command("revoke", epilog=EPILOG)
def revoke_key(key_id: KeyId, is_json: Json = False, url: Url = None, data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """Have a key open nothing from now on."""
    with connect(url, data_dir) as service:
        key = service.revoke_key(key_id)
    tell(key.model_dump(mode="json"), f"{key.id} ({key.name}) is revoked", is_json=is_json)


@hub_token.command("set", epilog=EPILOG)
def set_hub_token(is_json: Json = False, url: Url = None, data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """Read a token from standard input and keep it, encrypted, on the service; it is never shown again."""
    token = typer.prompt("hub token", hide_input=True, err=True) if sys.stdin.isatty() else sys.stdin.readline()
    with connect(url, data_dir) as service:
        secret = service.set_hub_token(token.strip())
    tell(secret.model_dump(mode="json"), "the hub token is set", is_json=is_json)


@hub_token.command("show", epilog=EPILOG)
def show_hub_token(is_json: Json = False, url: Url = None, data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """Say whether a token is set, and since when."""
    with connect(url, data_dir) as service:
        secret = service.hub_token()
    since = f" since {secret.set_at.astimezone():%Y-%m-%d %H:%M}" if secret.set_at else ""
    words = f"the hub token is {'' if secret.is_set else 'not '}set{since}"
    tell(secret.model_dump(mode="json"), words, is_json=is_json)


@hub_token.command("remove", epilog=EPILOG)
def remove_hub_token(is_json: Json = False, url: Url = None, data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """Have the service forget the token."""
    with connect(url, data_dir) as service:
        service.delete_hub_token()
    tell({"is_set": False}, "the hub token is forgotten", is_json=is_json)
