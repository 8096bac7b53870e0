"""The settings of a command that is one process of the service: of its environment alone."""

import os
from typing import TYPE_CHECKING

from cli.exits import CommandError, Exit

if TYPE_CHECKING:
    from jobs.settings import Settings


def process_settings() -> "Settings":
    """Raises: CommandError: a variable holds what it cannot."""
    from pydantic import ValidationError

    from jobs.settings import Settings

    try:
        return Settings.from_mapping(os.environ)
    except ValidationError as error:
        first = error.errors()[0]
        raise CommandError(f"SCALPEL_{'_'.join(map(str, first['loc'])).upper()}: {first['msg']}", Exit.REFUSED) from error


def log_to_stderr() -> None:
    """One line an event, for whatever collects the output of the process."""
    from jobs.watching.logs import configure_logging

    configure_logging(process_settings())
