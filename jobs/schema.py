"""Whether the database has the schema that this code was written for."""

from functools import cache

from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.orm import Session

from jobs.errors import SchemaMismatch


def check_revision(session: Session) -> None:
    """Raises: SchemaMismatch."""
    found = MigrationContext.configure(session.connection()).get_current_revision()
    if found != head():
        raise SchemaMismatch(found, head())


@cache
def head() -> str:
    """The newest revision that this code knows."""
    config = Config()
    config.set_main_option("script_location", "migrations:")
    newest = ScriptDirectory.from_config(config).get_current_head()
    assert newest is not None, "the package holds its migrations"
    return newest
