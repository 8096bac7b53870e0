"""How a process reaches the database, and how the schema gets there."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.orm import Session, sessionmaker
from sqlalchemy.pool import ConnectionPoolEntry

from jobs.settings import Settings

BUSY_TIMEOUT_S = 30
MIGRATION_LOCK = 5_141_910  # PostgreSQL's advisory locks are numbers; any that nothing else uses there

Sessions = sessionmaker[Session]


def engine(settings: Settings) -> Engine:
    """One engine per process; the caller disposes of it."""
    url = make_url(settings.database_url)
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


def migrate(settings: Settings) -> None:
    """Bring the schema to the newest revision. Processes that start at once take turns; the later ones find it done."""
    with_engine = engine(settings)
    try:
        with with_engine.begin() as connection:
            _take_migration_lock(connection)
            config = Config()
            config.set_main_option("script_location", "migrations:")
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    finally:
        with_engine.dispose()


def _take_migration_lock(connection: Connection) -> None:
    """Held until the transaction ends."""
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("BEGIN IMMEDIATE")  # the driver would begin at the first row only, after the tables
    else:
        connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": MIGRATION_LOCK})


def _prepare_sqlite(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()
