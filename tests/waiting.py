"""Waiting for what another process or thread will do."""

import time
from collections.abc import Callable


def wait_until(is_true: Callable[[], object], timeout_s: float = 20.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not is_true():
        assert time.monotonic() < deadline, "it has not come true in time"
        time.sleep(0.02)
