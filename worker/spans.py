"""An attempt as spans: the attempt, inside it each stage, inside a stage each block."""

import time

from compression.events import BlockFinished, Event, StageStarted
from jobs.tables import Job
from jobs.watching.tracing import Attributes, Span, Tracing


class AttemptSpans:
    """Follows an attempt's events. A block's span begins where the one before it, or the stage, left off."""

    def __init__(self, tracing: Tracing, job: Job) -> None:
        self._tracing = tracing
        known: Attributes = {"scalpel.job": job.id, "scalpel.attempt": job.attempt, "scalpel.task": job.task}
        self._attempt = tracing.begin("attempt", job.trace, known)
        self._stage: Span | None = None
        self._block_began_ns = time.time_ns()

    def observe(self, event: Event) -> None:
        match event:
            case StageStarted(stage=stage):
                self._end_stage()
                self._stage = self._tracing.begin(stage, self._attempt.traceparent)
                self._block_began_ns = time.time_ns()
            case BlockFinished(block=block, is_replayed=is_replayed):
                parent = (self._stage or self._attempt).traceparent
                known: Attributes = {"scalpel.block": block, "scalpel.is_replayed": is_replayed}
                self._tracing.begin("block", parent, known, began_ns=self._block_began_ns).end()
                self._block_began_ns = time.time_ns()

    def end(self, state: str | None) -> None:
        """Args: state: that the attempt left the job in; None: it was lost."""
        self._end_stage()
        error = {None: "the attempt was lost", "failed": "the job failed"}.get(state)
        self._attempt.end({} if state is None else {"scalpel.state": state}, error=error)

    def _end_stage(self) -> None:
        if self._stage is not None:
            self._stage.end()
            self._stage = None
