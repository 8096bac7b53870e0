"""`scalpel models`: what a service knows by name, and bringing one's own."""

import json
from pathlib import Path
from typing import Annotated

import typer

from cli.datasets import plain_id
from cli.exits import EPILOG
from cli.listing import Json, tell
from cli.service import DEFAULT_DATA_DIR, DataDir, Url, connect

app = typer.Typer(name="models", help="Bring models to a service, and look at them.", no_args_is_help=True)
ModelId = Annotated[str, typer.Argument(metavar="ID", help="The model, as `scalpel models add` printed it.")]


@app.command("list", epilog=EPILOG)
def list_models(is_json: Json = False, url: Url = None, data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """List the demo models, and what was uploaded, the newest first."""
    with connect(url, data_dir) as service:
        found = list(service.models())
    if is_json:
        typer.echo(json.dumps([model.model_dump(mode="json") for model in found], indent=2))
        return
    from cli.output import console, plain_table

    table = plain_table("name", "title", "state", "bytes", "created")
    for model in found:
        created = "" if model.created_at is None else f"{model.created_at.astimezone():%Y-%m-%d %H:%M}"
        size = "" if model.size_bytes is None else f"{model.size_bytes:,}"
        table.add_row(model.name, model.title, model.state, size, created)
    console().print(table)


@app.command(epilog=EPILOG)
def add(
    folder: Annotated[Path, typer.Argument(help="With config.json, the tokenizer's files and safetensors weights.")],
    name: Annotated[str | None, typer.Option(help="What to call it. Default: the folder's name.")] = None,
    is_json: Json = False,
    url: Url = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Bring a model; one that was cut off goes on where it was. Prints what a job names it by."""
    from rich.progress import DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

    from cli.output import console

    columns = ("uploading", DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    total = sum(path.stat().st_size for path in folder.iterdir() if path.suffix == ".safetensors")
    with connect(url, data_dir) as service, Progress(*columns, console=console(is_error=True), transient=True) as progress:
        task = progress.add_task("", total=total)
        model = service.upload_model(folder, name, lambda count: progress.advance(task, count))
    tell(model.model_dump(mode="json"), model.name, is_json=is_json)


@app.command(epilog=EPILOG)
def show(model_id: ModelId, url: Url = None, data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """Print what the service says of an uploaded model, as JSON."""
    with connect(url, data_dir) as service:
        typer.echo(service.model(plain_id(model_id)).model_dump_json(indent=2))


@app.command(epilog=EPILOG)
def delete(model_id: ModelId, is_json: Json = False, url: Url = None, data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """Remove an uploaded model that no job needs any more."""
    with connect(url, data_dir) as service:
        service.delete_model(plain_id(model_id))
    tell({"id": plain_id(model_id), "deleted": "model"}, f"{model_id} is deleted", is_json=is_json)
