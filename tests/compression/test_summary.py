"""What the report says of an artifact's size follows from real bytes."""

import pytest

from compression.protocol import OutputFormat
from compression.summary import size_note


def test_smaller_artifact_says_how_much() -> None:
    assert size_note("gptq", 1000, 306) == "The artifact takes 30.6% of its source's bytes."


@pytest.mark.parametrize(
    ("output_format", "why"), [("dense", "zeros stored as zeros"), ("compressed-tensors", "outweigh what the codes save")]
)
@pytest.mark.parametrize("artifact_bytes", [1000, 1001])
def test_artifact_that_is_not_smaller_says_so_and_why(output_format: OutputFormat, why: str, artifact_bytes: int) -> None:
    note = size_note(output_format, 1000, artifact_bytes)
    assert note.startswith("The artifact is no smaller than its source: ") and why in note
