"""Accepted or regressed: the figures of an evaluation against the limits of the request. Pure, and torch-free."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from compression.errors import InvalidOptions
from compression.protocol import Acceptance
from compression.report import Check, EvaluationResult, Perplexity, Verdict

FigureName = Literal["perplexity_ratio", "kl", "kl_p99", "top1_agreement", "perplexity"]


@dataclass(frozen=True)
class Figure:
    value: float
    standard_error: float | None


@dataclass(frozen=True)
class Measured:
    """What is known of one text."""

    text: str
    figures: dict[FigureName, Figure]


def compared(result: EvaluationResult) -> Measured:
    """The figures of two models on one text."""
    log_error = result.log_ratio_standard_error
    return Measured(
        result.text.source,
        {
            "perplexity_ratio": Figure(result.ratio, None if log_error is None else result.ratio * log_error),
            "kl": Figure(result.kl, result.kl_standard_error),
            "kl_p99": Figure(result.kl_p99, None),
            "top1_agreement": Figure(result.top1_agreement, result.top1_agreement_standard_error),
            "perplexity": Figure(result.compressed.value, result.compressed.standard_error),
        },
    )


def alone(text: str, perplexity: Perplexity) -> Measured:
    """The figure of a model that is held against no other."""
    return Measured(text, {"perplexity": Figure(perplexity.value, perplexity.standard_error)})


def judge(acceptance: Acceptance, texts: Sequence[Measured]) -> Verdict | None:
    """Hold every figure against its limit. A figure at its limit passes, one that is not a number never does.

    Returns: None where there is nothing to judge: no text, or no limit on what was measured.
    """
    checks = tuple(check for text in texts for check in _checks(acceptance, text))
    if not checks:
        return None
    return Verdict(outcome="accepted" if all(check.passed for check in checks) else "regressed", checks=checks)


def check_acceptance(acceptance: Acceptance, *, has_reference: bool) -> None:
    """Refuse a limit that was asked for and could never be checked.

    Raises: InvalidOptions: a comparison without a reference.
    """
    if has_reference:
        return
    for name in sorted(acceptance.model_fields_set - {"max_perplexity"}):
        if getattr(acceptance, name) is not None:
            raise InvalidOptions(
                f"acceptance.{name}", "there is no reference to compare with", "name a reference, or limit max_perplexity"
            )


def limit_of(acceptance: Acceptance, name: FigureName) -> tuple[float | None, bool]:
    """The limit on a figure, None where there is none, and whether it is a minimum."""
    is_minimum = name == "top1_agreement"
    limit: float | None = getattr(acceptance, f"{'min' if is_minimum else 'max'}_{name}")
    return limit, is_minimum


def _checks(acceptance: Acceptance, text: Measured) -> Iterator[Check]:
    for name in get_args(FigureName):
        limit, is_minimum = limit_of(acceptance, name)
        figure = text.figures.get(name)
        if limit is None or figure is None:
            continue
        yield Check(
            text=text.text,
            figure=name,
            value=figure.value,
            standard_error=figure.standard_error,
            limit=limit,
            is_minimum=is_minimum,
            passed=figure.value >= limit if is_minimum else figure.value <= limit,
        )
