"""`scalpel download`: bring a job's files here."""

from pathlib import Path
from typing import Annotated

import typer

from cli.exits import CommandError, Exit
from cli.jobs import JobId
from cli.listing import Json, tell
from cli.service import DEFAULT_DATA_DIR, DataDir, Url, connect


def download(
    job_id: JobId,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Folder. Default: one named after the job.")] = None,
    parallel: Annotated[int, typer.Option(min=1, max=32, help="Files at once.")] = 4,
    is_json: Json = False,
    url: Url = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Download the compressed model and its report, every file verified by its SHA-256.

    Run it again after an interruption: what is here already is verified and kept, and the rest goes on where it was.
    """
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    from cli.output import console

    folder = output or Path(job_id)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with connect(url, data_dir) as service:
        total = sum(artifact.size_bytes for artifact in service.artifacts(job_id))
        with Progress(*columns, console=console(is_error=True), transient=True) as progress:
            task = progress.add_task("downloading", total=total)
            files = service.download(job_id, folder, on_bytes=lambda count: progress.advance(task, count), parallel=parallel)
    if not files:
        raise CommandError(f"job {job_id} has no files; they appear once it has succeeded", Exit.NOT_FOUND)
    answer = {"folder": str(folder), "files": [str(path.relative_to(folder)) for path in files]}
    tell(answer, f"{len(files)} files, verified, in {folder}", is_json=is_json)
