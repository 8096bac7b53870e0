"""How a process reaches the database, and how the schema gets there."""

import sqlite3
import time
from functools import partial
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.engine.interfaces import DBAPIConnection, DBAPICursor
from sqlalchemy.orm import Session, sessionmaker
from sqlalchemy.pool import ConnectionPoolEntry

from jobs.settings import Settings

BUSY_TIMEOUT_S = 30
# A server that has gone silent is noticed within a lease. libpq's names; in seconds, but the last in milliseconds.
PATIENCE = {
    "connect_timeout": 5, "keepalives_idle": 5, "keepalives_interval": 5, "keepalives_count": 3, "tcp_user_timeout": 20_000,
}  # fmt: skip
MIN_FROZEN_S = 2.0  # no machine is so busy that a process needs longer between two statements
MIGRATION_LOCK = 5_141_910  # PostgreSQL's advisory locks are numbers; any that nothing else uses there

Sessions = sessionmaker[Session]


def engine(settings: Settings) -> Engine:
    """One engine per process; the caller disposes of it."""
    url = make_url(settings.database_url)
    if url.get_backend_name() == "postgresql":
        made = create_engine(url, pool_pre_ping=True, connect_args=PATIENCE)
        event.listen(made, "connect", partial(_take_locks_from_the_frozen, after_s=max(settings.lease_s, MIN_FROZEN_S)))
        return made
    if url.get_backend_name() != "sqlite":
        return create_engine(url, pool_pre_ping=True)
    assert url.database is not None, "a SQLite database needs a file: threads and processes share it"
    Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    # IMMEDIATE: a transaction queues for the one write lock at its first write, instead of failing at a later one.
    made = create_engine(url, connect_args={"timeout": BUSY_TIMEOUT_S, "isolation_level": "IMMEDIATE"})
    event.listen(made, "connect", _prepare_sqlite)
    return made


def sessions(bound_to: Engine) -> Sessions:
    """Sessions whose rows stay readable after the commit: `with made() as session, session.begin(): ...`."""
    return sessionmaker(bound_to, expire_on_commit=False)


def migrate(settings: Settings, revision: str = "head") -> None:
    """Bring the schema to the newest revision, or to an earlier one on the way there.

    Processes that start at once take turns; the later ones find it done.
    """
    with_engine = engine(settings)
    try:
        with with_engine.begin() as connection:
            _take_migration_lock(connection)
            config = Config()
            config.set_main_option("script_location", "migrations:")
            config.attributes["connection"] = connection
            command.upgrade(config, revision)
            _check_references(connection)
    finally:
        with_engine.dispose()


def revision(settings: Settings) -> str:
    """The schema's, as the migrations number it; empty where there is none."""
    with_engine = engine(settings)
    try:
        with with_engine.connect() as connection:
            return MigrationContext.configure(connection).get_current_revision() or ""
    finally:
        with_engine.dispose()


def _take_migration_lock(connection: Connection) -> None:
    """Held until the transaction ends."""
    if connection.dialect.name == "sqlite":
        # SQLite alters a table by copying it and dropping the old one, with which everything would go that refers to its rows.
        # Of effect outside of transactions alone, and for this connection, which is closed afterwards.
        connection.exec_driver_sql("PRAGMA foreign_keys=OFF")
        connection.exec_driver_sql("BEGIN IMMEDIATE")  # the driver would begin at the first row only, after the tables
    else:
        connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": MIGRATION_LOCK})


def _check_references(connection: Connection) -> None:
    """What SQLite was told not to look after meanwhile. Raises: RuntimeError: a row refers to one that is not there."""
    if connection.dialect.name == "sqlite":
        broken = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
        if broken:
            raise RuntimeError(
                f"the migration would leave rows of {sorted({row[0] for row in broken})} without what they refer to"
            )


def _take_locks_from_the_frozen(connection: DBAPIConnection, _: ConnectionPoolEntry, after_s: float) -> None:
    """A process that is stopped in mid-transaction keeps the rows that it has locked, and a sweep would wait for it for ever.

    After a lease the server ends such a transaction; what the process had left to write would have been refused by then.
    """
    cursor = connection.cursor()
    cursor.execute(f"SET idle_in_transaction_session_timeout = {round(1000 * after_s)}")
    cursor.close()
    connection.commit()


def _prepare_sqlite(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
    cursor = connection.cursor()
    _use_wal(cursor)
    for pragma in ("synchronous=NORMAL", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _use_wal(cursor: DBAPICursor) -> None:
    """The first process to open a new file changes its mode; SQLite refuses that while others open it, without waiting."""
    deadline = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
