"""`scalpel delete`: take a job away, or its files only."""

from typing import Annotated

import typer

from cli.exits import CommandError, Exit
from cli.jobs import JobId
from cli.listing import Json, tell
from cli.service import DEFAULT_DATA_DIR, DataDir, Url, connect


def delete(
    job_id: JobId,
    artifacts: Annotated[bool, typer.Option("--artifacts", help="Only the files; the job and its report stay.")] = False,
    solutions: Annotated[bool, typer.Option("--solutions", help="With --artifacts: also what is kept for exports.")] = False,
    cascade: Annotated[bool, typer.Option("--cascade", help="The exports of the job, too.")] = False,
    is_json: Json = False,
    url: Url = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Delete a job that has ended, with its events, files and report. Nothing brings it back."""
    if solutions and not artifacts:
        raise CommandError("--solutions goes with --artifacts; without them all of the job is deleted", Exit.REFUSED)
    if cascade and artifacts:
        raise CommandError("--cascade does not go with --artifacts: exports have files of their own", Exit.REFUSED)
    with connect(url, data_dir) as service:
        if artifacts:
            service.delete_artifacts(job_id, solutions=solutions)
        else:
            service.delete(job_id, cascade=cascade)
    words = f"the files of {job_id} are deleted; its report stays" if artifacts else f"{job_id} is deleted"
    tell({"id": job_id, "deleted": "artifacts" if artifacts else "job"}, words, is_json=is_json)
