"""Templates and how they write figures. Whatever is put into one is shown as text: models, users and files are strangers."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from api.dashboard.static_files import address
from compression import words
from jobs.view import JobView

NONE = "–"


def size(size_bytes: float | None) -> str:
    return NONE if size_bytes is None else words.size(size_bytes)


def duration(seconds: float | None) -> str:
    return NONE if seconds is None else words.duration(seconds)


def number(value: float | None, digits: int = 4) -> str:
    return NONE if value is None else f"{value:.{digits}g}"


def count(value: int | None) -> str:
    """`135 M` of parameters and the like."""
    if value is None:
        return NONE
    for unit in ("", " k", " M", " G"):
        if value < 1000:
            return f"{value:.3g}{unit}"
        value /= 1000  # type: ignore[assignment]
    return f"{value:.4g} T"


def percent(share: float | None, digits: int = 1) -> str:
    return NONE if share is None else f"{share:.{digits}%}"


def when(at: datetime | str | None) -> str:
    """In UTC, as the server counts; the page's script says it in the reader's own zone."""
    if at is None:
        return NONE
    moment = datetime.fromisoformat(at) if isinstance(at, str) else at
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def target(options: Mapping[str, Any]) -> str:
    """A recipe's options in a few words: `sparsegpt 2:4`."""
    parts = [str(options.get("method") or "")]
    pattern = options.get("pattern")
    if options.get("sparsity") is not None:
        nm = pattern not in (None, "unstructured")
        parts.append(str(pattern) if nm else f"{options['sparsity']:.0%} sparse")
    elif pattern:
        parts.append(str(pattern))
    if options.get("bits") is not None:
        parts.append("ternary" if options["bits"] == "ternary" else f"{options['bits']} bit")
    return " ".join(filter(None, parts))


def asked(job: JobView) -> str:
    """What a job is to do, in a few words: `sparsegpt 2:4`, `bytes / 2`, `export`."""
    if job.recipe is not None:
        return target(job.recipe.options.model_dump())
    goal = job.request.get("goal")
    return words.goal_words(goal) if goal else job.task


_environment = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "html"),
    autoescape=True,
    undefined=StrictUndefined,
    auto_reload=False,
    trim_blocks=True,
    lstrip_blocks=True,
)
_environment.filters |= {
    found.__name__: found for found in (size, duration, number, count, percent, words.with_error, when, target, asked)
}  # fmt: skip
_environment.globals |= {"static": address}


def make(template: str, **context: Any) -> str:
    return _environment.get_template(template).render(context)
