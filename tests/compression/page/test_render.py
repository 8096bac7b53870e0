"""The page of a report shows the report, in the report's figures, and runs nothing."""

import re
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from compression.evaluation_report import EvaluationReport
from compression.headline import asked, lost, use, won
from compression.model_card import model_card
from compression.page import fragment, render
from compression.report import MemoryPoint, Perplexity, Report
from compression.words import perplexity_words, with_error
from tests.compression import reports
from tests.compression.examples import few
from tests.compression.page.html import Page

EVERY_KIND = pytest.mark.parametrize("kind", reports.KINDS)
PAGES = [*reports.KINDS, "evaluation", "evaluation alone"]


def made(kind: str) -> Report | EvaluationReport:
    if kind.startswith("evaluation"):
        return reports.evaluation(reference=kind == "evaluation")
    return reports.KINDS[kind]()


@EVERY_KIND
def test_first_five_lines_say_what_was_asked_lost_and_won_and_whether_to_use_it(kind: str) -> None:
    report = reports.KINDS[kind]()
    lines = Page(render(report)).lines
    told = [("Asked", asked(report)), ("Lost", lost(report)), ("Won", won(report)), ("Use it?", use(report))]
    for line, (name, words) in zip(lines[1:5], told, strict=True):
        assert line.startswith(name)
        if not kind.startswith("hostile"):
            assert line == f"{name} {words}"
    assert lines[0].endswith("compressed")


@pytest.mark.parametrize("kind", PAGES)
def test_page_is_whole_and_alone(kind: str) -> None:
    """Well-formed, no script, nothing from elsewhere, and names for everybody who cannot see it."""
    page = render(made(kind))
    elements = Page(page).elements
    tags = [tag for tag, _ in elements]
    assert page.startswith("<!DOCTYPE html>")
    assert not {"script", "iframe", "object", "embed", "link", "img", "form", "base", "a"} & set(tags)
    assert ("html", {"lang": "en"}) in elements
    assert tags.count("h1") == 1 and tags.count("main") == 1
    for tag, attributes in elements:
        assert not {"src", "href", "style"} & attributes.keys()
        assert not any(name.startswith("on") for name in attributes)
        if tag == "svg":
            assert attributes["role"] == "img" and attributes["aria-label"]
        if tag == "th":
            assert attributes["scope"] in ("col", "row")
    style = page[page.index("<style>") : page.index("</style>")]
    assert "url(" not in style and "@import" not in style


@pytest.mark.parametrize("kind", PAGES)
def test_part_of_another_page_shows_the_same_lines_and_charts(kind: str) -> None:
    """And styles nothing by itself: the dashboard's policy would refuse it."""
    whole, part = render(made(kind)), fragment(made(kind))
    drawings = [re.findall(r"<svg.*?</svg>", page, re.DOTALL) for page in (whole, part)]
    assert drawings[0] == drawings[1] != []
    (summary,) = re.findall(r"<dl class=.summary.*?</dl>", whole, re.DOTALL)
    assert summary in part
    tags = [tag for tag, _ in Page(part).elements]
    assert not {"html", "head", "body", "main", "h1", "style", "script"} & set(tags)
    assert not any("style" in attributes for _, attributes in Page(part).elements)


@EVERY_KIND
def test_figures_are_those_of_the_report(kind: str) -> None:
    report = reports.KINDS[kind]()
    text = " ".join(Page(render(report)).text.split())
    figures = [report.payload_digest]
    if report.structure is None:
        figures += [f"{report.sizes.bits_per_targeted_weight:.4g}", f"{report.sizes.targeted_parameters:,}"]
    else:
        speed = report.structure.speed
        figures += [f"{speed.requested:.4g}", f"{speed.predicted:.4g}", f"{speed.measured:.4g}", f"{speed.deviation:+.1%}"]
        figures += [f"{report.structure.search.loss:.4g}", f"{report.structure.parameters_left:,}"]
    for result in report.results:
        figures += [perplexity_words(result.dense), perplexity_words(result.compressed), f"{result.kl_p99:.4g}"]
        figures += [with_error(result.kl, result.kl_standard_error), f"{result.top1_agreement:.1%}"]
    for error in report.output_errors:
        figures.append(with_error(error.relative_error, error.relative_error_standard_error))
    if report.accuracy:
        figures.append(with_error(report.accuracy.loss, report.accuracy.loss_standard_error))
    known = [found for found in report.layers if found.relative_error is not None]
    if report.structure is None:
        figures.append(f"{max(found.relative_error or 0.0 for found in known):.4g}")
    figures += [file.sha256 for file in report.files if not kind.startswith("hostile")]
    for check in report.verdict.checks if report.verdict else ():
        figures += [with_error(check.value, check.standard_error), f"{check.limit:g}"]
    assert [figure for figure in figures if figure not in text] == []


