"""Where the bytes are: the parts add up to what was read and written, and only solved matrices shrink."""

from pathlib import Path

import pytest
import torch

from compression.compress import compress
from compression.protocol import Calibration, Evaluation, Output, OutputFormat
from compression.report import SOLVED_PART
from compression.size_parts import HEADERS, IN_BLOCKS, OUTSIDE
from tests import tiny_models


@pytest.mark.parametrize(
    ("family", "output_format", "shrinks"),
    [
        ("llama-wide", "dense", False),
        ("gpt2", "dense", False),
        ("mixtral", "dense", False),
        ("mixtral", "sparse-packed", True),
        ("llama-wide", "compressed-tensors", True),
        ("llama-wide", "gptq", True),
        ("llama-wide", "gguf", True),
    ],
)
def test_parts_add_up(family: str, output_format: OutputFormat, shrinks: bool, tmp_path: Path) -> None:
    model = tiny_models.save(tmp_path / "model", family, torch.float32)
    (tmp_path / "text.txt").write_text(tiny_models.text())
    recipe = {"method": "rtn", "bits": 4, "skip_blocks": [0]}
    if family == "llama-wide":
        recipe |= {"group_size": 32, "symmetric": True}
    report = compress(
        model,
        recipe,
        tmp_path / "out",
        calibration=Calibration(source=str(tmp_path / "text.txt"), nsamples=1, seqlen=16),
        evaluation=Evaluation(sources=()),
        output=Output(format=output_format),
        certificate=False,
    )
    parts = {part.name: (part.source_bytes, part.artifact_bytes) for part in report.sizes.parts}
    assert list(parts) == [SOLVED_PART, IN_BLOCKS, OUTSIDE, HEADERS]
    assert sum(before for before, _ in parts.values()) == report.sizes.source_bytes
    assert sum(after for _, after in parts.values()) == report.sizes.artifact_bytes
    assert parts[SOLVED_PART][0] == 4 * report.sizes.targeted_parameters
    assert parts[SOLVED_PART][1] < parts[SOLVED_PART][0] / 3 if shrinks else parts[SOLVED_PART][1] == parts[SOLVED_PART][0]
    assert parts[IN_BLOCKS][0] == parts[IN_BLOCKS][1] > 0  # block 0 was left alone
    assert parts[OUTSIDE][0] == parts[OUTSIDE][1] > 0
    assert parts[HEADERS][1] > 0
