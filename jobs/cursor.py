"""Page cursors: opaque to clients, (created_at, id) of the last job seen to us."""

import binascii
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import datetime

from jobs.errors import InvalidCursor


def encode_cursor(created_at: datetime, job_id: str) -> str:
    return urlsafe_b64encode(json.dumps([created_at.isoformat(), job_id]).encode()).decode().rstrip("=")


def decode_cursor(cursor: str) -> tuple[datetime, str]:
    """Raises: InvalidCursor."""
    try:
        padded = cursor.encode() + b"=" * (-len(cursor) % 4)
        created_at, job_id = json.loads(urlsafe_b64decode(padded))
        position = datetime.fromisoformat(created_at), str(job_id)
    except (binascii.Error, ValueError, TypeError) as error:
        raise InvalidCursor("the cursor is not one that this server gave out") from error
    if position[0].tzinfo is None:
        raise InvalidCursor("the cursor is not one that this server gave out")
    return position
