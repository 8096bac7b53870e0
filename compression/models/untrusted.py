"""The gate that every model folder passes before any loader sees it: no code, no way out, no file that chokes a parser.

Nothing is repaired or stripped: what is refused is refused with its file, field and cure, so that the bytes that were checked
are those that are loaded, and digests are of the user's own files. Torch-free. Weights are looked at by `headers`.
"""

import json
import os
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from compression.errors import UnsupportedModel
from compression.families import ONCE_REMOTE
from compression.families.base import MAX_BLOCKS, MAX_SIZE

CONFIG = "config.json"
TOKENIZER_CONFIGS = ("tokenizer_config.json", "special_tokens_map.json")  # both become arguments of the tokenizer's class
MAX_CONFIG_BYTES = 4_000_000
MAX_VOCABULARY_BYTES = 128_000_000  # tokenizer.json and its like; the largest in the field have some 35 MB
MAX_DEPTH = 64
MAX_ENTRIES = 20_000  # files and folders, of which a sharded model has some hundreds

_VOCABULARIES = ("tokenizer.json", "vocab.json", "added_tokens.json", "merges.txt", "vocab.txt", "tokenizer.model")
_TEMPLATES = ("chat_template.jinja", "chat_template.json")
_ADAPTER = "adapter_config.json"  # names another model, which would be loaded in this one's place
_REMOTE_CODE = frozenset({"auto_map", "custom_pipelines", "custom_generate", "code_revision", "trust_remote_code"})
_OTHER_FILES = frozenset({"configuration_files", "fast_tokenizer_files", "transformers_weights"})
_IMPLEMENTATIONS = re.compile(r"_?(attn|experts)_implementation(_internal)?|kernel_config|use_kernels")
_OUR_IMPLEMENTATIONS = (None, False, "eager", "sdpa", "grouped_mm", "batched_mm")  # others are fetched from a hub, and run
_TOKENIZER_CLASS = re.compile(r"\w{0,64}(Tokenizer|TokenizerFast|Backend)", re.ASCII)
_COUNT = re.compile(r"layers?$|blocks?$|depth$")
_SIZE = re.compile(r"size|dim|embd|embed|inner|positions?$|heads?$|experts|channels|labels|rank|length|width")


def check_model_path(path: Path, links_within: Sequence[Path] | None = None, ours: Path | None = None) -> None:
    """Check a model folder, or that a model file is one.

    Args:
        links_within: folders that links inside it may lead to, besides itself; None: anywhere, for a caller who checked
            before or is the machine's own user.
        ours: a program of this project; a copy of it, to the last byte, may lie in the folder. It is not run there either.
    Raises: UnsupportedModel: naming the file, the field and what would be accepted.
    """
    if not path.is_dir():
        if not path.is_file():
            raise UnsupportedModel(f"{path.name} is neither a folder nor a regular file")
        return
    _check_entries(path, links_within, ours)
    for name in (*_VOCABULARIES, *_TEMPLATES):
        _check_size(path / name, MAX_VOCABULARY_BYTES)
    for file in sorted(path.glob("*.json")):
        if "config" in file.name or file.name in TOKENIZER_CONFIGS:
            check_config(file.name, read_object(file))


def read_object(file: Path, max_bytes: int = MAX_CONFIG_BYTES) -> dict[str, Any]:
    """A JSON object that somebody else wrote. Raises: UnsupportedModel: not there, no object, too long or too deep."""
    try:
        with file.open("rb") as stream:
            data = stream.read(max_bytes + 1)
    except FileNotFoundError as error:
        raise UnsupportedModel(f"the model folder has no {file.name}") from error
    except OSError as error:
        raise UnsupportedModel(f"{file.name} cannot be read: {error.strerror}") from error
    return parse_object(data, file.name, max_bytes)


def parse_object(data: bytes, name: str, max_bytes: int = MAX_CONFIG_BYTES) -> dict[str, Any]:
    """As `read_object`, of bytes. Args: name: of the file, for the refusal."""
    if len(data) > max_bytes:
        raise UnsupportedModel(f"{name} is longer than {max_bytes} bytes")
    try:
        found = json.loads(data)
        json.dumps(found, ensure_ascii=False).encode()  # half a surrogate pair could be written nowhere
    except (ValueError, RecursionError) as error:
        raise UnsupportedModel(f"{name} is not valid JSON: {error}") from error
    if not isinstance(found, dict):
        raise UnsupportedModel(f"{name} is not a JSON object")
    if _depth(found) > MAX_DEPTH:
        raise UnsupportedModel(f"{name} is nested deeper than {MAX_DEPTH} levels")
    return found


def _check_entries(folder: Path, links_within: Sequence[Path] | None, ours: Path | None) -> None:
    count = 0
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            count += 1
            if count > MAX_ENTRIES:
                raise UnsupportedModel(f"the model folder holds more than {MAX_ENTRIES} files; name a folder of one model")
            _check_entry(folder, Path(parent) / name, links_within, ours)


