"""The entry of the `scalpel` command. Commands import what they need when they run, so that `--help` is quick."""

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from cli import (
    act,
    admin,
    api,
    catalog,
    compare,
    compress,
    config,
    databases,
    datasets,
    delete,
    doctor,
    download,
    estimate,
    evaluate,
    export,
    jobs,
    keys,
    maintain,
    migrate,
    models,
    profile,
    publish,
    report,
    serve,
    show,
    submit,
    sweep,
    sweeps,
    watch,
    webhooks,
    worker,
    workers,
)
from cli.exits import EPILOG, Exit
from cli.failures import exit_code, line

HELP = """Compress neural networks with second-order methods: as a service, or right here.

A first job, with a service that `scalpel serve` started in another terminal:

    scalpel submit demo:smollm2-135m --sparsity 0.5 --pattern 2:4 --watch
    scalpel report ID
    scalpel download ID -o pruned/

Without a service:

    scalpel compress demo:smollm2-135m --bits 4 -o quantised/
    scalpel sweep demo:smollm2-135m --grid bits=3,4 --grid group_size=32,64 -o sweep/

What would it need, and what is there to choose from?

    scalpel estimate Qwen/Qwen3-0.6B --bits 4 --format gguf
    scalpel methods
    scalpel formats

`scalpel COMMAND --help` tells of each; `scalpel doctor` checks the installation.
"""

app = typer.Typer(
    name="scalpel",
    epilog=EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
COMMANDS = {
    "Start here": (serve.serve, submit.submit, watch.watch, report.report, download.download, doctor.doctor),
    "Before a job": (estimate.estimate, catalog.methods, catalog.formats, databases.databases),
    "Jobs": (jobs.jobs, show.show, compare.compare, act.cancel, act.pause, act.resume, act.retry, delete.delete),
    "With a result": (export.export, publish.publish),
    "Without a service": (compress.compress, sweep.sweep, profile.profile, evaluate.evaluate),
    "Operate a service": (workers.workers, migrate.migrate, api.api, maintain.maintain, worker.worker),
}
GROUPS = {
    "Jobs": {"sweeps": sweeps.app},
    "What you bring": {"models": models.app, "datasets": datasets.app},
    "Access": {"keys": keys.keys, "hub-token": keys.hub_token, "webhooks": webhooks.webhooks, "config": config.config},
    "Operate a service": {"admin": admin.admin},
}
for panel, commands in COMMANDS.items():
    for command in commands:
        app.command(epilog=EPILOG, rich_help_panel=panel)(command)
for panel, groups in GROUPS.items():
    for name, group in groups.items():
        app.add_typer(group, name=name, rich_help_panel=panel)


def print_version(is_wanted: bool) -> None:
    if is_wanted:
        from compression import __version__

        typer.echo(f"scalpel {__version__}")
        raise typer.Exit


@app.callback(help=HELP)
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=print_version, is_eager=True, help="Print it and stop.")
    ] = False,
) -> None:
    """Its help is HELP."""


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
