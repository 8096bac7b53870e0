"""`scalpel api`: the HTTP interface alone, for a service whose parts run apart."""

import signal
import sys
from types import FrameType

import typer

from cli.environment import log_to_stderr, process_settings

OPEN_REQUESTS_TIMEOUT_S = 5


def api() -> None:
    """Serve the interface, on the database, broker and store that SCALPEL_... variables name, until SIGTERM.

    `scalpel migrate` comes before it, `scalpel maintain` and `scalpel worker` run beside it. `scalpel serve` is all of them.
    """
    settings = process_settings()
    import uvicorn

    from api.app import create_app
    from cli.stack import make_local_key, refuse_open_door

    refuse_open_door(settings)
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    make_local_key(settings)
    log_to_stderr()
    signal.signal(signal.SIGTERM, _exit)  # uvicorn shuts down in order, then raises the signal again
    typer.echo(f"the interface listens on {settings.host} port {settings.port}", err=True)
    uvicorn.run(
        create_app(settings),
        host=settings.host,
        port=settings.port,
        lifespan="on",
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=OPEN_REQUESTS_TIMEOUT_S,
        server_header=False,
    )


def _exit(_: int, __: FrameType | None) -> None:
    sys.exit(0)
