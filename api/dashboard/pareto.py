"""Quality against what it costs, in bytes or measured time: which results are worth having, since none is better in both."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from api.dashboard.templates import asked
from api.dashboard.templates import size as size_words
from compression.pareto import undominated
from compression.report import EvaluationResult, Report
from compression.structure.words import environment_words
from jobs.view import JobView

LEFT, TOP, WIDTH, HEIGHT = 70, 16, 720, 220  # of the field, in the drawing's units
TICKS = 4


@dataclass(frozen=True)
class Contender:
    """A job and its report; None where there is none to be read."""

    job: JobView
    report: Report | None

    @property
    def first(self) -> EvaluationResult | None:
        return self.report.results[0] if self.report is not None and self.report.results else None

    @property
    def speedup(self) -> float | None:
        """Measured, of a model that was cut to be faster."""
        return self.report.structure.speed.measured if self.report is not None and self.report.structure else None


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
    """Args: quality, cost: what the axes are. front: the line through those that nothing beats."""

    quality: str
    cost: str
    dots: tuple[Dot, ...]
    front: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]

    @property
    def dominated(self) -> frozenset[int]:
        return frozenset(dot.number for dot in self.dots if dot.is_dominated)


@dataclass(frozen=True)
class _Axis:
    """Args: of: the figure of a report, with whom it compares; None: the report has none. words: of a figure."""

    name: str
    of: Callable[[Report], tuple[str, float] | None]
    words: Callable[[float], str]


def pictures(contenders: Sequence[Contender]) -> list[Picture]:
    """Against bytes, and against time where models were cut to be faster; no picture has less than two dots."""
    drawn = (_picture(contenders, axis) for axis in (_BYTES, _TIME))
    return [picture for picture in drawn if picture is not None]


def _picture(contenders: Sequence[Contender], cost: _Axis) -> Picture | None:
    """Of those that compare in both: evaluated on the windows that most were, costs measured where most were."""
    told = [
        (number, quality, *price)
        for number, contender in enumerate(contenders, 1)
        if contender.report is not None and (price := cost.of(contender.report)) is not None
        for quality in _qualities(contender.report)
    ]
    kinds = [(quality.key, whom) for _, quality, whom, _ in told]
    most = max(dict.fromkeys(kinds), key=kinds.count, default=None)
    chosen = [(number, quality, price) for number, quality, whom, price in told if (quality.key, whom) == most]
    if most is None or len(chosen) < 2:
        return None
    name = f"{cost.name} ({most[1]})" if most[1] else cost.name
    return _drawn(contenders, chosen, cost, name)


@dataclass(frozen=True)
class _Quality:
    """Args: key: figures with the same one compare. value: low is good."""

    key: str
    name: str
    value: float
    words: str


def _qualities(report: Report) -> list[_Quality]:
    of_models = [
        _Quality(
            found.text.digest,
            f"Perplexity on {found.text.source}, compressed to dense",
            found.ratio,
            f"perplexity x {found.ratio:.4g}",
        )
        for found in report.results
    ]
    return of_models + [
        _Quality(
            found.text.digest,
            f"Error of last hidden states on {found.text.source}, relative",
            found.relative_error,
            f"error {found.relative_error:.3g}",
        )
        for found in report.output_errors
    ]


def _drawn(contenders: Sequence[Contender], points: Sequence[tuple[int, _Quality, float]], cost: _Axis, name: str) -> Picture:
    x_low, x_high = _range([price for _, _, price in points])
    y_low, y_high = _range([quality.value for _, quality, _ in points])

    def across(price: float) -> float:
        return round(LEFT + (price - x_low) / (x_high - x_low) * WIDTH, 1)

    def down(value: float) -> float:
        return round(TOP + (y_high - value) / (y_high - y_low) * HEIGHT, 1)

    are_best = undominated([(price, quality.value) for _, quality, price in points])
    dots = tuple(
        Dot(
            across(price),
            down(quality.value),
            number,
            contenders[number - 1].job.id,
            f"{number}: {asked(contenders[number - 1].job)}, {cost.words(price)}, {quality.words}",
            not is_best,
        )
        for (number, quality, price), is_best in zip(points, are_best, strict=True)
    )
    return Picture(
        points[0][1].name,
        name,
        dots,
        " ".join(f"{dot.x},{dot.y}" for dot in sorted(dots, key=lambda dot: dot.x) if not dot.is_dominated),
        tuple(Tick(across(value), cost.words(value)) for value in _steps(x_low, x_high)),
        tuple(Tick(down(value), f"{value:.4g}") for value in _steps(y_low, y_high)),
    )


def _bytes(report: Report) -> tuple[str, float]:
    return "", float(report.sizes.artifact_bytes)


def _time(report: Report) -> tuple[str, float] | None:
    """Of one forward, measured; it compares with what was measured on the same machine for the same load."""
    if report.structure is None:
        return None
    return environment_words(report.structure.table.environment), report.structure.speed.shrunk_s


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1e3:.3g} ms"


_BYTES = _Axis("bytes of weights", _bytes, size_words)
_TIME = _Axis("measured time of a forward", _time, _milliseconds)


def _range(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    margin = (high - low) * 0.12 or abs(low) * 0.05 or 1.0
    return low - margin, high + margin


def _steps(low: float, high: float) -> list[float]:
    return [low + (high - low) * step / TICKS for step in range(TICKS + 1)]
