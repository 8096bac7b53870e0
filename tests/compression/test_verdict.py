"""The verdict as a table: figures, limits, and what comes out."""

import math
from typing import Any

import pytest
from pydantic import ValidationError

from compression.protocol import Acceptance
from compression.report import EvaluationResult, Perplexity, TextSet
from compression.verdict import alone, compared, judge

OFF = dict.fromkeys(Acceptance.model_fields)


def result(source: str = "text", **figures: Any) -> EvaluationResult:
    """Figures that the default limits accept, some of them replaced."""
    given = {"ratio": 1.05, "kl": 0.05, "kl_p99": 0.4, "top1_agreement": 0.9, **figures}
    return EvaluationResult(
        text=TextSet(source=source, windows=2, seqlen=8, tokens=16, digest="0"),
        dense=Perplexity(value=10.0, standard_error=0.5),
        compressed=Perplexity(value=10.0 * given["ratio"], standard_error=0.6),
        log_ratio=math.log(given["ratio"]),
        log_ratio_standard_error=0.02,
        kl_standard_error=0.01,
        top1_agreement_standard_error=0.03,
        **given,
    )


def outcome(acceptance: Acceptance, *results: EvaluationResult) -> str | None:
    verdict = judge(acceptance, [compared(found) for found in results])
    return verdict.outcome if verdict else None


@pytest.mark.parametrize(
    ("limits", "figures", "expected"),
    [
        ({}, {}, "accepted"),
        ({}, {"ratio": 1.11}, "regressed"),
        ({}, {"kl": 0.11}, "regressed"),
        ({}, {"top1_agreement": 0.84}, "regressed"),
        ({}, {"kl_p99": 99.0}, "accepted"),
        ({}, {"ratio": 1.10, "kl": 0.10, "top1_agreement": 0.85}, "accepted"),
        ({}, {"kl": math.nan}, "regressed"),
        ({}, {"top1_agreement": math.nan}, "regressed"),
        ({"max_perplexity_ratio": 3.0}, {"ratio": 2.9}, "accepted"),
        ({"max_perplexity_ratio": 0.9}, {"ratio": 0.95}, "regressed"),
        ({"max_kl_p99": 0.3}, {}, "regressed"),
        ({"max_kl": None}, {"kl": 5.0}, "accepted"),
        ({"max_kl": 0.0}, {"kl": 0.0}, "accepted"),
        ({"max_perplexity": 10.4}, {}, "regressed"),
        ({"max_perplexity": 10.6}, {}, "accepted"),
    ],
)
def test_figures_are_held_against_their_limits(limits: dict[str, Any], figures: dict[str, Any], expected: str) -> None:
    assert outcome(Acceptance(**limits), result(**figures)) == expected


def test_one_text_that_fails_is_enough_and_every_check_is_told() -> None:
    verdict = judge(Acceptance(), [compared(result("good")), compared(result("bad", kl=1.0))])
    assert verdict is not None
    assert verdict.outcome == "regressed"
    assert [(check.text, check.figure, check.passed) for check in verdict.checks] == [
        (text, figure, (text, figure) != ("bad", "kl"))
        for text in ("good", "bad")
        for figure in ("perplexity_ratio", "kl", "top1_agreement")
    ]
    failed = next(check for check in verdict.checks if not check.passed)
    assert (failed.value, failed.limit, failed.standard_error, failed.is_minimum) == (1.0, 0.10, 0.01, False)


def test_error_of_the_ratio_is_that_of_its_logarithm() -> None:
    verdict = judge(Acceptance(), [compared(result(ratio=1.05))])
    assert verdict is not None
    assert verdict.checks[0].standard_error == pytest.approx(1.05 * 0.02)


def test_where_nothing_is_measured_or_asked_there_is_no_verdict() -> None:
    assert outcome(Acceptance()) is None
    assert outcome(Acceptance(**OFF), result(kl=9.0)) is None


def test_model_alone_is_judged_by_its_perplexity_only() -> None:
    measured = [alone("text", Perplexity(value=12.0, standard_error=None))]
    assert judge(Acceptance(), measured) is None
    verdict = judge(Acceptance(max_perplexity=11.0), measured)
    assert verdict is not None
    assert [(check.figure, check.passed) for check in verdict.checks] == [("perplexity", False)]


@pytest.mark.parametrize(
    "limits",
    [{"max_kl": -0.1}, {"max_kl": math.nan}, {"min_top1_agreement": 1.1}, {"max_perplexity_ratio": 0}, {"max_speed": 1}],
)
def test_senseless_limits_are_refused(limits: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Acceptance(**limits)
