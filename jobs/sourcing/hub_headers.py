"""The tensors of a hub model from its files' headers, by range requests: kilobytes instead of the weights. Somebody waits.

The hub's own library would read a whole file where a server ignores the range; here every read is bounded, and the headers
go through the checks that those of a local file go through.
"""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import get_session, hf_hub_url
from huggingface_hub.errors import EntryNotFoundError
from huggingface_hub.utils import build_hf_headers, hf_raise_for_status  # type: ignore[attr-defined]  # not marked public

from compression.errors import UnsupportedModel
from compression.models.headers import (
    INDEX_FILE,
    LENGTH_BYTES,
    SINGLE_FILE,
    TensorInfo,
    header_length,
    joined,
    parse_header,
    parse_index,
)
from jobs.settings import Settings
from jobs.sourcing.fetch_errors import RetryableFetchError
from jobs.sourcing.hub import hub_client, hub_errors
from jobs.sourcing.sources import HubModel

REQUEST_TIMEOUT_S = 3.0
DEADLINE_S = 6.0  # for all files together
FIRST_BYTES = 100_000  # most headers are shorter, so that one request does
MAX_INDEX_BYTES = 32_000_000
MAX_FILES = 400  # DeepSeek-V3 has 163
MAX_BYTES = 64_000_000  # of all headers together
AT_ONCE = 8


def fetch_hub_tensors(source: str, model: HubModel, settings: Settings) -> dict[str, TensorInfo]:
    """Every tensor of the model by name, as `headers.read_folder` would give them of its folder.

    Raises:
        UnsupportedModel: no safetensors, or headers that lie.
        SourceError: no access. RetryableFetchError: the hub failed, or did not answer in time.
    """
    hub = _Hub(source, model, settings, time.monotonic() + DEADLINE_S)
    try:
        return joined([hub.header(SINGLE_FILE)], None)
    except _NoSuchFile:
        pass
    try:
        weight_map = parse_index(hub.read(INDEX_FILE, 0, MAX_INDEX_BYTES).data)
    except _NoSuchFile as error:
        raise UnsupportedModel(f"the repository holds neither {SINGLE_FILE} nor {INDEX_FILE}") from error
    files = sorted(set(weight_map.values()))
    if len(files) > MAX_FILES:
        raise UnsupportedModel(f"{INDEX_FILE} names {len(files)} files; more than {MAX_FILES} are not looked into")
    with ThreadPoolExecutor(AT_ONCE) as pool:
        try:
            return joined(list(pool.map(hub.header, files)), weight_map)
        except _NoSuchFile as error:
            raise UnsupportedModel(f"{INDEX_FILE} names {error.name!r}, which is not there") from error
        finally:
            pool.shutdown(cancel_futures=True)


class _NoSuchFile(Exception):
    def __init__(self, name: str) -> None:
        self.name = name


@dataclass(frozen=True)
class _Start:
    """The first bytes of a file, as many as were asked for or are there, and the size of it all."""

    data: bytes
    size: int


@dataclass
class _Hub:
    """One model's files, read within one deadline and one allowance of bytes."""

    source: str
    model: HubModel
    settings: Settings
    deadline: float
    left_bytes: int = MAX_BYTES

    def header(self, name: str) -> list[TensorInfo]:
        """The tensors of one safetensors file."""
        start, file = self.read(name, 0, FIRST_BYTES), Path(name)
        length = header_length(file, start.data, start.size)
        raw = start.data[LENGTH_BYTES : LENGTH_BYTES + length]
        if len(raw) < length:
            raw += self.read(name, LENGTH_BYTES + len(raw), length - len(raw)).data
        return parse_header(file, raw, start.size)

    def read(self, name: str, first: int, count: int) -> _Start:
        """At most `count` bytes of a file from `first` on; never more, whatever the server sends."""
        if count > MAX_INDEX_BYTES or self.left_bytes <= 0:
            raise UnsupportedModel(f"{name}: its header is longer than what is read before a job runs")
        with self._asking(name, first, first + count - 1) as answer:
            is_part = answer.status_code == 206
            size = _size(answer, is_part=is_part)
            skipped, data = (0 if is_part else first), b""
            for chunk in answer.iter_bytes():
                self._check_time()
                data += chunk
                if len(data) >= skipped + count:
                    break
        data = data[skipped : skipped + count]
        self.left_bytes -= len(data)
        if size is None:
            raise RetryableFetchError(self.source, f"the hub does not say how long {name} is")
        return _Start(data, size)

    @contextmanager
    def _asking(self, name: str, first: int, last: int) -> Iterator[Any]:
        self._check_time()
        api = hub_client(self.settings)
        url = hf_hub_url(self.model.repo_id, name, revision=self.model.revision, endpoint=api.endpoint)
        headers = build_hf_headers(token=api.token, library_name=api.library_name)
        headers |= {"Range": f"bytes={first}-{last}", "Accept-Encoding": "identity"}
        asking = get_session().stream("GET", url, headers=headers, timeout=REQUEST_TIMEOUT_S, follow_redirects=True)
        with hub_errors(self.source), asking as answer:
            if answer.is_error:
                answer.read()
            try:
                hf_raise_for_status(answer)
            except EntryNotFoundError as error:
                raise _NoSuchFile(name) from error
            yield answer

    def _check_time(self) -> None:
        if time.monotonic() > self.deadline:
            raise RetryableFetchError(self.source, f"the hub did not give all headers within {DEADLINE_S:.0f} s")


def _size(answer: Any, *, is_part: bool) -> int | None:
    """Bytes of the whole file, from `Content-Range: bytes 0-99/1234`, or of an answer that is all of it."""
    text = answer.headers.get("Content-Range", "").rpartition("/")[2] if is_part else answer.headers.get("Content-Length", "")
    return int(text) if text.isdigit() else None
