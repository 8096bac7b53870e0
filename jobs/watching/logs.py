"""How the service's processes log: lines for people or JSON for machines, always with the job or request they belong to.

Secrets are taken out of the finished line, wherever they came from.
"""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import TextIO

from jobs.settings import Settings
from jobs.watching.log_context import fields
from jobs.watching.redaction import redact


class ContextFilter(logging.Filter):
    """Puts what is bound in the logging thread onto the record, before another thread may format it."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.bound = dict(fields())
        return True


class TextFormatter(logging.Formatter):
    """`time LEVEL logger: message [job=... attempt=...]`."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        line = super().format(record)
        known = " ".join(f"{name}={value}" for name, value in _bound_of(record).items())
        return redact(f"{line} [{known}]" if known else line)


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        said: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": redact(record.getMessage()),
            **_bound_of(record),
        }
        if record.exc_info:
            said["exception"] = redact(self.formatException(record.exc_info))
        return json.dumps(said, ensure_ascii=False, default=str)


def configure_logging(settings: Settings, default_level: str = "info", stream: TextIO | None = None) -> None:
    """Have this process log as its settings say.

    Args:
        default_level: where the settings name none.
        stream: standard error where None.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.addFilter(ContextFilter())
    handler.setFormatter(JsonFormatter() if settings.log_format == "json" else TextFormatter())
    logging.basicConfig(level=(settings.log_level or default_level).upper(), handlers=[handler], force=True)
    logging.captureWarnings(True)
    logging.getLogger("alembic").setLevel(logging.WARNING)  # it tells of every look at the schema


def _bound_of(record: logging.LogRecord) -> dict[str, str | int]:
    return getattr(record, "bound", {})
