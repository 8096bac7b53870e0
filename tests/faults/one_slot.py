"""A worker process of one slot, which works off what is queued with the runner that it is told. Not a test."""

import logging
import os
import sys
import threading

from jobs import database
from jobs.settings import Settings
from jobs.store.artifacts import artifact_store
from worker.attempt import Host
from worker.supervisor import Supervisor


def main(runner_command: list[str]) -> None:
    logging.basicConfig(level=logging.INFO)
    settings = Settings.from_mapping(os.environ)
    sessions = database.sessions(database.engine(settings))
    host = Host(settings, sessions, artifact_store(settings), os.environ, threading.Event(), runner_command)
    Supervisor(host).work_off()


if __name__ == "__main__":
    main(sys.argv[1:])
