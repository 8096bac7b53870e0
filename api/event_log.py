"""The events table as the tailer reads it. Blocking: called in threads."""

from api.views import EventView, event_view
from jobs import repository
from jobs.database import Sessions
from jobs.states import FINAL


class EventLog:
    """Reads events, each call in a session of its own."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    def newest(self, job_id: str) -> int:
        """The number of the job's newest event. Raises: JobNotFound."""
        with self._sessions() as session:
            return repository.get(session, job_id).last_seq

    def is_over(self, job_id: str) -> bool:
        """True when no event will follow. Raises: JobNotFound."""
        with self._sessions() as session:
            return repository.get(session, job_id).state in FINAL

    def after(self, job_id: str, seq: int, limit: int) -> list[EventView]:
        with self._sessions() as session:
            return [event_view(event) for event in repository.events_after(session, job_id, seq, limit)]
