import json
from pathlib import Path

import pytest

from cli.exits import Exit
from compression.evaluation_report import EvaluationReport
from tests.api.serving import Served
from tests.cli.conftest import Scalpel

WINDOWS = ["--windows", "2", "--eval-seqlen", "32"]


def test_compressed_model_is_evaluated_against_its_source(
    scalpel: Scalpel, tiny: Path, compressed: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    texts = ["--eval", tiny / "text.txt", *WINDOWS]
    ran = scalpel("evaluate", compressed, "--reference", tiny / "model", *texts, "--device", "cpu", "-o", out)
    assert ran.code == Exit.OK, ran.err
    assert ran.out.startswith("verdict: ")
    report = EvaluationReport.model_validate_json((out / "report.json").read_bytes())
    (result,) = report.results
    assert result.comparison is not None
    assert f"perplexity {result.perplexity.value:.4g}" in ran.out
    assert f"KL {result.comparison.kl:.4g}" in ran.out
    assert "block 6 of 6" in ran.err
    shown = scalpel("report", out)
    assert shown.code == Exit.OK, shown.err
    assert shown.out.startswith("Verdict\n")
    for words in ("Compared with", "Tokens that suffered most", f"{result.comparison.kl_p99:.4g}", str(compressed)):
        assert words in shown.out
    assert json.loads(scalpel("report", out, "--json").out)["kind"] == "evaluation"


def test_model_alone_is_held_against_an_absolute_limit(scalpel: Scalpel, tiny: Path) -> None:
    texts = ["--eval", tiny / "text.txt", *WINDOWS]
    ran = scalpel("evaluate", tiny / "model", *texts, "--device", "cpu", "--max-perplexity", 2)
    assert ran.code == Exit.OK, ran.err
    assert ran.out.startswith("verdict: regressed (")
    assert "> 2)" in ran.out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["demo:nobody"], "known: demo:smollm2-135m"),
        (["demo:smollm2-135m", "--max-kl", "0.1"], "there is no reference to compare with"),
        (["demo:smollm2-135m", "--max-kl", "little"], "--max-kl little: a number or `none` is wanted"),
        (["demo:smollm2-135m", "--min-top1-agreement", "2"], "acceptance.min_top1_agreement"),
        (["demo:smollm2-135m", "--windows", "0"], "evaluation.windows"),
        (["/nowhere/at/all"], "there is no such file or folder"),
    ],
)
def test_refusal_comes_before_any_work(scalpel: Scalpel, arguments: list[str], words: str) -> None:
    ran = scalpel("evaluate", *arguments)
    assert ran.code == Exit.REFUSED
    assert words in ran.err.splitlines()[-1]


def test_service_is_asked_for_an_evaluation(service: Served, scalpel: Scalpel) -> None:
    ran = scalpel("submit", "demo:smollm2-135m", "--evaluate", "--reference", "a/b", "--max-kl", "0.5", "--json")
    assert ran.code == Exit.OK, ran.err
    job = json.loads(ran.out)
    assert (job["task"], job["recipe"]) == ("evaluate", None)
    assert job["request"] == {
        "task": "evaluate", "model": "demo:smollm2-135m", "reference": "a/b", "acceptance": {"max_kl": 0.5},
    }  # fmt: skip
    assert "evaluate" in scalpel("jobs").out


def test_what_an_evaluation_has_no_use_for_is_refused_by_name(service: Served, scalpel: Scalpel) -> None:
    ran = scalpel("submit", "demo:smollm2-135m", "--evaluate", "--bits", 4)
    assert ran.code == Exit.REFUSED
    assert "recipe: an evaluation solves and writes nothing" in ran.error_line


def test_limits_reach_the_service(service: Served, scalpel: Scalpel) -> None:
    ran = scalpel("submit", "demo:smollm2-135m", "--bits", 4, "--max-perplexity-ratio", "1.5", "--max-kl", "none", "--json")
    assert json.loads(ran.out)["request"]["acceptance"] == {"max_perplexity_ratio": 1.5, "max_kl": None}
