"""Quality against bytes: which results are worth having, since no other is both smaller and better."""

from collections.abc import Sequence
from dataclasses import dataclass

from api.dashboard.templates import asked
from api.dashboard.templates import size as size_words
from compression.report import EvaluationResult, Report
from jobs.view import JobView

LEFT, TOP, WIDTH, HEIGHT = 70, 16, 720, 220  # of the field, in the drawing's units
TICKS = 4


@dataclass(frozen=True)
class Contender:
    """A job and its report; None where there is none to be read."""

    job: JobView
    report: Report | None

    def on(self, text: str) -> EvaluationResult | None:
        """Its figures on a text."""
        results = self.report.results if self.report is not None else ()
        return next((result for result in results if result.text.digest == text), None)

    @property
    def first(self) -> EvaluationResult | None:
        return self.report.results[0] if self.report is not None and self.report.results else None


@dataclass(frozen=True)
class Dot:
    x: float
    y: float
    number: int
    job_id: str
    words: str
    is_dominated: bool


@dataclass(frozen=True)
class Tick:
    at: float
    words: str


@dataclass(frozen=True)
class Picture:
    """Args: text: that all were evaluated on. front: the line through those that nothing beats."""

    text: str
    dots: tuple[Dot, ...]
    front: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]

    @property
    def dominated(self) -> frozenset[int]:
        return frozenset(dot.number for dot in self.dots if dot.is_dominated)


def pareto(contenders: Sequence[Contender]) -> Picture | None:
    """The picture of those that were evaluated on the same windows of one text; None where these are fewer than two."""
    text = _shared_text(contenders)
    points = [
        (number, float(contender.report.sizes.artifact_bytes), result.ratio)
        for number, contender in enumerate(contenders, 1)
        if contender.report is not None and (result := contender.on(text)) is not None
    ]
    if len(points) < 2:
        return None
    x_low, x_high = _range([size for _, size, _ in points])
    y_low, y_high = _range([ratio for _, _, ratio in points])

    def across(size: float) -> float:
        return round(LEFT + (size - x_low) / (x_high - x_low) * WIDTH, 1)

    def down(ratio: float) -> float:
        return round(TOP + (y_high - ratio) / (y_high - y_low) * HEIGHT, 1)

    dots = tuple(
        Dot(
            across(size),
            down(ratio),
            number,
            contenders[number - 1].job.id,
            f"{number}: {asked(contenders[number - 1].job)}, {size_words(size)}, perplexity x {ratio:.4g}",
            is_dominated(size, ratio, [(size, ratio) for _, size, ratio in points]),
        )
        for number, size, ratio in points
    )
    front = " ".join(f"{dot.x},{dot.y}" for dot in sorted(dots, key=lambda dot: dot.x) if not dot.is_dominated)
    name = next(result.text.source for contender in contenders if (result := contender.on(text)) is not None)
    return Picture(
        name,
        dots,
        front,
        tuple(Tick(across(value), size_words(value)) for value in _steps(x_low, x_high)),
        tuple(Tick(down(value), f"{value:.4g}") for value in _steps(y_low, y_high)),
    )


def is_dominated(size: float, ratio: float, all_points: Sequence[tuple[float, float]]) -> bool:
    """Whether another one is no larger and no worse, and one of both less so."""
    return any(other[0] <= size and other[1] <= ratio and other != (size, ratio) for other in all_points)


def _shared_text(contenders: Sequence[Contender]) -> str:
    """The digest of the text that most were evaluated on."""
    texts = [result.text.digest for contender in contenders if contender.report for result in contender.report.results]
    return max(dict.fromkeys(texts), key=texts.count, default="")


def _range(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    margin = (high - low) * 0.12 or abs(low) * 0.05 or 1.0
    return low - margin, high + margin


def _steps(low: float, high: float) -> list[float]:
    return [low + (high - low) * step / TICKS for step in range(TICKS + 1)]
