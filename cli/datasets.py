"""`scalpel datasets`: texts that were brought to a service."""

import json
from pathlib import Path
from typing import Annotated

import typer

from cli.exits import EPILOG
from cli.listing import Json, tell
from cli.service import DEFAULT_DATA_DIR, DataDir, Url, connect

app = typer.Typer(name="datasets", help="Bring texts to calibrate and to evaluate on, and look at them.", no_args_is_help=True)
DatasetId = Annotated[str, typer.Argument(metavar="ID", help="The data set, as `scalpel datasets add` printed it.")]


@app.command("list", epilog=EPILOG)
def list_datasets(is_json: Json = False, url: Url = None, data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """List the data sets, the newest first."""
    with connect(url, data_dir) as service:
        found = list(service.datasets())
    if is_json:
        typer.echo(json.dumps([dataset.model_dump(mode="json") for dataset in found], indent=2))
        return
    if not found:
        typer.echo("no data sets")
        return
    from cli.output import console, plain_table

    table = plain_table("id", "name", "kind", "documents", "characters", "bytes", "created")
    for dataset in found:
        counts = (dataset.documents, dataset.characters, dataset.size_bytes)
        created = f"{dataset.created_at.astimezone():%Y-%m-%d %H:%M}"
        table.add_row(dataset.id, dataset.name, dataset.kind, *(f"{count:,}" for count in counts), created)
    console().print(table)


@app.command(epilog=EPILOG)
def add(
    path: Annotated[
        Path, typer.Argument(help="A text, or a .jsonl file with a document, conversation or labelled text a line.")
    ],
    name: Annotated[str | None, typer.Option(help="What to call it. Default: the file's name.")] = None,
    is_json: Json = False,
    url: Url = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Bring a data set. Prints what a job names it by."""
    with connect(url, data_dir) as service:
        dataset = service.upload_dataset(path, name)
    tell(dataset.model_dump(mode="json"), dataset.source, is_json=is_json)


@app.command(epilog=EPILOG)
def show(dataset_id: DatasetId, url: Url = None, data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """Print what the service says of a data set, as JSON."""
    with connect(url, data_dir) as service:
        typer.echo(service.dataset(plain_id(dataset_id)).model_dump_json(indent=2))


@app.command(epilog=EPILOG)
def delete(dataset_id: DatasetId, is_json: Json = False, url: Url = None, data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """Remove a data set that no job needs any more."""
    with connect(url, data_dir) as service:
        service.delete_dataset(plain_id(dataset_id))
    tell({"id": plain_id(dataset_id), "deleted": "dataset"}, f"{dataset_id} is deleted", is_json=is_json)


def plain_id(given: str) -> str:
    """`dataset:ID`, as a job names it -> `ID`."""
    return given.rpartition(":")[2]
