"""`scalpel migrate`: bring the database's schema to this version, once, before anything of it starts."""

from typing import TYPE_CHECKING, Annotated

import typer

from cli.environment import process_settings
from cli.exits import CommandError
from cli.listing import Json, tell

if TYPE_CHECKING:
    from jobs.settings import Settings

FIRST_WAIT_S = 0.2
MAX_WAIT_S = 2.0


def migrate(
    wait_s: Annotated[
        float, typer.Option("--wait", min=0, help="Seconds for which a database that is away is waited for.")
    ] = 30,
    is_json: Json = False,
) -> None:
    """Bring the database that SCALPEL_DATABASE_URL names to the schema of this version; safe to run again, and at once.

    `scalpel serve` does this by itself.
    """
    settings = process_settings()
    revision = _migrated(settings, wait_s)
    tell({"revision": revision}, f"the database is at revision {revision}", is_json=is_json)


def _migrated(settings: "Settings", wait_s: float) -> str:
    import time

    from sqlalchemy.exc import OperationalError, SQLAlchemyError

    from jobs import database

    deadline, pause_s = time.monotonic() + wait_s, FIRST_WAIT_S
    while True:
        try:
            database.migrate(settings)
            return database.revision(settings)
        except SQLAlchemyError as error:
            if isinstance(error, OperationalError) and time.monotonic() + pause_s < deadline:
                time.sleep(pause_s)
                pause_s = min(2 * pause_s, MAX_WAIT_S)
                continue
            cause = str(error).splitlines()[0]
            raise CommandError(f"the database cannot be used: {cause}; SCALPEL_DATABASE_URL names another") from error
