"""Files as answers: whole, one range of them, or the news that the reader has them already."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import Depends, Header, Request
from fastapi.responses import Response, StreamingResponse

from api.ranges import parse_range
from api.versions import IfNoneMatch, names

OCTETS = "application/octet-stream"


def file_answers(media_type: str = OCTETS) -> dict[int | str, dict[str, Any]]:
    """The successes of a download, as OpenAPI is told them."""
    content = {media_type: {"schema": {"type": "string", "format": "binary"}}}
    return {
        200: {"description": "The file", "content": content},
        206: {"description": "The range that was asked for", "content": content},
        304: {"description": "The reader's copy is this file"},
    }


@dataclass(frozen=True)
class File:
    """Args: etag: without its quotes. read: the bytes from a start up to, not including, an end."""

    name: str
    size_bytes: int
    etag: str
    read: Callable[[int, int], Iterator[bytes]]
    media_type: str = OCTETS


class Wanted:
    """What the request says about the file that it wants."""

    def __init__(
        self,
        request: Request,
        span: Annotated[str | None, Header(alias="Range", description="One range of bytes: `bytes=0-1023`.")] = None,
        if_range: Annotated[str | None, Header(description="`ETag` that the range is of; else the whole file comes.")] = None,
        if_none_match: IfNoneMatch = None,
    ) -> None:
        self.is_head = request.method == "HEAD"
        self._span = span
        self._if_range = if_range
        self._if_none_match = if_none_match

    def has(self, etag: str) -> bool:
        """Whether the reader has this file already."""
        return names(self._if_none_match, f'"{etag}"')

    def answer(self, file: File) -> Response:
        """Raises: HTTPException: 416, the range lies beyond the end."""
        headers = _headers(file)
        if self.has(file.etag):
            return Response(status_code=304, headers={"ETag": headers["ETag"]})
        span = self._parse(file, headers["ETag"])
        start, end = span or (0, file.size_bytes)
        headers["Content-Length"] = str(end - start)
        if span:
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{file.size_bytes}"
        if self.is_head:
            return Response(None, 200, headers, file.media_type)
        return StreamingResponse(file.read(start, end), 206 if span else 200, headers, file.media_type)

    def _parse(self, file: File, etag: str) -> tuple[int, int] | None:
        is_current = self._if_range is None or self._if_range == etag
        return parse_range(self._span, file.size_bytes) if is_current and not self.is_head else None


AsWanted = Annotated[Wanted, Depends()]


def _headers(file: File) -> dict[str, str]:
    """A file is data: no browser may take it for a page of this site."""
    return {
        "ETag": f'"{file.etag}"',
        "Accept-Ranges": "bytes",
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(file.name, safe='')}",
        "X-Content-Type-Options": "nosniff",
    }
