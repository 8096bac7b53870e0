"""The model that every benchmark takes unless told otherwise."""

import os
from pathlib import Path

from compression.models.gguf_source import dequantize_once
from compression.models.source import ModelSource
from jobs.settings import Settings
from jobs.sourcing.fetch import fetch_model


def demo_model() -> ModelSource:
    """SmolLM2-135M-Instruct, fetched once."""
    fetched = fetch_model("demo:smollm2-135m", Settings.from_mapping(os.environ), print)
    return ModelSource(fetched.path, fetched.name, fetched.revision, fetched.notes)


def unpacked(model: Path | None, scratch: Path) -> ModelSource:
    """A model, or the demo model, de-quantised once: no part of a benchmark pays for what another one reuses."""
    found = ModelSource(model, model.name) if model else demo_model()
    if found.path.suffix != ".gguf":
        return found
    folder, notes = dequantize_once(found.path, scratch / "model")
    return ModelSource(folder, found.name, found.revision, (*found.notes, *notes))
