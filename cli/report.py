"""`scalpel report`: what a compression lost and won."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.exits import CommandError, Exit
from cli.service import DEFAULT_DATA_DIR, DataDir, Url, connect

REPORT_NAME = "report.json"


def report(
    job_or_folder: Annotated[str, typer.Argument(metavar="ID|FOLDER", help="A job, or a folder that was downloaded.")],
    is_json: Annotated[bool, typer.Option("--json", help="Print the report as it is stored.")] = False,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write it as a page instead; a folder's report.html is the same.")
    ] = None,
    url: Url = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Show the report of a job, or of a compressed model on disk."""
    path = Path(job_or_folder)
    if path.exists():
        data = _read(path / REPORT_NAME if path.is_dir() else path)
    else:
        with connect(url, data_dir) as service:
            data = service.report(job_or_folder)
    if is_json:
        typer.echo(json.dumps(data, indent=2, ensure_ascii=False))
        return
    from cli.output import console
    from cli.report_text import print_report, read_report

    if html is None:
        print_report(read_report(data), console())
        return
    try:
        from compression.page import render
    except ImportError as error:
        raise CommandError(f"pages need jinja2: pip install 'scalpel[library]' ({error})") from error
    html.write_text(render(read_report(data)), encoding="utf-8")
    typer.echo(f"written to {html}", err=True)


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise CommandError(f"there is no {path}; the folder of a compressed model holds one", Exit.NOT_FOUND)
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CommandError(f"{path} is not JSON: {error}", Exit.REFUSED) from error
    if not isinstance(data, dict):
        raise CommandError(f"{path} is no report", Exit.REFUSED)
    return data
