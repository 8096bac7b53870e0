import json
from pathlib import Path

import pytest

from cli.exits import Exit
from compression.report import AccuracyResult, Check, OutputErrorResult, Report, Verdict
from compression.words import printable, size, verdict_line
from tests.cli.conftest import Scalpel


def test_report_of_a_folder_shows_the_figures_of_its_file(scalpel: Scalpel, compressed: Path) -> None:
    report = Report.model_validate_json((compressed / "report.json").read_bytes())
    ran = scalpel("report", compressed)
    assert ran.code == Exit.OK
    result = report.results[0]
    worst = max(report.layers, key=lambda layer: layer.relative_error or 0.0)
    for words in (
        f"{result.dense.value:.4g}", f"{result.compressed.value:.4g}", f"{result.kl:.4g}", f"{result.top1_agreement:.4g}",
        "50.000% of", worst.name, "7 skipped", "left alone by the recipe (skip_blocks)", report.verification.verdict,
        "method sparsegpt", "pattern 2:4", "4 windows of 32 tokens",
    ):  # fmt: skip
        assert words in ran.out


def test_report_begins_with_the_verdict_and_its_checks(scalpel: Scalpel, compressed: Path) -> None:
    report = Report.model_validate_json((compressed / "report.json").read_bytes())
    assert report.verdict is not None
    lines = scalpel("report", compressed).out.splitlines()
    assert lines[0] == "Verdict"
    assert lines[1].startswith(f"{report.verdict.outcome}: ")
    shown = "\n".join(lines[:10])
    for check in report.verdict.checks:
        assert f"{check.value:.4g}" in shown
        assert f"{check.limit:g}" in shown
    worst = report.results[0].worst_tokens[0]
    assert f"{worst.dense_loss:.3g} -> {worst.compressed_loss:.3g}" in scalpel("report", compressed).out


def test_report_of_an_encoder_shows_output_error_accuracy_and_why_there_is_no_verdict(
    scalpel: Scalpel, compressed: Path, tmp_path: Path
) -> None:
    report = Report.model_validate_json((compressed / "report.json").read_bytes())
    text = report.results[0].text
    errors = OutputErrorResult(
        text=text, relative_error=0.1234, relative_error_standard_error=0.0021, cosine=0.9871, cosine_standard_error=None
    )
    accuracy = AccuracyResult(
        source="reviews.jsonl", texts=321, digest="", dense=0.91, dense_standard_error=0.016, compressed=0.88,
        compressed_standard_error=0.018, loss=0.03, loss_standard_error=0.007, agreement=0.951, agreement_standard_error=0.012,
    )  # fmt: skip
    changes = {
        "results": (),
        "output_errors": (errors,),
        "accuracy": accuracy,
        "verdict": None,
        "verdict_note": "no verdict: x",
    }
    (tmp_path / "report.json").write_text(report.model_copy(update=changes).model_dump_json())
    out = scalpel("report", tmp_path).out
    for words in ("no verdict: x", "0.1234 ± 0.0021", "0.9871", "reviews.jsonl", "321", "0.91 ± 0.016", "0.03 ± 0.007"):
        assert words in out


def test_text_of_a_model_is_shown_on_one_line_and_moves_no_terminal() -> None:
    assert printable("one\n\x1b[2Jtwo") == "one  [2Jtwo"


def verdict(*passed: bool) -> Verdict:
    checks = tuple(
        Check(text="a text", figure="kl", value=0.2, standard_error=None, limit=0.1, is_minimum=False, passed=good)
        for good in passed
    )
    return Verdict(outcome="accepted" if all(passed) else "regressed", checks=checks)


@pytest.mark.parametrize(
    ("found", "line"),
    [
        (verdict(True), "verdict: accepted"),
        (verdict(True, False), "verdict: regressed (a text: KL, nats/token 0.2 > 0.1)"),
        (None, "verdict: none, as nothing was held against a limit"),
    ],
)
def test_verdict_in_a_line(found: Verdict | None, line: str) -> None:
    assert verdict_line(found) == line


def test_raw_report_is_the_file(scalpel: Scalpel, compressed: Path) -> None:
    assert json.loads(scalpel("report", compressed, "--json").out) == json.loads((compressed / "report.json").read_bytes())


def test_report_as_a_page_is_the_artifacts_own(scalpel: Scalpel, compressed: Path, tmp_path: Path) -> None:
    ran = scalpel("report", compressed, "--html", tmp_path / "page.html")
    assert (ran.code, ran.out) == (Exit.OK, "")
    assert (tmp_path / "page.html").read_bytes() == (compressed / "report.html").read_bytes()


def test_report_of_another_version_is_refused_but_shown_raw(scalpel: Scalpel, tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text('{"report_version": 99}')
    ran = scalpel("report", tmp_path)
    assert (ran.code, "version 99" in ran.error_line) == (Exit.FAILED, True)
    assert scalpel("report", tmp_path, "--json").code == Exit.OK


@pytest.mark.parametrize(
    ("content", "code"), [(None, Exit.NOT_FOUND), ("{", Exit.REFUSED), ("[]", Exit.REFUSED)], ids=["none", "broken", "list"]
)
def test_folder_without_a_report_is_told_in_one_line(
    scalpel: Scalpel, tmp_path: Path, content: str | None, code: Exit
) -> None:
    if content is not None:
        (tmp_path / "report.json").write_text(content)
    ran = scalpel("report", tmp_path)
    assert (ran.code, "report.json" in ran.error_line) == (code, True)


@pytest.mark.parametrize(("size_bytes", "words"), [(999, "999 B"), (538_100_000, "538 MB"), (2e12, "2 TB")])
def test_sizes_are_read_at_a_glance(size_bytes: float, words: str) -> None:
    assert size(size_bytes) == words
