"""Scripts and styles, ours and vendored, read once. An address names its content, so that browsers keep it for good."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fastapi import APIRouter, HTTPException
from fastapi.responses import Response

from compression.page import REPORT_STYLE

FOLDER = Path(__file__).parent / "static"
MEDIA_TYPES = {
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}


@dataclass(frozen=True)
class StaticFile:
    content: bytes
    media_type: str

    @property
    def version(self) -> str:
        return hashlib.sha256(self.content).hexdigest()[:12]


def _files() -> Iterator[tuple[str, Path]]:
    """Ours by their places, and the style of reports, which stands with what they are made of."""
    yield from (
        (path.relative_to(FOLDER).as_posix(), path) for path in sorted(FOLDER.rglob("*")) if path.suffix in MEDIA_TYPES
    )
    yield REPORT_STYLE.name, REPORT_STYLE


FILES = {name: StaticFile(path.read_bytes(), MEDIA_TYPES[path.suffix]) for name, path in _files()}
VERSION = hashlib.sha256(b"".join(name.encode() + file.content for name, file in FILES.items())).hexdigest()[:12]

router = APIRouter()


def address(name: str) -> str:
    """Where a page finds a file. The version is a folder, so that modules find their neighbours under the same one."""
    assert name in FILES, name
    return f"/static/{VERSION}/{name}"


@router.get("/static/{version}/{name:path}", include_in_schema=False)
def read_static(version: str, name: str) -> Response:
    """One of the files; of another version, too, which a page may name that was loaded before an update."""
    file = FILES.get(name)
    if file is None:
        raise HTTPException(404)
    keep = "public, max-age=31536000, immutable" if version == VERSION else "no-store"
    headers = {"Cache-Control": keep, "X-Content-Type-Options": "nosniff"}
    return Response(file.content, media_type=file.media_type, headers=headers)
