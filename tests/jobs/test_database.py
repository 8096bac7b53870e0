from concurrent.futures import ThreadPoolExecutor

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import inspect, text

from jobs import database
from jobs.settings import Settings
from jobs.tables import Base


def test_the_migrated_schema_is_the_one_of_the_tables(empty_database: Settings) -> None:
    database.migrate(empty_database)
    engine = database.engine(empty_database)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []
    engine.dispose()


def test_several_processes_may_migrate_at_once(empty_database: Settings) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(database.migrate, [empty_database] * 4))
    engine = database.engine(empty_database)
    assert set(Base.metadata.tables) < set(inspect(engine).get_table_names())
    engine.dispose()


def test_sqlite_is_opened_for_many_processes(settings: Settings) -> None:
    engine = database.engine(settings)
    with engine.connect() as connection:
        pragmas = {
            name: connection.scalar(text(f"PRAGMA {name}")) for name in ("journal_mode", "foreign_keys", "busy_timeout")
        }
    engine.dispose()
    assert pragmas == {"journal_mode": "wal", "foreign_keys": 1, "busy_timeout": 30_000}
