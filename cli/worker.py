"""`scalpel worker`: one worker process, which takes one job at a time on each of its devices."""

import os
from typing import Annotated

import typer

from cli.environment import process_settings

# It sets the number of its threads itself, one a slot. Gossip and mingling are talk between workers that need none.
CELERY_ARGUMENTS = ("worker", "--pool", "threads", "--without-gossip", "--without-mingle")


def worker(
    queues: Annotated[
        str | None, typer.Option(metavar="NAMES", help="Answer only the rings of these queues, separated by commas.")
    ] = None,
    loglevel: Annotated[str, typer.Option(help="Of what it logs: debug, info, warning or error.")] = "info",
) -> None:
    """Work jobs off, on the database, broker and store that SCALPEL_... variables name, until SIGTERM.

    A job that runs then is handed back within moments and goes on elsewhere. `scalpel serve` starts such a worker by itself.
    """
    process_settings()  # so that a wrong variable is one line and no traceback
    from worker.tasks import make_worker

    app = make_worker(os.environ)
    app.worker_main([*CELERY_ARGUMENTS, "--loglevel", loglevel, *(["--queues", queues] if queues else [])])
