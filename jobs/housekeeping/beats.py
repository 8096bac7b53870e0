"""Signs of life of the housekeeping, for those who want to know whether it goes on."""

import os
import socket
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.orm import Session

from jobs import transitions
from jobs.tables import Beat

MAINTAIN = "maintain"


@dataclass(frozen=True)
class Life:
    """The last sign of life, and whose it was."""

    owner: str
    at: datetime


def beat(session: Session, name: str = MAINTAIN) -> None:
    """This process is alive and has just done its work."""
    session.merge(Beat(name=name, owner=f"{socket.gethostname()}:{os.getpid()}"[:255], beat_at=transitions.now()))


def last_beat(session: Session, name: str = MAINTAIN) -> Life | None:
    """None: there was never one."""
    row = session.get(Beat, name, populate_existing=True)
    return None if row is None else Life(row.owner, row.beat_at)
