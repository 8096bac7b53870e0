"""Everything that `scalpel serve` runs, in the order in which it starts; it stops in the opposite one."""

import fcntl
import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType

import typer
import uvicorn
from pydantic import ValidationError
from sqlalchemy.exc import SQLAlchemyError

from api.app import create_app
from cli.embedded import ValkeyServer, WorkerProcess
from cli.exits import CommandError, Exit
from cli.service import address_file
from cli.worker import CELERY_ARGUMENTS
from jobs import database
from jobs.access.browser_sessions import make_link
from jobs.access.keys import local_key
from jobs.access.secrets import with_local_keys
from jobs.database import migrate
from jobs.housekeeping.maintain import run as maintain
from jobs.settings import Settings
from jobs.watching.logs import configure_logging

OPEN_REQUESTS_TIMEOUT_S = 5
PACKAGES = Path(__file__).parents[1]
# `celery -A worker.app worker`, but the current folder, where a user may have a `worker.py` of his own, is not on the path.
WORKER_COMMAND = (
    sys.executable, "-P", "-c", "import sys; from worker.app import app; app.worker_main(sys.argv[1:])",
    *CELERY_ARGUMENTS, "--loglevel", "info",
)  # fmt: skip


class Stop(BaseException):
    """A signal asked the process to end. Not an error: nothing may catch it on the way out."""


class Stack:
    """The embedded service.

    Args:
        environment: settings are read from it, and the worker gets it.
    """

    def __init__(self, environment: Mapping[str, str], *, has_worker: bool) -> None:
        try:
            self._settings = Settings.from_mapping(environment)
        except ValidationError as error:
            first = error.errors()[0]
            raise CommandError(f"SCALPEL_{'_'.join(map(str, first['loc'])).upper()}: {first['msg']}", Exit.REFUSED) from error
        self._environment = dict(environment)
        self._has_worker = has_worker
        refuse_open_door(self._settings)

    def run(self) -> None:
        """Serve until a signal comes. Returns once everything is stopped."""
        configure_logging(self._settings, default_level="warning")
        _listen_to_signals()
        try:
            with ExitStack() as stack:
                try:
                    self._serve(stack)
                finally:
                    _ignore_signals()  # the way out takes seconds and must not be left half-way
        except Stop:
            typer.echo("stopped", err=True)
        except SQLAlchemyError as error:
            cause = str(error).splitlines()[0]
            raise CommandError(f"the database cannot be used: {cause}; SCALPEL_DATABASE_URL names another") from error
        except SystemExit as error:  # how uvicorn gives up
            raise CommandError("the service did not start; the lines above say why") from error

    def _serve(self, stack: ExitStack) -> None:
        data_dir = self._settings.data_dir
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)  # jobs, files and keys are their user's alone
        stack.enter_context(sole_server(data_dir))
        listener = stack.enter_context(bound(self._settings.host, self._settings.port))
        migrate(self._settings)
        make_local_key(self._settings)
        settings = with_local_keys(self._with_broker(stack), make=True)
        stack.enter_context(maintenance(settings))
        if self._has_worker:
            environment = worker_environment(self._environment, settings)
            log_file = data_dir / "logs" / "worker.log"
            worker = Settings.from_mapping(environment)
            stop_timeout_s = worker.drain_s + worker.grace_s + worker.flush_s + 10
            stack.enter_context(WorkerProcess(WORKER_COMMAND, environment, log_file, stop_timeout_s))
        Server(settings, listener).run(sockets=[listener])

    def _with_broker(self, stack: ExitStack) -> Settings:
        if self._settings.broker_url is not None:
            return self._settings
        valkey = stack.enter_context(ValkeyServer(self._settings.data_dir / "logs" / "valkey.log"))
        return self._settings.model_copy(update={"broker_url": valkey.url})


