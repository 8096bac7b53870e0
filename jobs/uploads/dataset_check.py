"""A data set, looked at as it streams in: never held in memory, refused at the first line that is wrong."""

import codecs
import json
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from jobs.uploads.errors import InvalidDataset

Kind = Literal["text", "documents", "chat", "labelled"]

MAX_LINE_BYTES = 8 * 1024 * 1024
MAX_DOCUMENTS = 5_000_000
MAX_DEPTH = 16  # of a line's JSON
MAX_MESSAGES = 4096  # of one conversation
MAX_LABEL_CHARACTERS = 256
SHAPES = '{"text": ...}, {"text": ..., "label": ...} or {"messages": [{"role": ..., "content": ...}, ...]}'


@dataclass(frozen=True)
class Counts:
    """What a data set holds. Args: characters: of its texts; of conversations, of what is said in them."""

    kind: Kind
    documents: int
    characters: int


class Check(Protocol):
    """Fed every byte once, in order."""

    def feed(self, data: bytes) -> None:
        """Raises: InvalidDataset."""

    def finish(self) -> Counts:
        """Raises: InvalidDataset."""


class PlainText:
    """Running text: one document."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._line, self._characters, self._is_blank = 1, 0, True

    def feed(self, data: bytes) -> None:
        self._take(data, final=False)

    def finish(self) -> Counts:
        self._take(b"", final=True)
        if self._is_blank:
            raise InvalidDataset("the text is empty")
        return Counts("text", 1, self._characters)

    def _take(self, data: bytes, *, final: bool) -> None:
        try:
            text = self._decoder.decode(data, final)
        except UnicodeDecodeError as error:
            raise InvalidDataset("not UTF-8", self._line + error.object[: error.start].count(b"\n")) from error
        if "\0" in text:
            raise InvalidDataset("a zero byte, which no text holds", self._line + text[: text.index("\0")].count("\n"))
        self._line += text.count("\n")
        self._characters += len(text)
        self._is_blank = self._is_blank and not text.strip()


class JsonLines:
    """One document a line, all of the kind that the first one has. Blank lines count for nothing."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._line, self._documents, self._characters = 0, 0, 0
        self._kind: Kind | None = None

    def feed(self, data: bytes) -> None:
        *lines, rest = data.split(b"\n")
        for line in lines:
            self._rest += line
            self._take()
        self._rest += rest
        self._check_length()

    def finish(self) -> Counts:
        if self._rest:
            self._take()
        if self._kind is None:
            raise InvalidDataset(f"holds no document; a line is {SHAPES}")
        return Counts(self._kind, self._documents, self._characters)

    def _take(self) -> None:
        self._check_length()
        self._line += 1
        line = bytes(self._rest)
        self._rest.clear()
        if not line.strip():
            return
        kind, characters = self._document(line)
        if kind != self._kind and self._kind is not None:
            raise InvalidDataset(f"of the kind {kind!r}, and the lines before are {self._kind!r}; give one kind", self._line)
        self._kind = kind
        self._documents += 1
        self._characters += characters
        if self._documents > MAX_DOCUMENTS:
            raise InvalidDataset(f"more than {MAX_DOCUMENTS} documents", self._line)

    def _check_length(self) -> None:
        if len(self._rest) > MAX_LINE_BYTES:
            raise InvalidDataset(f"longer than {MAX_LINE_BYTES} bytes", self._line + 1)

    def _document(self, line: bytes) -> tuple[Kind, int]:
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError as error:
            raise InvalidDataset("not UTF-8", self._line) from error
        try:
            entry = json.loads(text, parse_constant=_refuse)
            if _is_deeper(entry, MAX_DEPTH):
                raise InvalidDataset(f"nested deeper than {MAX_DEPTH} levels", self._line)
            json.dumps(entry, ensure_ascii=False).encode()  # half a surrogate pair is legal JSON and no text
        except (ValueError, RecursionError) as error:
            raise InvalidDataset(f"not valid JSON ({error})", self._line) from error
        return self._read(entry)

    def _read(self, entry: Any) -> tuple[Kind, int]:
        if isinstance(entry, str):
            return "documents", len(entry)
        if isinstance(entry, dict) and "messages" in entry:
            return "chat", self._conversation(entry["messages"])
        if not isinstance(entry, dict) or not isinstance(entry.get("text"), str):
            raise InvalidDataset(f"neither a string nor an object; a line is {SHAPES}", self._line)
        if "label" not in entry:
            return "documents", len(entry["text"])
        label = entry["label"]
        is_name = isinstance(label, str) and 0 < len(label) <= MAX_LABEL_CHARACTERS
        if not is_name and not (type(label) is int and label >= 0):
            raise InvalidDataset("the label is neither a number from 0 on nor a short name", self._line)
        return "labelled", len(entry["text"])

    def _conversation(self, messages: Any) -> int:
        if not isinstance(messages, list) or not 0 < len(messages) <= MAX_MESSAGES:
            raise InvalidDataset(f"messages is no list of 1 to {MAX_MESSAGES}", self._line)
        for message in messages:
            if not isinstance(message, dict) or not all(isinstance(message.get(name), str) for name in ("role", "content")):
                raise InvalidDataset('a message has no string "role" and no string "content"', self._line)
        return sum(len(message["content"]) for message in messages)


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def _is_deeper(value: Any, levels: int) -> bool:
    if not isinstance(value, dict | list):
        return False
    inside = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(_is_deeper(each, levels - 1) for each in inside)
