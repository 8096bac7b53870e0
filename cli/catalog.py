"""`scalpel methods` and `formats`: what a service can do and write."""

import json

import typer

from cli.listing import Json
from cli.service import DEFAULT_DATA_DIR, DataDir, Url, connect


def methods(is_json: Json = False, url: Url = None, data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """List the compression methods and what each is good for."""
    with connect(url, data_dir) as service:
        found = service.methods()
    if is_json:
        typer.echo(json.dumps([method.model_dump(mode="json") for method in found], indent=2))
        return
    from cli.output import console, plain_table

    table = plain_table("method", "good for", "options")
    for method in found:
        options = ", ".join(name for name in method.options.get("properties", {}) if name != "method")
        table.add_row(method.name, method.good_for, options)
    console().print(table)


def formats(is_json: Json = False, url: Url = None, data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """List the output formats: what their files hold, what loads them, what they refuse."""
    with connect(url, data_dir) as service:
        found = service.formats()
    if is_json:
        typer.echo(json.dumps([entry.model_dump(mode="json") for entry in found], indent=2))
        return
    from cli.output import console, plain_table

    table = plain_table("format", "content", "loads in")
    for entry in found:
        table.add_row(entry.name, entry.content, ", ".join(entry.loads_in))
    console().print(table)
    for entry in found:
        for reason in dict.fromkeys(entry.refuses.values()):
            wishes = ", ".join(wish for wish, why in entry.refuses.items() if why == reason)
            typer.echo(f"{entry.name} refuses {wishes}: {reason}")