def test_hostile_text_is_shown_as_text() -> None:
    report = reports.hostile()
    page = render(report)
    shown = Page(page).text
    assert shown.count("<script>alert(1)</script>") > 20
    assert page.lower().count("</style>") == 1 and page.lower().count("</title>") > 1  # of charts
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", page)
    assert page.encode().decode() == page


def test_fallbacks_and_what_was_left_alone_are_told() -> None:
    report = reports.failing()
    page = render(report)
    text = " ".join(Page(page).text.split())
    for words in (
        "70 solved, 7 by a fallback, 7 left alone",
        "sparsegpt -&gt; magnitude: H is not positive definite",
        "block 9: left alone (left alone by the recipe (skip_blocks))",
        "block 7: error unknown",
        "7 of 77 matrices needed a fallback.",
        "Loading was not verified: the loader ran out of memory.",
        "Started over: the model is another one",
    ):
        assert words in page or words in text
    assert text.count("×") >= 7 and "FAILED" in text  # signs beside the colours


def test_a_hundred_blocks_stay_small_and_many_more_are_drawn_together() -> None:
    for blocks in (100, 1000):
        page = render(reports.report(blocks=blocks))
        assert len(page.encode()) < 300_000
        Page(page)


def test_experts_share_a_cell() -> None:
    layers = [
        reports.layer(block, f"mlp.experts.{expert}.up_proj", 0.01 * (expert + 1)) for block in (0, 1) for expert in range(64)
    ]
    page = render(reports.report(layers=tuple(layers), coverage=()))
    assert "mlp.experts.*.up_proj" in page
    assert "block 1 (worst of 64: model.layers.1.mlp.experts.63.up_proj): relative error 0.64" in page
    assert len(page) < 40_000


@pytest.mark.parametrize("value", [float("inf"), float("nan"), 0.0, 1e300])
def test_figures_that_are_no_numbers_break_no_chart(value: float) -> None:
    result = reports.quality(compressed=value)
    layers = (reports.layer(0, "a", value), reports.layer(1, "a", 0.5), reports.layer(2, "a", 0.0))
    page = render(reports.report(results=(result,), layers=layers))
    Page(page)
    assert not re.search(r'(x|y|width|height|points)="[^"]*(nan|inf)', page)


def test_empty_report_is_drawn() -> None:
    changes: dict[str, Any] = {"layers": (), "coverage": (), "results": (), "seconds": {}, "sample": None}
    Page(render(reports.report(**changes)))


def test_report_of_an_older_version_is_drawn() -> None:
    data = reports.report().model_dump(mode="json")
    for section, field in (("sizes", "parts"), ("memory", "over_time"), ("model", "license")):
        del data[section][field]
    del data["files"]
    Page(render(Report.model_validate({**data, "report_version": 2})))


def test_evaluation_says_what_was_found() -> None:
    lines = Page(render(reports.evaluation())).lines
    assert lines[1] == "Asked Evaluate demo:smollm2-135m against dense/model on sotu (20 of 141 x 2048 tokens)."
    assert lines[2].startswith("Found sotu: perplexity 21.5 ± 0.88, reference 18.25 ± 0.75")
    assert lines[3].startswith("Accepted? Yes: within every limit")
    assert any(line.startswith("arc_easy acc 0.625 ± 0.01") for line in lines)


ANY = st.floats()
FEW = st.one_of(st.none(), ANY)


@few
@given(ANY, FEW, st.lists(FEW, max_size=6), st.dictionaries(st.text(max_size=8), ANY, max_size=3), st.text(max_size=30))
def test_no_figure_and_no_text_breaks_the_page(
    value: float, error: float | None, errors: list[float | None], seconds: dict[str, float], words: str
) -> None:
    """A job must not fail at its very end because a figure cannot be drawn."""
    result = reports.quality(words, 1.0, value).model_copy(
        update={"dense": Perplexity(value=value, standard_error=error), "kl_standard_error": error}
    )
    layers = tuple(reports.layer(block, words, found) for block, found in enumerate(errors))
    points = tuple(MemoryPoint(seconds=abs(value), host_bytes=7, device_bytes=None) for _ in range(2))
    memory = reports.MEMORY.model_copy(update={"over_time": points})
    report = reports.report(results=(result,), layers=layers, seconds=seconds, memory=memory)
    page = render(report)
    Page(page)
    assert not re.search(r' (x|y|x1|x2|width|height|points)="[^"]*(nan|inf|e\+)', page)
    yaml.safe_load(model_card(report)[4:].partition("\n---\n")[0])
