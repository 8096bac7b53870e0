"""The field's benchmark texts from the hub: WikiText-2 and PTB from parquet, C4 from one compressed shard.

Their files never change, so that a copy in the cache serves where the hub cannot be reached.
"""

import gzip
import json
import tempfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from compression.corpora import CORPORA, TextUse
from jobs.errors import SourceError
from jobs.settings import Settings
from jobs.sourcing.fetch_errors import RetryableFetchError
from jobs.sourcing.hub import INFO_TIMEOUT_S, hub_client, hub_errors, require_space
from jobs.sourcing.hub_texts import cached_name, fetch_hub_text
from jobs.sourcing.sources import HubText

MAX_SHARD_BYTES = 2_000_000_000  # of a shard once decompressed; C4's hold some 0.8 GB
MAX_LINE_BYTES = 16_000_000
EXPANSION = 4  # a generous guess at decompressed / compressed, for the room on the disk


@dataclass(frozen=True)
class HubShard:
    """One compressed JSON Lines file of a data set."""

    dataset: str
    file: str


PLACES: dict[str, HubText | HubShard] = {
    "wikitext2:calibration": HubText("Salesforce/wikitext", "wikitext-2-raw-v1", "train"),
    "wikitext2:evaluation": HubText("Salesforce/wikitext", "wikitext-2-raw-v1", "test"),
    "ptb:calibration": HubText("ptb-text-only/ptb_text_only", "penn_treebank", "train"),
    "ptb:evaluation": HubText("ptb-text-only/ptb_text_only", "penn_treebank", "test"),
    "c4:calibration": HubShard("allenai/c4", "en/c4-train.00000-of-01024.json.gz"),
    "c4:evaluation": HubShard("allenai/c4", "en/c4-validation.00000-of-00008.json.gz"),
}


def fetch_corpus(use: TextUse, settings: Settings, on_note: Callable[[str], None]) -> Path:
    """Have a benchmark's rows for one role in the cache, as JSON Lines.

    Raises:
        SourceError: the hub no longer has it in this form, or there is no room.
        RetryableFetchError: the hub or the network failed, and there is no copy from before.
    """
    place = PLACES[use.key]
    try:
        if isinstance(place, HubText):
            return fetch_hub_text(use.source, place, settings, on_note)
        return _fetch_shard(use, place, settings, on_note)
    except RetryableFetchError as error:
        copies = sorted((settings.hub_cache_dir / "texts").glob(cached_name(_stem(place), "*")))
        if not copies:
            raise
        on_note(f"{use.source}: {error.reason}; the copy of an earlier job is used")
        return copies[-1]


def _stem(place: HubText | HubShard) -> str:
    if isinstance(place, HubText):
        return place.stem
    return "--".join([*place.dataset.split("/"), place.file.removesuffix(".json.gz").replace("/", "--")])


def _fetch_shard(use: TextUse, shard: HubShard, settings: Settings, on_note: Callable[[str], None]) -> Path:
    api = hub_client(settings)
    with hub_errors(use.source):
        info = api.dataset_info(shard.dataset, timeout=INFO_TIMEOUT_S, files_metadata=True)
        sizes = {sibling.rfilename: sibling.size or 0 for sibling in info.siblings or ()}
        if shard.file not in sizes or not info.sha:
            raise SourceError(use.source, f"{shard.dataset} no longer holds {shard.file}; name another text")
        target = settings.hub_cache_dir / "texts" / cached_name(_stem(shard), info.sha)
        if target.is_file():
            return target
        target.parent.mkdir(parents=True, exist_ok=True)
        require_space(use.source, sizes[shard.file] * (1 + EXPANSION), target.parent)
        with tempfile.TemporaryDirectory(prefix=".fetch-", dir=target.parent) as scratch:
            on_note(f"fetching {shard.file} ({sizes[shard.file] / 1e6:.1f} MB) of {shard.dataset}")
            packed = api.hf_hub_download(shard.dataset, shard.file, repo_type="dataset", revision=info.sha, local_dir=scratch)
            written = Path(scratch) / target.name
            _write(use, Path(packed), written)
            written.replace(target)
    return target


def _write(use: TextUse, packed: Path, target: Path) -> None:
    """The documents that the role needs, one a line."""
    wanted = CORPORA[use.source].documents if use.role == "evaluation" else None
    with target.open("wb") as file:
        for text in islice(_texts(use.source, packed), wanted):
            file.write(json.dumps({"text": text}, ensure_ascii=False).encode() + b"\n")


def _texts(source: str, packed: Path) -> Iterator[str]:
    """Raises: SourceError: the shard is not what C4's are."""
    read = 0
    try:
        with gzip.open(packed) as lines:
            while line := lines.readline(MAX_LINE_BYTES):
                read += len(line)
                if read > MAX_SHARD_BYTES:
                    raise SourceError(source, f"{packed.name} decompresses to more than {MAX_SHARD_BYTES / 1e9:g} GB")
                text = json.loads(line)["text"]
                if not isinstance(text, str):
                    raise TypeError("its text is no string")
                yield text
    except (gzip.BadGzipFile, EOFError, zlib.error, ValueError, KeyError, TypeError, RecursionError) as error:
        raise SourceError(source, f"{packed.name} is damaged, or no longer JSON lines with a text ({error})") from error
