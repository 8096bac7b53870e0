"""`scalpel publish`: have the service bring a finished job's files to the hub or a bucket."""

from typing import Annotated

import typer

from cli import flags
from cli.exits import CommandError, Exit
from cli.jobs import JobId
from cli.listing import Json
from cli.service import DEFAULT_DATA_DIR, DataDir, Url, connect
from cli.submit import tell_submitted

Hub = Annotated[str | None, typer.Option("--hub", help="OWNER/NAME: a model repository, made where there is none.")]
Public = Annotated[bool, typer.Option("--public", help="The repository may be one that everybody can read.")]
Revision = Annotated[str | None, typer.Option("--revision", help="A branch of the repository, made where there is none.")]
Bucket = Annotated[str | None, typer.Option("--bucket", help="s3://BUCKET/FOLDER, where the server's operator allows it.")]


def publish(
    job_id: JobId,
    hub: Hub = None,
    public: Public = False,
    revision: Revision = None,
    bucket: Bucket = None,
    label: flags.Label = None,
    is_watched: flags.Watched = False,
    is_json: Json = False,
    url: Url = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> int:
    """Put a finished job's files into a repository of the hub, with the tenant's token, or a bucket; print the new job's id.

    Example: scalpel publish 01M83MEDB5ME2A8FP9H1VA9R8M --hub owner/smollm2-2of4 --watch
    """
    if (hub is None) == (bucket is None):
        raise CommandError("give either --hub or --bucket", Exit.REFUSED)
    if bucket is not None and (public or revision is not None):
        raise CommandError("--public and --revision belong to --hub", Exit.REFUSED)
    target = {"bucket": bucket} if hub is None else {"hub": hub, "private": not public}
    with connect(url, data_dir) as service:
        asked = target | ({"revision": revision} if revision else {})
        return tell_submitted(service, service.publish(job_id, asked, labels=flags.labels(label)), is_watched, is_json)
