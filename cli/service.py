"""How a command finds the service and its key: by flag, environment, config file, or what `scalpel serve` leaves."""

import json
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.config_file import Config, config_path, read_config

if TYPE_CHECKING:
    from client import Scalpel

DEFAULT_DATA_DIR = Path("~/.local/share/scalpel")
DEFAULT_ADDRESS = "http://127.0.0.1:8321"

Url = Annotated[
    str | None,
    typer.Option(
        "--url", envvar="SCALPEL_URL", help="Address of the service. Default: the one that `scalpel serve` noted down."
    ),
]
DataDir = Annotated[Path, typer.Option("--data-dir", envvar="SCALPEL_DATA_DIR", help="Data folder of `scalpel serve`.")]


@dataclass(frozen=True)
class Found:
    """A service and its key, and who said so."""

    url: str
    url_from: str
    api_key: str | None
    key_from: str | None


def connect(url: str | None, data_dir: Path, *, retries: int | None = None) -> "Scalpel":
    """A client of the service that flags, environment, config file or a running `scalpel serve` name, in this order."""
    from client import Scalpel
    from client.sending import RETRIES

    found = find_service(url, data_dir)
    return Scalpel(found.url, api_key=found.api_key, retries=RETRIES if retries is None else retries)


def find_service(url: str | None, data_dir: Path) -> Found:
    """A key is shown to no service but the one that it was kept for, unless SCALPEL_API_KEY says otherwise."""
    config = user_config()
    noted = noted_address(data_dir)
    said = (
        (url, "--url or SCALPEL_URL"),
        (config.url, str(config.path)),
        (noted, f"noted in {address_file(data_dir)}"),
        (DEFAULT_ADDRESS, "default"),
    )
    address, url_from = next((named.rstrip("/"), who) for named, who in said if named)
    is_ours = address == noted or url_from == "default"
    api_key, key_from = _key(address, config, data_dir if is_ours else None)
    return Found(address, url_from, api_key, key_from)


def user_config() -> Config:
    return read_config(config_path(os.environ))


def _key(address: str, config: Config, data_dir: Path | None) -> tuple[str | None, str | None]:
    if key := os.environ.get("SCALPEL_API_KEY", "").strip():
        return key, "SCALPEL_API_KEY"
    is_configs = config.url is not None and address == config.url.rstrip("/")
    if is_configs and (kept := config.key()):
        if exposed := config.exposed():
            typer.echo(f"scalpel: warning: others can read the key in {exposed}; chmod 600 {exposed}", err=True)
        return kept, str(config.path)
    if data_dir is not None and (local := local_key(data_dir)):
        return local, str(data_dir.expanduser() / "local.key")
    return None, None


def local_key(data_dir: Path) -> str | None:
    """The key that `scalpel serve` keeps for this machine's own user; None where there is none to be read."""
    with suppress(OSError, ValueError):
        return (data_dir.expanduser() / "local.key").read_text(encoding="ascii").strip() or None
    return None


def address_file(data_dir: Path) -> Path:
    return data_dir.expanduser() / "server.json"


def noted_address(data_dir: Path) -> str | None:
    """What a running `scalpel serve` wrote down; None when none runs there."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        return str(json.loads(address_file(data_dir).read_text(encoding="utf-8"))["url"])
    return None
