"""`scalpel export`: ask the service for a finished job in another format."""

from cli import flags
from cli.exits import CommandError, Exit
from cli.jobs import JobId
from cli.listing import Json
from cli.service import DEFAULT_DATA_DIR, DataDir, Url, connect
from cli.submit import tell_submitted


def export(
    job_id: JobId,
    format: flags.Format = None,
    embeddings: flags.Embeddings = None,
    label: flags.Label = None,
    is_watched: flags.Watched = False,
    is_json: Json = False,
    url: Url = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> int:
    """Write a finished job in another format, without solving it again, and print the new job's id.

    Example: scalpel export 01M83MEDB5ME2A8FP9H1VA9R8M --format dense --watch
    """
    said = flags.output(format=format, embeddings=embeddings)
    if format is None:
        raise CommandError("--format is missing; `scalpel formats` lists what there is", Exit.REFUSED)
    with connect(url, data_dir) as service:
        job = service.export(job_id, said, labels=flags.labels(label))
        return tell_submitted(service, job, is_watched, is_json)
