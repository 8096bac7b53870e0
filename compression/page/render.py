"""Report -> page. Everything that comes from a report is escaped by the template engine; see `svg.py` for the charts."""

from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from compression import words
from compression.by_module import by_module
from compression.evaluation_report import EvaluationReport
from compression.formats.snippets import report_snippets
from compression.goals.words import goal_details
from compression.headline import asked, lost, made, use, won
from compression.page import figures
from compression.page.charts import memory_chart, sizes_chart, time_chart
from compression.page.layers_chart import heat_strip, sparkline
from compression.page.levels_chart import level_strip
from compression.page.search_chart import search_chart
from compression.page.structure_chart import speed_chart, structure_strip
from compression.page.svg import clean
from compression.report import Report
from compression.structure.words import structure_details

FOLDER = Path(__file__).parent
REPORT_STYLE = FOLDER / "report.css"  # of whatever is in an element of class `report`
AnyReport = Report | EvaluationReport
WORST = 10
NAMED = 8  # matrices that are named where many share a reason


def render(report: AnyReport) -> str:
    """The page of a report: a whole HTML document without scripts, and without anything from elsewhere."""
    return _drawn(report, "layout.html.jinja")


def fragment(report: AnyReport) -> Markup:
    """The same for a page that has the style `REPORT_STYLE`, below a heading of its own; without files and snippets."""
    return Markup(_drawn(report, "fragment.html.jinja"))  # noqa: S704  escaped by the engine


def _drawn(report: AnyReport, frame: str) -> str:
    if isinstance(report, EvaluationReport):
        return _environment().get_template("evaluation.html.jinja").render(_of_evaluation(report), frame=frame)
    return _environment().get_template("report.html.jinja").render(_of_compression(report), frame=frame)


@cache
def _environment() -> Environment:
    found = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.globals.update(words=words, repr=repr)
    return found


def _shown(value: object) -> object:
    """What the engine gets to escape: a text without control signs."""
    return clean(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _of_compression(report: Report) -> dict[str, Any]:
    kinds = by_module(report)
    known = [layer for layer in report.layers if layer.relative_error is not None]
    status = {name: [row for row in report.coverage if row.status == name] for name in ("solved", "fallback", "skipped")}
    return {
        "report": report,
        "lines": (("Asked", asked(report)), ("Lost", lost(report)), ("Won", won(report)), ("Use it?", use(report))),
        "outcome": _outcome(report),
        "charts": {
            "quality": figures.quality_charts(report),
            "sizes": sizes_chart(report.sizes),
            "layers": heat_strip(kinds),
            "levels": level_strip(report.goal) if report.goal else None,
            "search": search_chart(chosen.search) if (chosen := report.goal or report.structure) else None,
            "speed": speed_chart(report.structure.speed) if report.structure else None,
            "structure": structure_strip(report.structure) if report.structure else None,
            "time": time_chart(report.seconds),
            "memory": memory_chart(report.memory),
        },
        "goal_lines": tuple(goal_details(report.goal)) if report.goal else (),
        "structure_lines": tuple(structure_details(report.structure)) if report.structure else (),
        "made": made(report),
        "kinds": [(kind, sparkline(kind)) for kind in kinds],
        "worst": sorted(known, key=lambda layer: layer.relative_error or 0.0, reverse=True)[:WORST],
        "status": status,
        "reasons": {name: words.reason_words(rows, NAMED) for name, rows in status.items()},
        "snippets": report_snippets(report),
        "files_bytes": sum(file.size_bytes for file in report.files),
    }


def _outcome(report: Report) -> str:
    """The class of the first lines, as `headline.use` judges."""
    if report.verdict is None or (report.verdict.outcome == "accepted" and report.verification.verdict != "ok"):
        return "open"
    return report.verdict.outcome


def _of_evaluation(report: EvaluationReport) -> dict[str, Any]:
    comparisons = [result.comparison for result in report.results if result.comparison]
    return {
        "report": report,
        "comparisons": comparisons,
        "outcome": report.verdict.outcome if report.verdict else "open",
        "lines": figures.evaluation_lines(report),
        "charts": {
            "quality": figures.evaluation_charts(report),
            "time": time_chart(report.seconds),
            "memory": memory_chart(report.memory),
        },
    }
