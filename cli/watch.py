"""`scalpel watch`: follow a job to its end."""

from typing import TYPE_CHECKING, Annotated

import typer

from cli.exits import CommandError, Exit
from cli.jobs import JobId
from cli.progress import display
from cli.service import DEFAULT_DATA_DIR, DataDir, Url, connect
from compression.words import duration

if TYPE_CHECKING:
    from client import Job, Scalpel

REGRESSED = "regressed beyond a limit of the request"


def watch(
    job_id: JobId,
    is_json: Annotated[bool, typer.Option("--json", help="Print every event as a line of JSON.")] = False,
    url: Url = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> int:
    """Follow a job to its end: stage, block k of n, relative error, time left. Exits 0 when it succeeded."""
    with connect(url, data_dir) as service:
        job = follow(service, job_id, is_json=is_json)
        if not is_json:
            tell_outcome(service, job)
    return outcome(job)


def follow(service: "Scalpel", job_id: str, *, is_json: bool = False) -> "Job":
    """Show the job's events until the last one.

    Raises: CommandError: the user pressed Ctrl-C; the job goes on.
    """
    try:
        with display() as shown:
            for event in service.events(job_id):
                if is_json:
                    typer.echo(event.model_dump_json())
                else:
                    shown.show(event.type, event.data)
    except KeyboardInterrupt:
        raise CommandError(f"the job goes on; `scalpel watch {job_id}` takes it up again", Exit.INTERRUPTED) from None
    return service.job(job_id)


def outcome(job: "Job") -> Exit:
    return Exit.OK if job.state == "succeeded" else Exit.FAILED


def tell_outcome(service: "Scalpel", job: "Job") -> None:
    """A few lines on what came out, and what to do with it."""
    if job.state != "succeeded":
        error = job.error
        typer.echo(f"scalpel: job {job.id} {job.state}" + (f": {error.title}: {error.detail}" if error else ""), err=True)
        return
    from cli.report_text import headlines, read_report

    took = duration((job.finished_at - job.started_at).total_seconds()) if job.finished_at and job.started_at else "?"
    typer.echo(f"job {job.id} succeeded in {took}" + (f"; its result {REGRESSED}" if job.verdict == "regressed" else ""))
    if job.publication is not None:
        typer.echo(f"{job.publication.files} files ({job.publication.size_bytes / 1e6:.1f} MB) are at {job.publication.url}")
        return
    for words in headlines(read_report(service.report(job.id))):
        typer.echo(words)
    typer.echo(f"next: scalpel report {job.id}; scalpel download {job.id}")
