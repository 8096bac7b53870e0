"""The entry of a worker process: `celery -A worker.app worker`. The one place here that reads the environment."""

import os

from worker.tasks import make_worker

app = make_worker(os.environ)
