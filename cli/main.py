"""The entry of the `scalpel` command. Commands import what they need when they run, so that `--help` is quick."""

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from cli import compress, download, evaluate, export, jobs, report, serve, submit, watch
from cli.exits import EPILOG, Exit
from cli.failures import exit_code, line

app = typer.Typer(
    name="scalpel",
    help="Compress neural networks with second-order methods: as a service, or right here.",
    epilog=EPILOG,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (
    serve.serve, submit.submit, watch.watch, export.export, jobs.jobs, report.report, download.download, jobs.cancel,
    jobs.methods, jobs.formats, compress.compress, evaluate.evaluate,
):  # fmt: skip
    app.command(epilog=EPILOG)(command)


def print_version(is_wanted: bool) -> None:
    if is_wanted:
        from compression import __version__

        typer.echo(f"scalpel {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=print_version, is_eager=True, help="Print it and stop.")
    ] = False,
) -> None:
    """Compress neural networks with second-order methods: as a service, or right here."""


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command line; every foreseen error becomes one line on stderr.

    Returns: the exit code; what a command returns, if it is a number, else 0.
    """
    try:
        result = app(args=arguments, prog_name="scalpel", standalone_mode=False)
        return int(result or Exit.OK)
    except typer.TyperException as error:
        return _fail(error.format_message(), Exit.REFUSED)
    except typer.Abort:
        return Exit.INTERRUPTED
    except Exception as error:
        code = exit_code(error)
        if code is None:
            raise
        return _fail(line(error), code)


def _fail(words: str, code: Exit) -> Exit:
    typer.echo(f"scalpel: {' '.join(words.split())}", err=True)
    return code


def main() -> None:
    sys.exit(run())
