"""`scalpel serve`: the whole service on this machine, started by one command and stopped with Ctrl-C."""

import os
from pathlib import Path
from typing import Annotated

import typer

from cli.service import DEFAULT_DATA_DIR, DataDir


def serve(
    host: Annotated[
        str, typer.Option(envvar="SCALPEL_HOST", help="Address to listen on; 0.0.0.0 lets other machines in, with a key.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(envvar="SCALPEL_PORT", min=0, max=65535, help="0 picks a free one.")] = 8321,
    data_dir: DataDir = DEFAULT_DATA_DIR,
    worker: Annotated[bool, typer.Option("--worker/--no-worker", help="Run a worker too.")] = True,
) -> None:
    """Start the service: interface, database, queue and a worker. Ctrl-C stops them all; unfinished jobs go on next time.

    Other settings are read from SCALPEL_... variables. Without SCALPEL_BROKER_URL, a bundled Valkey is the queue.
    """
    from cli.stack import Stack

    given = {"SCALPEL_HOST": host, "SCALPEL_PORT": str(port), "SCALPEL_DATA_DIR": str(Path(data_dir).expanduser().absolute())}
    Stack({**os.environ, **given}, has_worker=worker).run()
