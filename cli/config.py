"""`scalpel config`: which service the command talks to, and with which key."""

import sys
from typing import Annotated

import typer

from cli.config_file import NAMES, Config, write_config
from cli.exits import EPILOG, CommandError, Exit
from cli.listing import Json, print_json
from cli.service import DEFAULT_DATA_DIR, DataDir, Url, find_service, user_config

Name = Annotated[str, typer.Argument(metavar="NAME", help=f"One of {', '.join(NAMES)}.")]

config = typer.Typer(help="Say which service to talk to, once and for all.", no_args_is_help=True, epilog=EPILOG)


@config.command("show", epilog=EPILOG)
def show(is_json: Json = False, url: Url = None, data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """Show which service and key commands use, and where that is said. The key itself is not shown."""
    found = find_service(url, data_dir)
    told = {"url": found.url, "url_from": found.url_from, "key_from": found.key_from, "file": str(user_config().path)}
    if is_json:
        print_json(told)
        return
    typer.echo(f"service  {found.url} ({found.url_from})")
    typer.echo(f"key      {found.key_from or 'none'}")
    typer.echo(f"file     {told['file']}")


@config.command("set", epilog=EPILOG)
def set_value(
    name: Name,
    value: Annotated[str | None, typer.Argument(metavar="VALUE", help="A key is better typed when it is asked for.")] = None,
    is_json: Json = False,
) -> None:
    """Write a setting into the file, which only its owner can read."""
    _check(name)
    if value is None:
        value = typer.prompt(name, hide_input=name == "api_key", err=True) if sys.stdin.isatty() else sys.stdin.readline()
    _write(name, value.strip(), is_json)


@config.command("unset", epilog=EPILOG)
def unset(name: Name, is_json: Json = False) -> None:
    """Take a setting out of the file."""
    _check(name)
    _write(name, None, is_json)


def _check(name: str) -> None:
    if name not in NAMES:
        raise CommandError(f"{name} is none of {', '.join(NAMES)}", Exit.REFUSED)


def _write(name: str, value: str | None, is_json: bool) -> None:
    changed = Config(**{**vars(user_config()), name: value})
    write_config(changed)
    if is_json:
        print_json({"file": str(changed.path), "name": name, "is_set": value is not None})
    else:
        typer.echo(f"{name} is {'set' if value is not None else 'not set any more'} in {changed.path}")
