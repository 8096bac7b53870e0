"""What the service reads of a job's report once the job is done: rates, and what its goal was chosen from."""

import logging
from pathlib import Path

from pydantic import ValidationError

from compression.report import Report

log = logging.getLogger(__name__)


def read_report(path: Path) -> Report | None:
    """None where it cannot be read, which is not what a job should fail for."""
    try:
        return Report.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        log.warning("no rates in %s, nor a database: %s", path, error)
        return None
