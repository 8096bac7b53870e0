import json
from pathlib import Path

import pytest

from cli.exits import Exit
from cli.report_text import size
from compression.report import Report
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


def test_raw_report_is_the_file(scalpel: Scalpel, compressed: Path) -> None:
    assert json.loads(scalpel("report", compressed, "--json").out) == json.loads((compressed / "report.json").read_bytes())


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
