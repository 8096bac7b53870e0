"""One byte range of a file, as a `Range` header asks for it."""

import re

from starlette.exceptions import HTTPException

_SINGLE = re.compile(r"bytes=(?P<first>\d{0,19})-(?P<last>\d{0,19})")


def parse_range(header: str | None, size: int) -> tuple[int, int] | None:
    """(start, end) with end excluded; None when the whole file is to be sent.

    Several ranges at once, other units and nonsense are answered with the whole file, as RFC 9110 allows.

    Raises: HTTPException: 416, the range lies beyond the end.
    """
    match = _SINGLE.fullmatch(header or "")
    if match is None or not (match["first"] or match["last"]):
        return None
    if match["first"]:
        start, end = int(match["first"]), min(int(match["last"] or size), size - 1) + 1
        if match["last"] and int(match["last"]) < start:
            return None
    else:
        start, end = max(size - int(match["last"]), 0), size
    if start >= size or start == end:
        raise HTTPException(416, headers={"Content-Range": f"bytes */{size}"})
    return start, end
