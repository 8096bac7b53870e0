"""How many tokens a data set has for a model, told from its beginning."""

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from compression.token_count import TOKENIZER, count_tokens
from jobs.database import Sessions
from jobs.errors import SourceError
from jobs.settings import Settings
from jobs.sourcing.hub_models import cached_hub_model
from jobs.sourcing.sources import DemoModel, HubModel, LocalModel, UploadedModelSource, parse_model_source, resolve_local
from jobs.store.artifacts import ArtifactStore
from jobs.store.stored_parts import stream_parts
from jobs.tables import Dataset
from jobs.uploads import model_uploads
from jobs.uploads.errors import ModelNotFound

SAMPLE_BYTES = 1024 * 1024


@dataclass(frozen=True)
class TokenSample:
    """Args: characters: of the sample. tokens: in it. of_all: scaled to the whole where the sample is not all of it."""

    characters: int
    tokens: int
    of_all: int
    is_whole: bool


def sample_tokens(dataset: Dataset, store: ArtifactStore, tokenizer: Path) -> TokenSample:
    """Tokens of at most the first `SAMPLE_BYTES`; of conversations, of what is said in them, without the template's own.

    Raises: SourceError: the first entry alone is longer. UnsupportedModel: the tokenizer cannot be used.
    """
    data = b"".join(store.stream(dataset.sha256, 0, SAMPLE_BYTES))
    is_whole = len(data) == dataset.size_bytes
    texts = [data.decode(errors="ignore")] if dataset.kind == "text" else list(_texts(data, is_whole))
    characters = sum(map(len, texts))
    if characters == 0 and dataset.characters > 0:
        raise SourceError(
            f"dataset:{dataset.id}", f"its first entry is longer than the {SAMPLE_BYTES} bytes that are looked at"
        )
    tokens = count_tokens(tokenizer, "\n\n".join(texts)) if characters else 0
    return TokenSample(characters, tokens, tokens if is_whole else round(tokens * dataset.characters / characters), is_whole)


@contextmanager
def tokenizer_of(source: str, tenant_id: str, sessions: Sessions, store: ArtifactStore, settings: Settings) -> Iterator[Path]:
    """The tokenizer.json of a model that this process can look at: an upload, a local folder, or what the hub's cache has.

    Raises: SourceError: there is no such model, or no such file of it here.
    """
    name = parse_model_source(source)
    if isinstance(name, UploadedModelSource):
        with _of_upload(source, name, tenant_id, sessions, store) as path:
            yield path
        return
    folder = _folder(name, settings)
    if folder is None or not (folder / TOKENIZER).is_file():
        raise SourceError(
            source, f"this server has no {TOKENIZER} of it at hand; a job's report tells the tokens of its texts"
        )
    yield folder / TOKENIZER


def _folder(name: DemoModel | HubModel | LocalModel, settings: Settings) -> Path | None:
    match name:
        case HubModel():
            return cached_hub_model(name, settings)
        case LocalModel(path):
            return resolve_local(path, settings.model_roots)
    return None


@contextmanager
def _of_upload(
    source: str, name: UploadedModelSource, tenant_id: str, sessions: Sessions, store: ArtifactStore
) -> Iterator[Path]:
    try:
        with sessions() as session:
            model = model_uploads.get(session, tenant_id, name.model_id)
            parts = model_uploads.parts(session, name.model_id).get(TOKENIZER)
    except ModelNotFound as error:
        raise SourceError(source, "there is no such uploaded model") from error
    if model.state != model_uploads.UploadState.READY or parts is None:
        raise SourceError(source, f"it is not ready, or has no {TOKENIZER}")
    with tempfile.TemporaryDirectory(prefix="scalpel-tokenizer-") as scratch:
        path = Path(scratch) / TOKENIZER
        with path.open("wb") as file:
            file.writelines(stream_parts(store, parts))
        yield path


def _texts(data: bytes, is_whole: bool) -> Iterator[str]:
    """Of the lines that are there to their end."""
    lines = data.split(b"\n")
    for line in lines if is_whole else lines[:-1]:
        if not line.strip():
            continue
        entry = json.loads(line)
        if isinstance(entry, str):
            yield entry
        elif "messages" in entry:
            yield from (message["content"] for message in entry["messages"])
        else:
            yield entry["text"]
