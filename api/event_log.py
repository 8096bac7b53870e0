"""The events table as the tailer reads it. Blocking: called in threads."""

from collections.abc import Mapping

from sqlalchemy import select

from api.views import EventView, event_view
from jobs import repository
from jobs.database import Sessions
from jobs.states import FINAL
from jobs.tables import Job

BATCH = 500  # ids in one query


class EventLog:
    """Reads events, each call in a session of its own. Whose job it is, the route has checked."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    def newest(self, job_id: str) -> int:
        """The number of the job's newest event. Raises: JobNotFound."""
        with self._sessions() as session:
            return repository.find(session, job_id).last_seq

    def is_over(self, job_id: str) -> bool:
        """True when no event will follow. Raises: JobNotFound."""
        with self._sessions() as session:
            return repository.find(session, job_id).state in FINAL

    def with_news(self, seqs: Mapping[str, int]) -> list[str]:
        """Those of the jobs that have an event newer than the number given."""
        ids = list(seqs)
        with self._sessions() as session:
            newest = [
                (row.id, row.last_seq)
                for start in range(0, len(ids), BATCH)
                for row in session.execute(select(Job.id, Job.last_seq).where(Job.id.in_(ids[start : start + BATCH])))
            ]
        return [job_id for job_id, seq in newest if seq > seqs[job_id]]

    def after(self, job_id: str, seq: int, limit: int) -> list[EventView]:
        with self._sessions() as session:
            return [event_view(event) for event in repository.events_after(session, job_id, seq, limit)]
