"""Conversations -> the texts that a model was trained to read, by the model's own chat template.

The template is a program of somebody else's: it is rendered in the library's limited process, never in this one.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from compression.chat import Conversation, render_chats
from compression.models.untrusted import MAX_CONFIG_BYTES, read_object
from jobs.errors import SourceError

BATCH_BYTES = 4 * 1024 * 1024  # of lines rendered by one process
TOKENIZER_CONFIG = "tokenizer_config.json"
TEMPLATE_FILES = ("chat_template.jinja", "chat_template.json")
SPECIAL_TOKENS = ("bos_token", "eos_token", "unk_token", "pad_token")
DEFAULT = "default"


def write_chat_texts(source: str, lines: Path, model: Path, target: Path, check: Callable[[], None]) -> None:
    """Render every conversation of a checked data set to a line of `target`, which appears whole or not at all.

    Args:
        source: the data set, as the job names it. lines: its file. model: the model's folder.
        check: called between batches; may raise to stop.
    Raises: SourceError: the model has no chat template. InvalidTemplate: it cannot be rendered. UnsupportedModel: the
        tokenizer's config is damaged.
    """
    template, variables = template_of(source, model)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_suffix(".part")
    with partial.open("w", encoding="utf-8") as file:
        for batch in _batches(lines):
            check()
            for text in render_chats(batch, template, variables=variables):
                file.write(json.dumps({"text": text}) + "\n")
    partial.replace(target)


def template_of(source: str, model: Path) -> tuple[str, dict[str, str]]:
    """The model's template, and the special tokens that it may write. Raises: SourceError, UnsupportedModel."""
    config = read_object(model / TOKENIZER_CONFIG) if (model / TOKENIZER_CONFIG).is_file() else {}
    template = _from_file(source, model) or _from_config(config)
    if template is None:
        raise SourceError(source, "it holds conversations, and the model has no chat template to read them by")
    tokens = {name: _content(config.get(name)) for name in SPECIAL_TOKENS}
    return template, {name: token for name, token in tokens.items() if token is not None}


def _from_file(source: str, model: Path) -> str | None:
    jinja, as_json = (model / name for name in TEMPLATE_FILES)
    if jinja.is_file():
        data = jinja.read_bytes() if jinja.stat().st_size <= MAX_CONFIG_BYTES else b"\xff"
        try:
            return data.decode()
        except UnicodeDecodeError as error:
            raise SourceError(source, f"the model's {jinja.name} is no template") from error
    return _from_config(read_object(as_json)) if as_json.is_file() else None


def _from_config(config: Mapping[str, Any]) -> str | None:
    found = config.get("chat_template")
    if isinstance(found, list):  # several, each with a name
        named = {entry.get("name"): entry.get("template") for entry in found if isinstance(entry, dict)}
        found = named.get(DEFAULT)
    return found if isinstance(found, str) else None


def _content(token: Any) -> str | None:
    """A special token is a string, or an object that tells more of it."""
    found = token.get("content") if isinstance(token, dict) else token
    return found if isinstance(found, str) else None


def _batches(lines: Path) -> Iterator[list[Conversation]]:
    batch: list[Conversation] = []
    size = 0
    with lines.open("rb") as file:
        for line in file:
            if not line.strip():
                continue
            batch.append(json.loads(line)["messages"])
            size += len(line)
            if size >= BATCH_BYTES:
                yield batch
                batch, size = [], 0
    if batch:
        yield batch
