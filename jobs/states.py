"""The life of a job: its states and the one table of allowed changes."""

from enum import StrEnum
from typing import Literal

Task = Literal["compress", "evaluate", "export", "publish"]
"""What a job does. Every kind goes through the same queue, worker and states."""


class State(StrEnum):
    """What a job is doing, as users see it. While running, `stage` and `activity` say more."""

    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Wish(StrEnum):
    """What the user of a running job asks of its worker."""

    CANCEL = "cancel"
    PAUSE = "pause"


TRANSITIONS: dict[State, frozenset[State]] = {
    State.QUEUED: frozenset({State.RUNNING, State.PAUSED, State.CANCELLED}),
    # Back to queued: the worker was lost or gave the job back.
    State.RUNNING: frozenset({State.QUEUED, State.PAUSED, State.SUCCEEDED, State.FAILED, State.CANCELLED}),
    State.PAUSED: frozenset({State.QUEUED, State.CANCELLED}),  # it holds no worker, so it waits for one again
    State.SUCCEEDED: frozenset(),
    State.FAILED: frozenset(),
    State.CANCELLED: frozenset(),
}

FINAL = frozenset(state for state, following in TRANSITIONS.items() if not following)
