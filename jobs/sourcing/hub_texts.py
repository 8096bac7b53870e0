"""A text data set of the hub -> one JSON Lines file in the cache, read from its parquet files and pinned to a commit."""

import json
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi
from huggingface_hub.errors import RevisionNotFoundError
from huggingface_hub.hf_api import DatasetInfo

from jobs.errors import SourceError
from jobs.settings import Settings
from jobs.sourcing.hub import INFO_TIMEOUT_S, hub_client, hub_errors, require_space
from jobs.sourcing.sources import HubText

CONVERTED = "refs/convert/parquet"  # where the hub keeps its own parquet copy of data sets in other formats
TEXT_COLUMNS = ("text", "sentence", "content")
TEXT_LIMIT_BYTES = 64_000_000  # about 16 million tokens, many times what a calibration draws; data sets can be terabytes
DEFAULT_CONFIG = "default"

_SHARDED = re.compile(r"(?P<split>.+?)-\d{5}-of-\d{5}.*")
_Place = tuple[str, str]  # configuration, split


def fetch_hub_text(source: str, text: HubText, settings: Settings, on_note: Callable[[str], None]) -> Path:
    """Have the text in the cache: one `{"text": ...}` a row, in the data set's order, up to TEXT_LIMIT_BYTES.

    Raises:
        SourceError: no such data set, configuration or split, no access, no text column, no room.
        RetryableFetchError: the hub or the network failed.
    """
    api = hub_client(settings)
    with hub_errors(source):
        commit, files = _find(api, source, text)
        target = settings.hub_cache_dir / "texts" / cached_name(text.stem, commit)
        if not target.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".fetch-", dir=target.parent) as scratch:
                tables = _download(api, source, text, commit, files, Path(scratch), on_note)
                _write_lines(_texts(source, tables), Path(scratch) / target.name, on_note).replace(target)
    return target


def cached_name(stem: str, commit: str) -> str:
    """Of a text's file in the cache."""
    return f"{stem}@{commit}.jsonl"


def places(names: Iterable[str]) -> dict[_Place, list[str]]:
    """Sort parquet files by configuration and split, as their paths tell: the hub's conventions and those of its own copies.

    `data/train-00000-of-00002.parquet`, `CONFIG/test.parquet`, `CONFIG/partial-train/0000.parquet`
    """
    found: dict[_Place, list[str]] = {}
    for name in sorted(name for name in names if name.endswith(".parquet")):
        *folders, file = name.removesuffix(".parquet").split("/")
        sharded = _SHARDED.fullmatch(file)
        split = sharded["split"] if sharded else file
        if split.isdigit() and folders:
            split = folders.pop().removeprefix("partial-")
        config = "/".join(folder for folder in folders if folder != "data") or DEFAULT_CONFIG
        found.setdefault((config, split), []).append(name)
    return found


def _find(api: HfApi, source: str, text: HubText) -> tuple[str, dict[str, int]]:
    """The commit and the files (with sizes in bytes) of one split: the repository's own parquet, else the hub's copy."""
    known: set[_Place] = set()
    for info in _revisions(api, text.dataset):
        sizes = {sibling.rfilename: sibling.size or 0 for sibling in info.siblings or ()}
        by_place = places(sizes)
        known |= set(by_place)
        files = by_place.get((_config(text, by_place), text.split))
        if files and info.sha:
            return info.sha, {name: sizes[name] for name in files}
    there = ", ".join(sorted(f"{config}:{split}" for config, split in known)[:20]) or "no parquet files at all"
    raise SourceError(source, f"the data set has no parquet files for that configuration and split; there are: {there}")


def _revisions(api: HfApi, dataset: str) -> Iterator[DatasetInfo]:
    yield api.dataset_info(dataset, timeout=INFO_TIMEOUT_S, files_metadata=True)
    try:
        yield api.dataset_info(dataset, revision=CONVERTED, timeout=INFO_TIMEOUT_S, files_metadata=True)
    except RevisionNotFoundError:
        return


def _config(text: HubText, found: Iterable[_Place]) -> str:
    """The configuration that was named, else the only one, else the default one."""
    configs = {config for config, _ in found}
    return text.config or (next(iter(configs)) if len(configs) == 1 else DEFAULT_CONFIG)


def _download(
    api: HfApi, source: str, text: HubText, commit: str, files: dict[str, int], folder: Path, on_note: Callable[[str], None]
) -> Iterator[Path]:
    """Lazily, so that no file is fetched past the limit; each is deleted once it has been read."""
    for name, size_bytes in files.items():
        require_space(source, size_bytes + TEXT_LIMIT_BYTES, folder)
        on_note(f"fetching {name} ({size_bytes / 1e6:.1f} MB) of {text.dataset}")
        path = Path(api.hf_hub_download(text.dataset, name, repo_type="dataset", revision=commit, local_dir=folder))
        yield path
        path.unlink()


def _texts(source: str, tables: Iterable[Path]) -> Iterator[str]:
    try:
        from pyarrow import ArrowException  # heavy, and only workers have it
        from pyarrow.parquet import ParquetFile
    except ImportError as error:
        raise SourceError(source, "reading data sets needs pyarrow; install the extra `worker`") from error
    for path in tables:
        try:
            with ParquetFile(path) as table:
                column = _text_column(source, table.schema_arrow)
                for batch in table.iter_batches(batch_size=1024, columns=[column]):
                    yield from (value for value in batch.column(0).to_pylist() if value is not None)
        except ArrowException as error:
            raise SourceError(source, f"{path.name} cannot be read as parquet: {error}") from error


def _text_column(source: str, schema: Any) -> str:
    for name in TEXT_COLUMNS:
        if name in schema.names and str(schema.field(name).type) in ("string", "large_string", "string_view"):
            return name
    raise SourceError(source, f"it has no text column ({', '.join(TEXT_COLUMNS)}); its columns are {', '.join(schema.names)}")


def _write_lines(texts: Iterable[str], target: Path, on_note: Callable[[str], None]) -> Path:
    written = 0
    with target.open("wb") as file:
        for text in texts:
            written += file.write(json.dumps({"text": text}, ensure_ascii=False).encode() + b"\n")
            if written >= TEXT_LIMIT_BYTES:
                on_note(f"the text was cut off after {written / 1e6:.0f} MB")
                break
    return target
