"""Accepted or regressed: the figures of an evaluation against the limits of the request. Pure, and torch-free."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from compression.errors import InvalidOptions
from compression.protocol import Acceptance, Evaluation
from compression.report import AccuracyResult, Check, EvaluationResult, OutputErrorResult, Perplexity, Verdict

FigureName = Literal["perplexity_ratio", "kl", "kl_p99", "top1_agreement", "perplexity", "output_error", "accuracy_loss"]
MINIMA: tuple[FigureName, ...] = ("top1_agreement",)
OF_OUTPUTS: FigureName = "output_error"
OF_LABELS: FigureName = "accuracy_loss"
NO_VERDICT = "no verdict: "


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


def of_outputs(result: OutputErrorResult) -> Measured:
    """The figure of two encoders on one text."""
    figure = Figure(result.relative_error, result.relative_error_standard_error)
    return Measured(result.text.source, {OF_OUTPUTS: figure})


def of_labels(result: AccuracyResult) -> Measured:
    """The figure of two classifiers on labelled texts."""
    return Measured(result.source, {OF_LABELS: Figure(result.loss, result.loss_standard_error)})


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


def why_none(texts: Sequence[Measured]) -> str:
    """Why `judge` gave no verdict on these."""
    if not texts:
        return f"{NO_VERDICT}nothing was evaluated"
    names = dict.fromkeys(f"acceptance.{_limit_name(name)}" for text in texts for name in text.figures)
    return f"{NO_VERDICT}no limit is set on what was measured ({', '.join(names)})"


def check_measured(acceptance: Acceptance, *, is_encoder: bool, has_labels: bool) -> None:
    """Refuse a limit that was asked for on what is not measured of such a model.

    Raises: InvalidOptions: naming the limit.
    """
    for name in get_args(FigureName):
        limit, option = limit_of(acceptance, name)[0], _limit_name(name)
        if limit is None or option not in acceptance.model_fields_set:
            continue
        if name == OF_LABELS and not has_labels:
            raise InvalidOptions(f"acceptance.{option}", "accuracy is measured on labelled texts", "name evaluation.labelled")
        if name != OF_LABELS and is_encoder != (name == OF_OUTPUTS):
            kind = "an encoder" if is_encoder else "a causal language model"
            raise InvalidOptions(f"acceptance.{option}", f"{name} is not measured of {kind}", "leave it out")


def check_acceptance(acceptance: Acceptance, *, has_reference: bool) -> None:
    """Refuse a limit that was asked for and could never be checked.

    Raises: InvalidOptions: a comparison without a reference, or what only a compression measures.
    """
    check_measured(acceptance, is_encoder=False, has_labels=False)
    if has_reference:
        return
    for name in sorted(acceptance.model_fields_set - {"max_perplexity"}):
        if getattr(acceptance, name) is not None:
            raise InvalidOptions(
                f"acceptance.{name}", "there is no reference to compare with", "name a reference, or limit max_perplexity"
            )


def check_unlabelled(evaluation: Evaluation) -> None:
    """Raises: InvalidOptions: accuracy is asked of an evaluation alone, which reads causal language models only."""
    if evaluation.labelled is not None:
        raise InvalidOptions("evaluation.labelled", "only a compression of a classifier measures accuracy", "leave it out")


def limit_of(acceptance: Acceptance, name: FigureName) -> tuple[float | None, bool]:
    """The limit on a figure, None where there is none, and whether it is a minimum."""
    limit: float | None = getattr(acceptance, _limit_name(name))
    return limit, name in MINIMA


def _limit_name(name: FigureName) -> str:
    return f"{'min' if name in MINIMA else 'max'}_{name}"


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
