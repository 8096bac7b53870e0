from concurrent.futures import ThreadPoolExecutor

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import column, func, insert, inspect, select, table, text

from jobs import database
from jobs.access.tables import LOCAL_TENANT_ID
from jobs.settings import Settings
from jobs.tables import Artifact, Base, Event, Job, Ring
from jobs.transitions import now


def test_the_migrated_schema_is_the_one_of_the_tables(empty_database: Settings) -> None:
    database.migrate(empty_database)
    engine = database.engine(empty_database)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []
    engine.dispose()


def test_nothing_that_refers_to_a_job_is_lost_when_its_table_is_altered(empty_database: Settings) -> None:
    """SQLite copies the table and drops the old one, which would take events, files and rings along."""
    database.migrate(empty_database, "0014")
    time, job_id = now(), "0" * 26
    row = {
        "id": job_id, "tenant_id": LOCAL_TENANT_ID, "state": "queued", "priority": 0, "model": "m", "request": {},
        "recipe": {}, "labels": {}, "attempt": 0, "max_attempts": 1, "claimable_at": time, "last_seq": 1,
        "cancel_requested": False, "created_at": time, "updated_at": time,
    }  # fmt: skip
    event = {"job_id": job_id, "seq": 1, "type": "note", "data": {}, "attempt": 0, "created_at": time}
    file = {"job_id": job_id, "name": "report.json", "sha256": "0" * 64, "size_bytes": 1, "created_at": time}
    engine = database.engine(empty_database)
    with engine.begin() as connection:
        for model, values in ((Job, row), (Event, event), (Artifact, file), (Ring, {"job_id": job_id, "due_at": time})):
            columns = model.__table__.c
            before = table(model.__tablename__, *(column(name, columns[name].type) for name in values))
            connection.execute(insert(before).values(values))
    database.migrate(empty_database)
    with database.sessions(engine)() as session:
        counts = [session.scalar(select(func.count()).select_from(model)) for model in (Job, Event, Artifact, Ring)]
    engine.dispose()
    assert counts == [1, 1, 1, 1]


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
