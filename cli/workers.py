"""`scalpel workers`: what computes the jobs."""

import json
from typing import TYPE_CHECKING

import typer

from cli.listing import Json
from cli.service import DEFAULT_DATA_DIR, DataDir, Url, connect

if TYPE_CHECKING:
    from client.models import Slot, Worker

GIB = 1024**3


def workers(is_json: Json = False, url: Url = None, data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """List the workers, their devices and what is at work on each."""
    with connect(url, data_dir) as service:
        found = service.workers()
    if is_json:
        typer.echo(json.dumps([worker.model_dump(mode="json") for worker in found], indent=2))
        return
    if not found:
        typer.echo("no workers")
        return
    from cli.output import console, plain_table

    table = plain_table("host", "state", "device", "", "serves", "at work", "memory free", "disk free", "heard of")
    for worker in found:
        for slot in worker.slots:
            table.add_row(
                worker.host, worker.state, slot.device, _kind(slot), ", ".join(slot.needs), _work(slot), *_rest(worker)
            )
    console().print(table)


def _kind(slot: "Slot") -> str:
    return slot.name if slot.memory_bytes is None else f"{slot.name}, {slot.memory_bytes / GIB:.0f} GiB"


def _work(slot: "Slot") -> str:
    return slot.job or ("a job of somebody else" if slot.is_busy else "")


def _rest(worker: "Worker") -> tuple[str, str, str]:
    free = f"{worker.memory_free_bytes / GIB:.0f} of {worker.memory_bytes / GIB:.0f} GiB"
    return free, f"{worker.disk_free_bytes / GIB:.0f} GiB", f"{worker.heartbeat_at.astimezone():%H:%M:%S}"
