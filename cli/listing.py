"""How commands print rows: a table for people, with the columns that matter, or all of it as JSON."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any

import typer

Json = Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")]


def print_rows(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], *, is_json: bool, if_none: str) -> None:
    """Args: columns: names of fields that the table shows. if_none: what is said in place of an empty table."""
    if is_json:
        print_json(list(rows))
    elif not rows:
        typer.echo(if_none)
    else:
        from cli.output import console, plain_table

        table = plain_table(*(name.removesuffix("_at").replace("_", " ") for name in columns))
        for row in rows:
            table.add_row(*(words(row[name]) for name in columns))
        console().print(table)


def print_json(answer: object) -> None:
    typer.echo(json.dumps(answer, indent=2, default=_plain))


def tell(answer: object, sentence: str, *, is_json: bool) -> None:
    """What came of an action, in a sentence or as JSON."""
    if is_json:
        print_json(answer)
    else:
        typer.echo(sentence)


def words(value: Any) -> str:
    """A cell of a table."""
    match value:
        case None:
            return ""
        case datetime():
            return f"{value.astimezone():%Y-%m-%d %H:%M}"
        case list() | tuple():
            return ", ".join(map(str, value))
        case float():
            return f"{value:.1f}"
    return str(value)


def _plain(value: object) -> str:
    assert isinstance(value, datetime), f"{type(value).__name__} is no part of an answer"
    return value.isoformat()
