"""Page cursors: opaque to clients, the sort key of the last row seen to us."""

import binascii
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from datetime import datetime

from jobs.errors import InvalidCursor

Position = Sequence[datetime | str]
NOT_OURS = "the cursor is not one that this server gave out"


def encode_cursor(position: Position) -> str:
    parts = [part.isoformat() if isinstance(part, datetime) else part for part in position]
    return urlsafe_b64encode(json.dumps(parts).encode()).decode().rstrip("=")


def decode_cursor(cursor: str, kinds: Sequence[type]) -> Position:
    """Args: kinds: `datetime` or `str`, for each part of the sort key. Raises: InvalidCursor."""
    try:
        padded = cursor.encode() + b"=" * (-len(cursor) % 4)
        parts = json.loads(urlsafe_b64decode(padded))
        return [_read(part, kind) for part, kind in zip(parts, kinds, strict=True)]
    except (binascii.Error, ValueError, TypeError, RecursionError) as error:
        raise InvalidCursor(NOT_OURS) from error


def _read(part: object, kind: type) -> datetime | str:
    if not isinstance(part, str) or b"\0" in part.encode():  # which fails where UTF-8 cannot hold it
        raise ValueError("no database holds it")
    if kind is not datetime:
        return part
    moment = datetime.fromisoformat(part)
    if moment.tzinfo is None:
        raise ValueError("a time without a zone")
    return moment
