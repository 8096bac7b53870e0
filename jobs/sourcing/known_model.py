"""What can be known of a model while its request waits for an answer: config and headers, never weights. Torch-free.

A demo model's facts are at hand, and an uploaded one's in its row; a local folder's headers are read; of a hub model
config.json and the headers are fetched, with a short deadline. What cannot be known here (an unreachable hub, a GGUF file, a
folder that only workers see) is left to the worker.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compression.errors import UnsupportedModel
from compression.families import Architecture, read_architecture
from compression.formats.catalog import check_model, check_plan
from compression.formats.sizes import Forecast, forecast
from compression.labels import check_labelled
from compression.models.headers import TensorInfo, read_folder
from compression.models.untrusted import CONFIG, read_object
from compression.plan import plan, window_length
from compression.protocol import Calibration, Evaluation, Output
from compression.recipe import ResolvedRecipe
from jobs.settings import Settings
from jobs.sourcing.demo import DEMOS
from jobs.sourcing.fetch import fetch_model
from jobs.sourcing.fetch_errors import RetryableFetchError
from jobs.sourcing.hub_headers import fetch_hub_tensors
from jobs.sourcing.hub_models import cached_hub_model, fetch_hub_config
from jobs.sourcing.sources import DemoModel, HubModel, LocalModel, UploadedModelSource, parse_model_source


@dataclass(frozen=True)
class KnownModel:
    """Args:
    config: config.json.
    tensors: by name; None where only the config could be had.
    is_here: nothing has to be downloaded or unpacked before it can be opened.
    unknown: why there are no tensors.
    """

    config: Mapping[str, Any]
    architecture: Architecture
    tensors: Mapping[str, TensorInfo] | None
    is_here: bool = False
    unknown: str | None = None


@dataclass(frozen=True)
class UnknownModel:
    """Nothing can be known of a model here, for this reason."""

    reason: str


OfUpload = Callable[[str], KnownModel]


def known_model(source: str, settings: Settings, uploaded: OfUpload | None = None) -> KnownModel | None:
    """What is known of a model, or None. As `look_up`."""
    found = look_up(source, settings, uploaded)
    return found if isinstance(found, KnownModel) else None


def look_up(source: str, settings: Settings, uploaded: OfUpload | None = None) -> KnownModel | UnknownModel:
    """What is known of a model, or why nothing is.

    Args: uploaded: finds what is known of the caller's own uploads, as `jobs.uploads.brought`.
    Raises:
        SourceError: the source is malformed, out of bounds, missing, or access to it is refused.
        UnsupportedModel: an unknown architecture, headers that lie, an index that leads out of the folder.
    """
    match parse_model_source(source):
        case DemoModel(name):
            facts = DEMOS[name].facts
            return KnownModel(facts.config, read_architecture(facts.config), facts.tensors())
        case HubModel() as model:
            return _hub(source, model, settings)
        case UploadedModelSource(model_id):
            return uploaded(model_id) if uploaded else UnknownModel("uploads are their owner's, and nobody was named")
        case LocalModel():  # a process without roots of its own cannot judge what workers may open
            if not settings.model_roots:
                return UnknownModel("this process may open no local folders; workers look at them")
            return _folder(fetch_model(source, settings).path)


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


def _hub(source: str, model: HubModel, settings: Settings) -> KnownModel | UnknownModel:
    cached = cached_hub_model(model, settings)
    if cached is not None:
        return _folder(cached)
    try:
        config = fetch_hub_config(source, model, settings)
    except RetryableFetchError as error:
        return UnknownModel(error.reason)
    architecture = read_architecture(config)
    try:
        return KnownModel(config, architecture, fetch_hub_tensors(source, model, settings))
    except RetryableFetchError as error:
        return KnownModel(config, architecture, None, unknown=error.reason)


def _folder(folder: Path) -> KnownModel | UnknownModel:
    if not folder.is_dir():
        return UnknownModel("a .gguf file is looked into by the worker alone")
    try:
        config = read_object(folder / CONFIG)
        return KnownModel(config, read_architecture(config), read_folder(folder), is_here=True)
    except OSError as error:
        raise UnsupportedModel(f"{error.filename} cannot be read: {error.strerror}") from error
