"""How a command finds the running service: by its flag, by SCALPEL_URL, or by the note that `scalpel serve` leaves."""

import json
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from client import Scalpel

DEFAULT_DATA_DIR = Path("~/.local/share/scalpel")

Url = Annotated[
    str | None,
    typer.Option(
        "--url", envvar="SCALPEL_URL", help="Address of the service. Default: the one that `scalpel serve` noted down."
    ),
]
DataDir = Annotated[Path, typer.Option("--data-dir", envvar="SCALPEL_DATA_DIR", help="Data folder of `scalpel serve`.")]


def connect(url: str | None, data_dir: Path) -> "Scalpel":
    """A client of the service at `url`, else of the one that runs on `data_dir`."""
    from client import DEFAULT_URL, Scalpel

    return Scalpel(url or noted_address(data_dir) or DEFAULT_URL)


def address_file(data_dir: Path) -> Path:
    return data_dir.expanduser() / "server.json"


def noted_address(data_dir: Path) -> str | None:
    """What a running `scalpel serve` wrote down; None when none runs there."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        return str(json.loads(address_file(data_dir).read_text(encoding="utf-8"))["url"])
    return None