class Server(uvicorn.Server):
    """Uvicorn that says when it is ready, and lets go of event streams when it stops."""

    def __init__(self, settings: Settings, listener: socket.socket) -> None:
        self._app = create_app(settings)
        self._settings = settings
        self._address_file = address_file(settings.data_dir)
        self._url = url_of(listener)
        super().__init__(
            uvicorn.Config(
                self._app,
                lifespan="on",
                log_config=None,
                access_log=False,
                timeout_graceful_shutdown=OPEN_REQUESTS_TIMEOUT_S,
                server_header=False,
            )
        )

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            _write_atomically(self._address_file, json.dumps({"url": self._url, "pid": os.getpid()}))
            typer.echo(f"Scalpel is ready at {self._url} (Ctrl-C stops it)")
            if self._settings.authentication == "on" and sys.stdout.isatty():  # no link in a log
                typer.echo(f"Sign in by {self._url}/sign-in/once#{sign_in_token(self._settings)} (once, within 15 minutes)")

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._address_file.unlink(missing_ok=True)
        self._app.state.context.tailer.close()
        await super().shutdown(sockets)


def worker_environment(environment: Mapping[str, str], settings: Settings) -> dict[str, str]:
    """What the worker needs to know, and where it finds our packages. Ctrl-C waits for no block, unless it was told to."""
    path = os.pathsep.join(filter(None, [str(PACKAGES), environment.get("PYTHONPATH", "")]))
    drain_s = environment.get("SCALPEL_DRAIN_S", "") or "0"
    return {
        **environment,
        "PYTHONPATH": path,
        "SCALPEL_BROKER_URL": settings.broker_url or "",
        "SCALPEL_DRAIN_S": drain_s,
        "SCALPEL_SECRET_KEYS": ",".join(key.get_secret_value() for key in settings.secret_keys),
    }


def refuse_open_door(settings: Settings) -> None:
    """Raises: CommandError: other machines could reach the service without a key."""
    if settings.authentication == "off" and not settings.is_local:
        raise CommandError(
            f"will not listen on {settings.host} with authentication off, for other machines could reach the service; "
            "leave SCALPEL_AUTHENTICATION at on, or use 127.0.0.1",
            Exit.REFUSED,
        )


def make_local_key(settings: Settings) -> None:
    """Have a key for this machine's own user in the data folder."""
    made = database.engine(settings)
    try:
        with database.sessions(made).begin() as session:
            local_key(session, settings.local_key_file)
    finally:
        made.dispose()


def sign_in_token(settings: Settings) -> str:
    """What signs one browser in as this machine's own user."""
    made = database.engine(settings)
    try:
        with database.sessions(made).begin() as session:
            return make_link(session, local_key(session, settings.local_key_file))
    finally:
        made.dispose()


@contextmanager
def sole_server(data_dir: Path) -> Iterator[None]:
    """Hold the data folder. Raises: CommandError: another `scalpel serve` does."""
    with (data_dir / "serve.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CommandError(f"another `scalpel serve` runs on {data_dir}; stop it, or name another --data-dir") from None
        yield


@contextmanager
def bound(host: str, port: int) -> Iterator[socket.socket]:
    """A listening socket. Raises: CommandError: the port is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError as error:
            words = f"cannot listen on {host} port {port} ({error.strerror}); choose another --port, or 0 for a free one"
            raise CommandError(words) from error
        yield listener


@contextmanager
def maintenance(settings: Settings) -> Iterator[None]:
    """The housekeeping thread."""
    stop = threading.Event()
    thread = threading.Thread(target=maintain, args=(settings, stop), name="maintenance")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def url_of(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _write_atomically(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def _listen_to_signals() -> None:
    signal.signal(signal.SIGINT, _stop)
    signal.signal(signal.SIGTERM, _stop)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # under nohup it is meant to be ignored
        signal.signal(signal.SIGHUP, _terminate)  # a closed terminal ends us as SIGTERM does, which uvicorn listens to


def _stop(_: int, __: FrameType | None) -> None:
    raise Stop


def _terminate(_: int, __: FrameType | None) -> None:
    signal.raise_signal(signal.SIGTERM)


def _ignore_signals() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
