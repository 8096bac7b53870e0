"""The model that every benchmark takes unless told otherwise."""

import os

from compression.models.source import ModelSource
from jobs.settings import Settings
from jobs.sourcing.fetch import fetch_model


def demo_model() -> ModelSource:
    """SmolLM2-135M-Instruct, fetched once."""
    fetched = fetch_model("demo:smollm2-135m", Settings.from_mapping(os.environ), print)
    return ModelSource(fetched.path, fetched.name, fetched.revision, fetched.notes)
