"""Which of several housekeepers works: the one that holds a lock which the system takes back the moment it dies.

On PostgreSQL an advisory lock on a connection of its own, asked after each round: it ends with the connection, and where
the connection is gone so is the lead. On SQLite, whose processes share a host, a lock on a file beside the database.
"""

import fcntl
import logging
from contextlib import suppress
from io import TextIOWrapper
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import SQLAlchemyError

LEADER_LOCK = 5_141_912  # PostgreSQL's advisory locks are numbers; beside that of claims
HOST_GONE_S = 10  # a leader whose host is gone, so that nobody closes its connection, is given up by the server after this
FROZEN_AFTER_S = 30  # and one that asks nothing any more, as a stopped process does, after this

log = logging.getLogger(__name__)


class Lead(Protocol):
    """The lead over all housekeepers of one database; given back when the context ends."""

    def __enter__(self) -> Self: ...
    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...

    def is_mine(self) -> bool:
        """Whether this process leads now; takes the lead where nobody has it. Never waits for another leader."""


def lead(engine: Engine) -> Lead:
    """Strive for the lead over those who share this database."""
    if engine.dialect.name == "postgresql":
        return ConnectionLead(engine)
    assert engine.url.database is not None, "a SQLite database is a file"
    return FileLead(Path(engine.url.database).with_suffix(".leader"))


class ConnectionLead:
    """Held by a connection of its own to PostgreSQL."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._connection: Connection | None = None
        self._is_held = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._connection is not None and self._is_held:
            with suppress(SQLAlchemyError):
                self._connection.execute(text("SELECT pg_advisory_unlock(:number)"), {"number": LEADER_LOCK})
        self._let_go()

    def is_mine(self) -> bool:
        """Raises nothing: a database that is away makes nobody lead."""
        try:
            if self._connection is None:
                self._connection = self._connect()
            if self._is_held:
                self._connection.execute(text("SELECT 1"))  # the lock lives exactly as long as the session that answers
            else:
                taken = self._connection.scalar(text("SELECT pg_try_advisory_lock(:number)"), {"number": LEADER_LOCK})
                self._is_held = bool(taken)
        except SQLAlchemyError as error:
            log.warning("the lead is lost with the connection to the database: %s", error)
            self._let_go()
        return self._is_held

    def _connect(self) -> Connection:
        connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        for name, seconds in (("idle", HOST_GONE_S // 2), ("interval", HOST_GONE_S // 4), ("count", 2)):
            connection.execute(text(f"SET tcp_keepalives_{name} = {seconds}"))
        connection.execute(text(f"SET idle_session_timeout = '{FROZEN_AFTER_S}s'"))
        return connection

    def _let_go(self) -> None:
        connection, self._connection, self._is_held = self._connection, None, False
        if connection is not None:
            with suppress(SQLAlchemyError):
                connection.invalidate()  # closed, not handed back to the pool with the lock still on it
                connection.close()


class FileLead:
    """Held by a lock on a file; the kernel lets go of it with the process."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: TextIOWrapper | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def is_mine(self) -> bool:
        if self._file is None:
            file = self._path.open("w")
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.close()
            else:
                self._file = file
        return self._file is not None