def _check_entry(folder: Path, path: Path, links_within: Sequence[Path] | None, ours: Path | None) -> None:
    name = path.relative_to(folder).as_posix()
    if path.suffix in (".py", ".pyc", ".so") and not (ours is not None and _is_copy(path, ours)):
        raise UnsupportedModel(f"{name} is code, and code from a checkpoint is never run; take it out of the folder")
    if name == _ADAPTER:
        raise UnsupportedModel(f"{name} makes the folder an adapter to another model; merge it into that model first")
    try:
        kind = path.stat().st_mode
        target = path.resolve(strict=True) if path.is_symlink() else None
    except (OSError, RuntimeError) as error:  # a loop of links is a RuntimeError before Python 3.13
        raise UnsupportedModel(f"{name} is a link that leads nowhere") from error
    if not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):
        raise UnsupportedModel(f"{name} is neither a regular file nor a folder")
    if target is not None and links_within is not None:
        within = (folder.resolve(), *(place.resolve() for place in links_within))
        if not any(target.is_relative_to(place) for place in within):
            raise UnsupportedModel(f"{name} is a link out of the folders that are allowed; put the file itself there")


def _is_copy(path: Path, ours: Path) -> bool:
    """Whether a file, and no link, holds the very bytes of another."""
    expected = ours.read_bytes()
    if path.is_symlink() or not path.is_file() or path.stat().st_size != len(expected):
        return False
    return path.read_bytes() == expected


def _check_size(file: Path, max_bytes: int) -> None:
    if file.is_file() and file.stat().st_size > max_bytes:
        raise UnsupportedModel(f"{file.name} has {file.stat().st_size} bytes, more than {max_bytes}")


def check_config(name: str, config: Mapping[str, Any]) -> None:
    """One file's part of `check_model_path`, for a config that came alone. Raises: UnsupportedModel."""
    may_be_leftover = name == CONFIG and config.get("model_type") in tuple(ONCE_REMOTE)
    for field, value in _fields(config):
        if field in _REMOTE_CODE and value and not (field == "auto_map" and may_be_leftover):
            raise UnsupportedModel(f"{name} asks for remote code ({field}); code from a checkpoint is never run")
        if field in _OTHER_FILES:
            raise UnsupportedModel(f"{name}: {field} names files to read in place of the usual ones; take it out")
        if _IMPLEMENTATIONS.fullmatch(field) and (isinstance(value, dict | list) or value not in _OUR_IMPLEMENTATIONS):
            raise UnsupportedModel(f"{name}: {field} is {_shown(value)}; take it out, or make it eager or sdpa")
        if field == "tokenizer_class" and value is not None and not _TOKENIZER_CLASS.fullmatch(str(value)):
            raise UnsupportedModel(f"{name}: tokenizer_class is {_shown(value)}, which is no tokenizer")
        if name == CONFIG:
            _check_number(field, value)
    if name in TOKENIZER_CONFIGS:
        _check_tokenizer_arguments(name, config)


def _check_tokenizer_arguments(name: str, config: Mapping[str, Any]) -> None:
    """A tokenizer's class opens what these name; transformers fills them in itself, from the folder."""
    for field, value in config.items():
        is_path = field.endswith("_file") and field != "special_tokens_map_file"  # a leftover of training that nobody opens
        if (is_path or field in ("vocab", "merges")) and isinstance(value, str) and set(value) & {"/", "\\"}:
            raise UnsupportedModel(f"{name}: {field} names the path {_shown(value)}; take it out")
        if field in ("tokenizer_object", "init_inputs") and value:
            raise UnsupportedModel(f"{name}: {field} is an argument that no checkpoint may give; take it out")


def _check_number(field: str, value: Any) -> None:
    """Before anything is built from it. Families check more; this is for architectures that only transformers knows."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return
    limit = MAX_BLOCKS if _COUNT.search(field) else MAX_SIZE if _SIZE.search(field) else None
    if limit is not None and not abs(value) <= limit:
        raise UnsupportedModel(f"{CONFIG}: {field} is {_shown(value)}, beyond {limit}")


def _fields(value: Any) -> Iterator[tuple[str, Any]]:
    """Every field of an object and of all that lies in it. Recursion is bounded by MAX_DEPTH."""
    if isinstance(value, dict):
        for name, inside in value.items():
            yield name, inside
            yield from _fields(inside)
    elif isinstance(value, list):
        for inside in value:
            yield from _fields(inside)


def _depth(value: Any) -> int:
    """Levels of nesting, found level by level: the depth is what is not trusted yet."""
    depth, level = 0, [value]
    while level and depth <= MAX_DEPTH:
        depth += 1
        level = [
            inside
            for outer in level
            for inside in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inside, dict | list)
        ]
    return depth


def _shown(value: Any) -> str:
    return ascii(value)[:100]
