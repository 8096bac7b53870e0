from base64 import urlsafe_b64encode
from datetime import UTC, datetime

import pytest

from jobs.cursor import decode_cursor, encode_cursor
from jobs.errors import InvalidCursor

KINDS = (datetime, str)
MOMENT = datetime(2026, 3, 4, 5, 6, 7, 89, tzinfo=UTC)


def test_a_cursor_comes_back_as_it_was() -> None:
    assert decode_cursor(encode_cursor([MOMENT, "01J"]), KINDS) == [MOMENT, "01J"]


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "no cursor",
        "é",
        "AAAA",
        urlsafe_b64encode(b'["2026-01-01"]').decode(),
        urlsafe_b64encode(b'["2026-01-01T00:00:00", "01J"]').decode(),
        urlsafe_b64encode(b"[1, 2]").decode(),
        urlsafe_b64encode(b"7").decode(),
        urlsafe_b64encode(b'["2026-01-01T00:00:00+00:00", "0\\u0000"]').decode(),
        urlsafe_b64encode(b"[" * 100_000).decode(),
    ],
    ids=["empty", "words", "not-ascii", "not-json", "one-part", "no-zone", "numbers", "scalar", "a zero", "deep"],
)
def test_anything_else_is_refused(cursor: str) -> None:
    with pytest.raises(InvalidCursor):
        decode_cursor(cursor, KINDS)
