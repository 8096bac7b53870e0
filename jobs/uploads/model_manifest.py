"""What a user promises to bring: the files of a model, judged by name and size before the first byte comes."""

import hashlib
import json
import re
from collections.abc import Collection
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from compression.errors import InvalidOptions
from compression.models.headers import INDEX_FILE, SINGLE_FILE
from compression.models.untrusted import CONFIG, MAX_CONFIG_BYTES, MAX_VOCABULARY_BYTES
from jobs.settings import Settings
from jobs.sourcing.hub_models import COMPANIONS

MAX_FILES = 1024
MAX_INDEX_BYTES = 32_000_000
MIN_WEIGHTS_BYTES = 10  # the length of a header, and an empty one

SMALL = frozenset({CONFIG, "generation_config.json", "tokenizer_config.json", "special_tokens_map.json"})
_WEIGHTS = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,100}(\.[A-Za-z0-9_-]{1,50}){0,4}\.safetensors")
_ALLOWED = f"{CONFIG}, {', '.join(COMPANIONS)}, {INDEX_FILE}, *.safetensors"

Name = Annotated[str, StringConstraints(min_length=1, max_length=255, pattern=r"^[^\x00-\x1f\x7f]+$")]
EXAMPLE: Any = {
    "name": "my-llama",
    "files": [
        {"path": CONFIG, "size_bytes": 661, "sha256": "0" * 64},
        {"path": "tokenizer.json", "size_bytes": 3_505_000, "sha256": "1" * 64},
        {"path": SINGLE_FILE, "size_bytes": 269_060_552, "sha256": "2" * 64},
    ],
}


class ManifestFile(BaseModel):
    """One file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str = Field(min_length=1, max_length=255, description=f"A plain name: {_ALLOWED}.")
    size_bytes: int = Field(ge=1, le=2**53 - 1)
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class Manifest(BaseModel):
    """A model to be uploaded."""

    model_config = ConfigDict(frozen=True, extra="forbid", json_schema_extra={"examples": [EXAMPLE]})

    name: Name = Field(description="The user's own word for it.")
    files: tuple[ManifestFile, ...] = Field(min_length=1, max_length=MAX_FILES)

    @property
    def size_bytes(self) -> int:
        return sum(file.size_bytes for file in self.files)

    @property
    def digest(self) -> str:
        """SHA-256 of names, sizes and hashes, in whatever order they were given."""
        files = sorted((file.path, file.size_bytes, file.sha256) for file in self.files)
        return hashlib.sha256(json.dumps(files).encode()).hexdigest()


def check_manifest(manifest: Manifest, settings: Settings) -> None:
    """Raises: InvalidOptions: naming the file at fault and what would be accepted."""
    seen: set[str] = set()
    for index, file in enumerate(manifest.files):
        field = f"files.{index}"
        if file.path in seen:
            raise InvalidOptions(f"{field}.path", f"{file.path} stands twice", "each file once")
        seen.add(file.path)
        limit = _limit(file.path)
        if limit is None:
            raise InvalidOptions(f"{field}.path", f"{file.path!r} is no file of a model that this server takes", _ALLOWED)
        if limit and file.size_bytes > limit:
            raise InvalidOptions(f"{field}.size_bytes", f"{file.path} of {file.size_bytes} bytes", f"at most {limit}")
        if not limit and file.size_bytes < MIN_WEIGHTS_BYTES:
            raise InvalidOptions(
                f"{field}.size_bytes", f"{file.path} of {file.size_bytes} bytes", f"at least {MIN_WEIGHTS_BYTES}"
            )
    if manifest.size_bytes > settings.max_model_bytes:
        words = f"{manifest.size_bytes} bytes in all"
        raise InvalidOptions("files", words, f"at most {settings.max_model_bytes} on this server")
    _check_whole(seen)


def is_weights(path: str) -> bool:
    return path.endswith(".safetensors")


def _limit(path: str) -> int | None:
    """Bytes that a file of this name may have; 0: as many as the model may; None: it is no such file."""
    if path in SMALL:
        return MAX_CONFIG_BYTES
    if path == INDEX_FILE:
        return MAX_INDEX_BYTES
    if path in COMPANIONS:
        return MAX_VOCABULARY_BYTES
    return 0 if _WEIGHTS.fullmatch(path) else None


def _check_whole(names: Collection[str]) -> None:
    if CONFIG not in names:
        raise InvalidOptions("files", f"there is no {CONFIG}", f"{CONFIG} and safetensors weights")
    weights = [name for name in names if is_weights(name)]
    if not weights:
        raise InvalidOptions("files", "there are no safetensors weights; pickles are never opened", SINGLE_FILE)
    if INDEX_FILE not in names and weights != [SINGLE_FILE]:
        raise InvalidOptions("files", f"weights in several files need {INDEX_FILE}", f"{SINGLE_FILE} alone, or the index")
