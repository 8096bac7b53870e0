"""`scalpel databases`: what goals were chosen from."""

from typing import Annotated

import typer

from cli.listing import Json, print_rows
from cli.service import DEFAULT_DATA_DIR, DataDir, Url, connect
from compression.words import duration, size

Ids = Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="Only these, with the jobs that chose from each.")]
COLUMNS = ("id", "kind", "model", "levels", "size", "built_in", "used_at")


def databases(ids: Ids = None, is_json: Json = False, url: Url = None, data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """List the model databases that jobs with a goal have built, newest first.

    The next goal on the same model, calibration and levels chooses from one of them and builds nothing.
    """
    with connect(url, data_dir) as service:
        found = [service.read_database(one) for one in ids] if ids else list(service.databases())
    rows = [database.model_dump() for database in found]
    for row in () if is_json else rows:
        row |= {"size": size(row["size_bytes"]), "built_in": duration(row["seconds"])}
    print_rows(rows, (*COLUMNS, "jobs") if ids else COLUMNS, is_json=is_json, if_none="no databases")
