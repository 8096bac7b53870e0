"""What can be known of a model while its request waits for an answer: config and headers, never weights. Torch-free.

A demo model's facts are at hand; a local folder's headers are read; of a hub model config.json alone is fetched, with a short
deadline. What cannot be known here (an unreachable hub, a GGUF file, a folder that only workers see) is left to the worker.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compression.errors import UnsupportedModel
from compression.families import Architecture, read_architecture
from compression.formats.catalog import check_model, check_plan
from compression.formats.sizes import Forecast, forecast
from compression.labels import check_labelled
from compression.models.headers import TensorInfo, read_folder
from compression.plan import plan, window_length
from compression.protocol import Calibration, Evaluation, Output
from compression.recipe import ResolvedRecipe
from jobs.demo import DEMOS
from jobs.fetch import fetch_model
from jobs.fetch_errors import RetryableFetchError
from jobs.hub_models import CONFIG, cached_hub_model, fetch_hub_config, read_config
from jobs.settings import Settings
from jobs.sources import DemoModel, HubModel, LocalModel, parse_model_source


@dataclass(frozen=True)
class KnownModel:
    """Args: config: config.json. tensors: by name; None where only the config could be had."""

    config: Mapping[str, Any]
    architecture: Architecture
    tensors: Mapping[str, TensorInfo] | None


def known_model(source: str, settings: Settings) -> KnownModel | None:
    """What is known of a model, or None.

    Raises:
        SourceError: the source is malformed, out of bounds, missing, or access to it is refused.
        UnsupportedModel: an unknown architecture, headers that lie, an index that leads out of the folder.
    """
    match parse_model_source(source):
        case DemoModel(name):
            facts = DEMOS[name].facts
            return KnownModel(facts.config, read_architecture(facts.config), facts.tensors()) if facts else None
        case HubModel() as model:
            return _hub(source, model, settings)
        case LocalModel():  # a process without roots of its own cannot judge what workers may open
            return _folder(fetch_model(source, settings).path) if settings.model_roots else None


def check_against_model(
    known: KnownModel,
    recipe: ResolvedRecipe,
    output: Output,
    calibration: Calibration | None = None,
    evaluation: Evaluation | None = None,
) -> Forecast | None:
    """Refuse what this model cannot give; foretell the artifact's size where the tensors are known.

    Raises: InvalidOptions: naming the field, the matrices at fault and what would fit.
    """
    check_model(output, known.config)
    planned = plan(recipe, known.architecture)
    check_plan(output.format, planned, known.architecture)
    if calibration is not None:
        window_length("calibration.seqlen", calibration.seqlen, known.architecture)
    if evaluation is not None:
        window_length("evaluation.seqlen", evaluation.seqlen, known.architecture)
        if evaluation.labelled is not None:
            check_labelled(known.architecture, known.config)
    return forecast(output.format, planned, known.architecture, known.tensors) if known.tensors is not None else None


def _hub(source: str, model: HubModel, settings: Settings) -> KnownModel | None:
    cached = cached_hub_model(model, settings)
    if cached is not None:
        return _folder(cached)
    try:
        config = fetch_hub_config(source, model, settings)
        return KnownModel(config, read_architecture(config), None)
    except RetryableFetchError:
        return None


def _folder(folder: Path) -> KnownModel | None:
    if not folder.is_dir():
        return None
    try:
        config = read_config(folder / CONFIG)
        return KnownModel(config, read_architecture(config), read_folder(folder))
    except OSError as error:
        raise UnsupportedModel(f"{error.filename} cannot be read: {error.strerror}") from error
