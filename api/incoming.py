"""A request's body -> a file on this machine, piece by piece, for as long as the request is at work."""

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from fastapi import Request
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from jobs.settings import Settings

PIECE_BYTES = 1024 * 1024
LEFT_OVER_S = 86_400.0  # longer than any request takes

OnPiece = Callable[[bytes], None]


def ignore_piece(_: bytes) -> None:
    """The callback of a caller who only wants the file."""


@asynccontextmanager
async def received(request: Request, settings: Settings, on_piece: OnPiece = ignore_piece) -> AsyncIterator[Path]:
    """The body as a file, which is gone when the context ends.

    Args: on_piece: told the bytes in order, in pieces of some megabyte, in a thread; may raise to refuse the rest.
    Raises: HTTPException: 400, the sender hung up; 408, it took too long.
    """
    folder = incoming_folder(settings)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=folder) as file:

        def take(piece: bytes) -> None:
            on_piece(piece)
            file.write(piece)

        try:
            async with asyncio.timeout(settings.upload_timeout_s):
                async for piece in _pieces(request):
                    await run_in_threadpool(take, piece)
        except ClientDisconnect as error:
            raise HTTPException(400, "the connection ended before the body did") from error
        except TimeoutError as error:
            raise HTTPException(408, f"the body did not come within {settings.upload_timeout_s:g} s") from error
        await run_in_threadpool(file.flush)
        yield Path(file.name)


def incoming_folder(settings: Settings) -> Path:
    return settings.data_dir / "incoming"


def remove_left_over(folder: Path) -> None:
    """Remove what a process that was killed has left there."""
    then = time.time() - LEFT_OVER_S
    for path in folder.glob("tmp*"):
        with suppress(OSError):
            if path.stat().st_mtime < then:
                path.unlink()


async def _pieces(request: Request) -> AsyncIterator[bytes]:
    """What comes off the network in small bits, in larger ones, so that each is worth a thread's while."""
    gathered = bytearray()
    async for bit in request.stream():
        gathered += bit
        if len(gathered) >= PIECE_BYTES:
            yield bytes(gathered)
            gathered.clear()
    if gathered:
        yield bytes(gathered)
