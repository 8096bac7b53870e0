"""`scalpel compare`: several results of one model, quality against bytes."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.exits import CommandError, Exit
from cli.listing import Json, print_json
from cli.service import DEFAULT_DATA_DIR, DataDir, Url, connect

if TYPE_CHECKING:
    from cli.compare_text import Candidate

FEWEST = 2
REPORT_NAME = "report.json"


def compare(
    jobs_or_folders: Annotated[list[str], typer.Argument(metavar="ID|FOLDER...", help="Two or more, of one model.")],
    is_json: Json = False,
    url: Url = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Compare compressions of one model: what each costs in quality and in bytes, and which another one beats in both."""
    from cli.compare_text import print_comparison, weighed
    from cli.output import console

    candidates = weighed([_candidate(name, url, data_dir) for name in jobs_or_folders])
    models = {candidate.model for candidate in candidates}
    if len(candidates) < FEWEST or len(models) > 1:
        words = "are of different models: " + ", ".join(sorted(models)) if len(models) > 1 else "are fewer than two"
        raise CommandError(f"these {words}; name results of one model", Exit.REFUSED)
    if is_json:
        print_json([candidate.as_json() for candidate in candidates])
    else:
        print_comparison(candidates, console())


def _candidate(name: str, url: str | None, data_dir: Path) -> "Candidate":
    from cli.compare_text import candidate_of
    from cli.report_text import read_report
    from compression.report import Report

    path = Path(name)
    if path.exists():
        data = _read(path / REPORT_NAME if path.is_dir() else path)
    else:
        with connect(url, data_dir) as service:
            data = service.report(name)
    report = read_report(data)
    if not isinstance(report, Report):
        raise CommandError(f"{name} is an evaluation, which has no bytes to compare", Exit.REFUSED)
    return candidate_of(name, report)


def _read(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CommandError(f"{path} cannot be read as a report", Exit.NOT_FOUND) from error
    if not isinstance(data, dict):
        raise CommandError(f"{path} is no report", Exit.REFUSED)
    return data
