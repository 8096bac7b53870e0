"""A model of the hub -> a folder in the cache: pinned to a commit, checked before its weights come, safetensors only."""

import json
import re
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, get_session, hf_hub_url, try_to_load_from_cache
from huggingface_hub.hf_api import ModelInfo
from huggingface_hub.utils import build_hf_headers, hf_raise_for_status  # type: ignore[attr-defined]  # not marked public

from compression.errors import UnsupportedModel
from compression.families import read_architecture
from compression.models.headers import INDEX_FILE, PICKLED, SINGLE_FILE
from compression.models.source import ModelSource
from compression.models.untrusted import CONFIG, MAX_CONFIG_BYTES, check_config, check_model_path, parse_object, read_object
from jobs.errors import SourceError
from jobs.settings import Settings
from jobs.sourcing.hub import INFO_TIMEOUT_S, hub_client, hub_errors, require_space
from jobs.sourcing.sources import HubModel

QUICK_TIMEOUT_S = 3.0  # of a request that somebody waits for
_SHARD = re.compile(r"model-\d{5}-of-\d{5}\.safetensors")
COMPANIONS = (
    *("generation_config.json", "tokenizer.json", "tokenizer_config.json", "tokenizer.model", "special_tokens_map.json"),
    *("added_tokens.json", "vocab.json", "merges.txt", "vocab.txt", "chat_template.jinja", "chat_template.json"),
    "README.md",  # says the licence
)
ConfigCheck = Callable[[Mapping[str, Any]], object]  # raises UnsupportedModel
_COMMIT = re.compile(r"[0-9a-f]{40}")


def fetch_hub_model(
    source: str,
    model: HubModel,
    settings: Settings,
    on_note: Callable[[str], None],
    check: ConfigCheck = read_architecture,
) -> ModelSource:
    """Have the model's files in the cache, downloading those that are not there.

    A full commit whose files are all there needs no network.

    Raises:
        SourceError: there is no such model or revision, no access to it, or no room for it.
        UnsupportedModel: its config or its list of files already rules it out; no weights were fetched then.
        RetryableFetchError: the hub or the network failed.
    """
    cache = settings.hub_cache_dir / "hub"
    cached = _complete_snapshot(model, cache)
    if cached:
        check_model_path(cached, (cache,))
        return ModelSource(cached, source, model.revision)
    api = hub_client(settings)
    with hub_errors(source):
        info = api.model_info(model.repo_id, revision=model.revision, timeout=INFO_TIMEOUT_S, files_metadata=True)
        sizes = {sibling.rfilename: sibling.size or 0 for sibling in info.siblings or ()}
        files = files_to_fetch(sizes)
        commit = _commit(source, info)
        config = Path(_download(api, model, commit, CONFIG, cache))
        check_model_path(config.parent, (cache,))
        check(read_object(config))
        missing = [name for name in files if not (config.parent / name).exists()]
        require_space(source, sum(sizes[name] for name in missing), cache)
        for number, name in enumerate(missing, 1):
            on_note(f"fetching {name} ({sizes[name] / 1e6:.1f} MB), file {number} of {len(missing)}")
            _download(api, model, commit, name, cache)
    check_model_path(config.parent, (cache,))  # its links lead to a folder of blobs beside it
    return ModelSource(config.parent, source, commit)


def files_to_fetch(names: Collection[str]) -> tuple[str, ...]:
    """Choose from a repository's files what a pass reads, weights last: where they are, everything is.

    Raises: UnsupportedModel: no config, or no safetensors weights.
    """
    shards = sorted(name for name in names if _SHARD.fullmatch(name))
    weights = [SINGLE_FILE] if SINGLE_FILE in names else [INDEX_FILE, *shards] if INDEX_FILE in names and shards else []
    if CONFIG not in names:
        raise UnsupportedModel(f"the repository holds no {CONFIG}{_only(names, ('.gguf',), 'name the path of a copy')}")
    if not weights:
        raise UnsupportedModel(f"the repository holds no safetensors{_only(names, PICKLED, 'pickles are never opened')}")
    return (CONFIG, *(name for name in COMPANIONS if name in names), *weights)


def _only(names: Collection[str], suffixes: tuple[str, ...], advice: str) -> str:
    found = sorted(name for name in names if name.endswith(suffixes))
    return f", only {found[0]}; {advice}" if found else ""


def _commit(source: str, info: ModelInfo) -> str:
    if not info.sha or not _COMMIT.fullmatch(info.sha):
        raise SourceError(source, "the hub does not say which commit this is")
    return info.sha


def _download(api: HfApi, model: HubModel, commit: str, name: str, cache: Path) -> str:
    """One file at a time rather than a snapshot: every request of it has a deadline, which the listing has not."""
    return str(api.hf_hub_download(model.repo_id, name, revision=commit, cache_dir=cache))


def fetch_hub_config(source: str, model: HubModel, settings: Settings) -> dict[str, object]:
    """Read config.json alone, by one request that is not repeated: somebody waits, and the hub may be out of reach.

    Raises: SourceError, RetryableFetchError: as `fetch_hub_model`. UnsupportedModel: it is no JSON object, or far too long.
    """
    api = hub_client(settings)
    url = hf_hub_url(model.repo_id, CONFIG, revision=model.revision, endpoint=api.endpoint)
    headers = build_hf_headers(token=api.token, library_name=api.library_name)
    asking = get_session().stream("GET", url, headers=headers, timeout=QUICK_TIMEOUT_S, follow_redirects=True)
    with hub_errors(source), asking as answer:
        if answer.is_error:
            answer.read()
        hf_raise_for_status(answer)
        data = b""
        for chunk in answer.iter_bytes():
            data += chunk
            if len(data) > MAX_CONFIG_BYTES:
                raise UnsupportedModel(f"{CONFIG} is longer than {MAX_CONFIG_BYTES} bytes")
    config = parse_object(data, CONFIG)
    check_config(CONFIG, config)
    return config


def cached_hub_model(model: HubModel, settings: Settings) -> Path | None:
    """The folder of a model that is named by its full commit, if all of it is in the cache."""
    return _complete_snapshot(model, settings.hub_cache_dir / "hub")


def _complete_snapshot(model: HubModel, cache: Path) -> Path | None:
    """The cached folder of a full commit, if all its weights are there."""
    if not model.revision or not _COMMIT.fullmatch(model.revision):
        return None
    config = try_to_load_from_cache(model.repo_id, CONFIG, cache_dir=cache, revision=model.revision)
    if not isinstance(config, str):
        return None
    folder = Path(config).parent
    return folder if all((folder / name).exists() for name in _weights(folder)) else None


def _weights(folder: Path) -> Collection[str]:
    """The weight files that a cached folder must hold; an index that cannot be read counts as one more missing file."""
    index = folder / INDEX_FILE
    if not index.exists():
        return (SINGLE_FILE,)
    try:
        return {str(name) for name in json.loads(index.read_bytes())["weight_map"].values()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return (SINGLE_FILE,)
