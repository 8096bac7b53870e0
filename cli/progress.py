"""A running compression on the terminal: a bar where somebody looks, plain lines where not.

Fed with (type, data) as the service's events and the library's callback both give them; see compression/events.py.
"""

from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

import typer

from compression.words import duration

if TYPE_CHECKING:
    from rich.progress import Progress


class Display(Protocol):
    """Shows one job. Use it as a context manager."""

    def show(self, kind: str, data: Mapping[str, Any]) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...


def display() -> Display:
    """The display that fits stderr."""
    from cli.output import console

    return Bar() if console(is_error=True).is_terminal else Lines()


class Lines:
    """One line an event; activities and single layers are too many for that."""

    def show(self, kind: str, data: Mapping[str, Any]) -> None:
        if words := sentence(kind, data):
            typer.echo(words, err=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        return None


class Bar:
    """A live bar over the blocks, with notes and states as lines above it."""

    def __init__(self) -> None:
        self._progress = _bar()
        self._task = self._progress.add_task("waiting", total=None, block="", error="", eta="")
        self._stage = "waiting"

    def show(self, kind: str, data: Mapping[str, Any]) -> None:
        match kind:
            case "stage":
                self._stage = data["stage"]
                self._progress.update(self._task, description=self._stage)
            case "activity":
                self._progress.update(self._task, description=f"{self._stage}: {data['activity']}", block=block_words(data))
            case "block":
                self._show_block(data)
            case _:
                if words := sentence(kind, data):
                    self._progress.console.print(words)

    def _show_block(self, data: Mapping[str, Any]) -> None:
        self._progress.update(
            self._task,
            total=1.0,
            completed=data["fraction"],
            block=block_words(data),
            error=error_words(data),
            eta=eta_words(data),
        )

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._progress.stop()


def _bar() -> "Progress":
    from rich.progress import BarColumn, Progress, TextColumn

    from cli.output import console

    fields = [TextColumn(f"{{task.fields[{name}]}}", markup=False) for name in ("block", "error", "eta")]
    return Progress(TextColumn("{task.description}", markup=False), BarColumn(), *fields, console=console(is_error=True))


def sentence(kind: str, data: Mapping[str, Any]) -> str:
    """An event as one line; empty for those that are too many."""
    match kind:
        case "state":
            return _state_words(data)
        case "stage":
            return str(data["stage"])
        case "block":
            return "  ".join(filter(None, [block_words(data), error_words(data), eta_words(data)]))
        case "note":
            return f"{'warning: ' if data.get('level') == 'warning' else ''}{data['message']}"
    return ""


def _state_words(data: Mapping[str, Any]) -> str:
    attempt = data.get("attempt") or 0
    words = f"{data['state']} (attempt {attempt})" if attempt > 1 else str(data["state"])
    if error := data.get("error"):
        return f"{words}: {error['title']}: {error.get('detail')}"
    why = data.get("reason") or data.get("verdict")
    return f"{words}: {why}" if why else words


def block_words(data: Mapping[str, Any]) -> str:
    if not data.get("block"):
        return ""
    return f"block {data['block']} of {data['blocks']}" + (" (from an earlier attempt)" if data.get("is_replayed") else "")


def error_words(data: Mapping[str, Any]) -> str:
    error = data.get("mean_relative_error")
    return "" if error is None else f"relative error {error:.4g}"


def eta_words(data: Mapping[str, Any]) -> str:
    eta_s = data.get("eta_s")
    return "" if eta_s is None else f"{duration(eta_s)} left"
