"""An estimate for people: a table of what the job would need, one of the formats, and what it says of this service."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from compression.words import duration

if TYPE_CHECKING:
    from rich.console import Console

    from client import Estimate

DEVICES = {"cpu": "on a CPU", "cuda": "on an accelerator"}


def short_words(estimate: "Estimate") -> str | None:
    """`expected: about 2 min 10 s (1 min 50 s to 3 min 00 s), artifact 538 MB`; None where nothing is known."""
    parts = []
    if estimate.time:
        fastest = estimate.time[0]
        parts.append(f"about {duration(fastest.expected_s)} ({duration(fastest.low_s)} to {duration(fastest.high_s)})")
    if estimate.disk and estimate.disk.artifact_bytes:
        parts.append(f"artifact {_size(estimate.disk.artifact_bytes)}")
    return f"expected: {', '.join(parts)}" if parts else None


def print_estimate(estimate: "Estimate", console: "Console") -> None:
    from cli.output import plain_table

    if estimate.unknown is not None:
        console.print(f"{estimate.model}: nothing is known before the job runs: {estimate.unknown}")
        return
    table = plain_table("", "")
    for name, words in _rows(estimate):
        table.add_row(name, words)
    console.print(table)
    if estimate.formats:
        formats = plain_table("format", "weights", "refused")
        for found in estimate.formats:
            weights = "" if found.weight_bytes is None else f"{'' if found.is_exact else 'about '}{_size(found.weight_bytes)}"
            formats.add_row(found.format, weights, found.refused or "")
        console.print(formats)


def _rows(estimate: "Estimate") -> Iterator[tuple[str, str]]:
    if estimate.parameters:
        touched = f", {estimate.parameters.touched:,} of them compressed" if estimate.parameters.touched else ""
        yield "parameters", f"{estimate.parameters.all:,}{touched}"
    for memory in estimate.memory:
        device = "" if memory.device_peak_bytes is None else f", device {_size(memory.device_peak_bytes)}"
        yield f"memory {DEVICES.get(memory.on, memory.on)}", f"host {_size(memory.host_peak_bytes)}{device}"
    if disk := estimate.disk:
        yield (
            "disk",
            (
                f"download cache {_size(disk.cache_bytes)}, work folder {_size(disk.scratch_bytes)}, "
                f"artifact {_size(disk.artifact_bytes)}, kept for exports {_size(disk.solution_bytes)}"
            ),
        )
    for time in estimate.time:
        spread = f"{duration(time.low_s)} to {duration(time.high_s)}; earlier jobs: {time.jobs}"
        yield f"time on {time.device}", f"{duration(time.expected_s)} ({spread})"
    if estimate.time_note:
        yield "time", estimate.time_note
    for misfit in estimate.misfits:
        limit = misfit.limit.replace("_", " ")
        yield (
            "does not fit",
            (
                f"{limit}: {_size(misfit.needed_bytes)} needed, {_size(misfit.limit_bytes)} at most; "
                f"{misfit.field}: {misfit.cure}"
            ),
        )
    if estimate.fits:
        yield "fits", "within the limits of this service"


def _size(size_bytes: int) -> str:
    from cli.report_text import size

    return size(size_bytes)
