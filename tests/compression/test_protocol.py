"""Calibration, evaluation and output as requests may ask for them."""

from typing import Any

import pytest
from pydantic import ValidationError

from compression.protocol import Calibration, Evaluation, Output


def test_defaults_are_those_of_the_papers() -> None:
    calibration = Calibration()
    assert (calibration.source, calibration.nsamples, calibration.seqlen, calibration.seed) == ("sotu", 128, None, 0)
    assert Evaluation().sources == ("sotu",)
    assert Output().format == "dense"


@pytest.mark.parametrize(
    ("part", "options"),
    [
        (Calibration, {"nsamples": 0}),
        (Calibration, {"nsamples": 65537}),
        (Calibration, {"seqlen": 7}),
        (Calibration, {"seqlen": 131073}),
        (Calibration, {"seed": -1}),
        (Calibration, {"seed": 2**63}),
        (Calibration, {"source": ""}),
        (Calibration, {"sources": ["sotu"]}),
        (Evaluation, {"windows": 0}),
        (Evaluation, {"sources": ["sotu"] * 9}),
        (Evaluation, {"seqlen": 0}),
        (Output, {"format": "pickle"}),
    ],
    ids=str,
)
def test_values_out_of_range_are_refused(part: type[Any], options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        part(**options)


def test_parts_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Calibration().nsamples = 1  # type: ignore[misc]
