"""Foretold bytes against files that were written."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save

from compression.compress import compress
from compression.events import Event, Note
from compression.families import read_architecture
from compression.formats.catalog import FORMATS
from compression.formats.sizes import RULES, Stored, file_bytes, forecast, not_smaller, predicted_bytes
from compression.models.headers import DTYPE_BYTES, read_folder
from compression.plan import plan
from compression.protocol import Calibration, Evaluation, Output, OutputFormat
from compression.recipe import parse_recipe, resolve
from tests import tiny_models
from tests.compression.examples import few

DTYPES = {
    "I64": torch.int64, "F64": torch.float64, "F32": torch.float32, "I32": torch.int32, "BF16": torch.bfloat16,
    "F16": torch.float16, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip
TENSORS = st.dictionaries(
    st.text('a0.\n\x1f"\\éࠀ𐀀', min_size=1, max_size=12),
    st.builds(Stored, st.sampled_from(sorted(DTYPES)), st.lists(st.integers(0, 7), max_size=3).map(tuple)),
    max_size=6,
)


@few
@given(tensors=TENSORS)
def test_a_file_has_the_bytes_that_the_library_writes(tensors: dict[str, Stored]) -> None:
    assert DTYPES.keys() == DTYPE_BYTES.keys()
    written = save({name: torch.zeros(t.shape, dtype=DTYPES[t.dtype]) for name, t in tensors.items()}, {"format": "pt"})
    assert file_bytes(tensors) == len(written)


@pytest.mark.parametrize("family", ["llama", "llama-untied", "gpt2", "opt-projected", "mixtral"])
def test_dense_artifacts_have_the_bytes_that_were_foretold(family: str, tmp_path: Path) -> None:
    folder = tiny_models.save(tmp_path / "model", family, torch.bfloat16)
    (tmp_path / "text.txt").write_text(tiny_models.text())
    events: list[Event] = []
    report = compress(
        folder,
        {"method": "rtn", "bits": 4, "skip_blocks": [0]},
        tmp_path / "out",
        calibration=Calibration(source=str(tmp_path / "text.txt"), nsamples=1, seqlen=16),
        evaluation=Evaluation(sources=()),
        certificate=False,
        on_event=events.append,
    )
    assert report.sizes.predicted_bytes == report.sizes.artifact_bytes > report.sizes.source_bytes
    notes = [event.message for event in events if isinstance(event, Note)]
    assert not_smaller("dense", report.sizes.source_bytes, report.sizes.artifact_bytes) in notes


@pytest.mark.parametrize("recipe", [{}, {"symmetric": False}], ids=["format's own grids", "asymmetric"])
@pytest.mark.parametrize("name", sorted(RULES.keys() & FORMATS.keys()))
def test_quantised_artifacts_have_the_bytes_foretold(name: OutputFormat, recipe: dict[str, Any], tmp_path: Path) -> None:
    folder = tiny_models.save(tmp_path / "model", "llama-wide", torch.bfloat16)
    (tmp_path / "text.txt").write_text(tiny_models.text())
    report = compress(
        folder,
        {"method": "rtn", "bits": 4, "group_size": 32, "ignore": ["*.k_proj"], "skip_blocks": [1], **recipe},
        tmp_path / "out",
        calibration=Calibration(source=str(tmp_path / "text.txt"), nsamples=1, seqlen=16),
        evaluation=Evaluation(sources=()),
        output=Output(format=name),
        certificate=False,
    )
    assert report.sizes.predicted_bytes == report.sizes.artifact_bytes


def test_forecast_needs_headers_only(tmp_path: Path) -> None:
    folder = tiny_models.save(tmp_path / "model")
    tensors = read_folder(folder)
    for file in folder.glob("*.safetensors"):
        file.unlink()
    config: dict[str, Any] = json.loads((folder / "config.json").read_text())
    architecture = read_architecture(config)
    planned = plan(resolve(parse_recipe({"sparsity": 0.5})), architecture)
    found = forecast("dense", planned, architecture, tensors)
    assert found is not None
    assert found.source_bytes == sum(info.size_bytes for info in tensors.values())
    assert found.artifact_bytes == predicted_bytes("dense", planned, architecture, tensors)
    assert found.note is not None and "no smaller than its source" in found.note


def test_nothing_is_said_of_an_artifact_that_is_smaller() -> None:
    assert not_smaller("dense", 100, 99) is None
    assert not_smaller("dense", 100, 100) is not None
