"""What is said of the demo models without having them, held against the real ones."""

from pathlib import Path

import pytest

from compression.models.gguf_source import dequantize_once
from compression.models.headers import TensorInfo, read_folder
from compression.models.untrusted import read_object
from jobs.settings import Settings
from jobs.sourcing.demo import DEMOS
from jobs.sourcing.fetch import fetch_model


def shapes(tensors: dict[str, TensorInfo]) -> dict[str, tuple[str, tuple[int, ...], int]]:
    return {name: (info.dtype, info.shape, info.size_bytes) for name, info in tensors.items()}


@pytest.mark.slow
@pytest.mark.parametrize("name", DEMOS)
def test_facts_are_those_of_the_real_checkpoint(name: str, tmp_path: Path) -> None:
    path = fetch_model(f"demo:{name}", Settings(data_dir=tmp_path)).path
    folder = path if path.is_dir() else dequantize_once(path, tmp_path / "dense")[0]
    facts = DEMOS[name].facts
    assert shapes(facts.tensors()) == shapes(read_folder(folder))
    config = read_object(folder / "config.json")
    assert {entry: config.get(entry) for entry in facts.config} == facts.config
