"""Files on their way into the store, offered again while it is away: hours of work must not be lost to a minute without it."""

import logging
import time
from collections.abc import Callable
from pathlib import Path

from compression.disk import is_disk_full
from jobs.errors import StoreUnavailable
from jobs.store.artifacts import ArtifactStore

FIRST_WAIT_S = 0.5
MAX_WAIT_S = 15.0
TICK_S = 0.2

log = logging.getLogger(__name__)


class StoreAway(Exception):
    """The store did not take a file for longer than anybody waits. Its own words name hosts: only the log has them."""


def put_patiently(store: ArtifactStore, path: Path, check: Callable[[], None], patience_s: float) -> tuple[str, int]:
    """As `store.put_file`, tried for `patience_s` seconds.

    Args: check: raises when the attempt must stop; asked between two tries and while waiting.
    Raises: StoreAway. What `check` raises.
    """
    deadline, wait_s = time.monotonic() + patience_s, FIRST_WAIT_S
    while True:
        check()
        try:
            return store.put_file(path)
        except StoreUnavailable as error:
            if time.monotonic() + wait_s > deadline or is_disk_full(error):  # nobody makes room within minutes
                raise StoreAway(f"The artifact store did not take {path.name}.") from error
            log.warning("the store does not take %s: %s", path.name, error.__cause__)
        _wait(wait_s, check)
        wait_s = min(2 * wait_s, MAX_WAIT_S)


def _wait(seconds: float, check: Callable[[], None]) -> None:
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        check()
        time.sleep(min(TICK_S, left))
