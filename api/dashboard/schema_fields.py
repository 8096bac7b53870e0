"""JSON schemas of what a request may hold -> fields of a form, and what is typed into them -> values of a request.

An empty field is left out of the request, so that the default stands; the form shows which one that is.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["choice", "number", "text", "list"]
OFF = "none"  # typed to switch off what has a default


@dataclass(frozen=True)
class Choice:
    value: str
    words: str


@dataclass(frozen=True)
class Field:
    """One field of a form.

    Args:
        path: dotted, as in the request and in its refusals.
        default: in words; shown where nothing is typed.
        words_beside: what may be typed beside numbers, such as `row`.
    """

    path: str
    label: str
    help: str
    kind: Kind
    default: str
    choices: tuple[Choice, ...] = ()
    is_whole: bool = False
    words_beside: tuple[str, ...] = ()
    can_be_off: bool = False
    holds_numbers: bool = False

    @property
    def id(self) -> str:
        return self.path.replace(".", "-")

    def parse(self, text: str) -> Any:
        """What was typed, as the request has it; what is no number stays as it is, to be refused with its place."""
        text = text.strip()
        if self.can_be_off and text == OFF:
            return None
        if self.kind == "list":
            parts = [part.strip() for part in text.replace("\n", ",").split(",") if part.strip()]
            return [] if parts == [OFF] else [_number(part, is_whole=True) if self.holds_numbers else part for part in parts]
        if self.kind == "choice":
            return {"true": True, "false": False}.get(text, _number(text, is_whole=True))
        return _number(text, self.is_whole) if self.kind == "number" else text

    def show(self, value: Any) -> str:
        """The opposite: a value of an earlier request, as it would be typed."""
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, list | tuple):
            return ", ".join(map(str, value)) if value else OFF
        return OFF if value is None else str(value)


def fields_of(schema: Mapping[str, Any], group: str, leave_out: frozenset[str] = frozenset()) -> tuple[Field, ...]:
    """A field for each property, in the schema's order. Args: group: what their paths begin with."""
    properties: Mapping[str, Mapping[str, Any]] = schema["properties"]
    return tuple(_field(f"{group}.{name}", found) for name, found in properties.items() if name not in leave_out)


def _field(path: str, found: Mapping[str, Any]) -> Field:
    kinds = [kind for kind in found.get("anyOf", [found]) if kind.get("type") != "null"]
    types = {kind.get("type") for kind in kinds}
    choices, words = tuple(_choices(kinds)), tuple(str(kind["const"]) for kind in kinds if "const" in kind)
    is_number = bool(types & {"integer", "number"})
    kind: Kind = "choice" if choices else "list" if "array" in types else "number" if is_number else "text"
    default = found.get("default")
    return Field(
        path=path,
        label=path.rpartition(".")[2].replace("_", " ").capitalize(),
        help=str(found.get("description", "")).replace("`", ""),
        kind=kind,
        default=_in_words(default),
        choices=choices,
        is_whole="number" not in types,
        words_beside=() if choices else words,
        can_be_off=default is not None and any(kind.get("type") == "null" for kind in found.get("anyOf", ())),
        holds_numbers=any(kind.get("items", {}).get("type") == "integer" for kind in kinds),
    )


def _choices(kinds: list[Mapping[str, Any]]) -> Iterator[Choice]:
    """What there is to choose from, where the schema counts it up."""
    if any("enum" not in kind and "const" not in kind and kind.get("type") != "boolean" for kind in kinds):
        return
    for kind in kinds:
        if kind.get("type") == "boolean":
            yield from (Choice("true", "yes"), Choice("false", "no"))
        for value in kind.get("enum", [kind["const"]] if "const" in kind else []):
            yield Choice(str(value), str(value))


def _in_words(default: Any) -> str:
    if isinstance(default, bool):
        return "yes" if default else "no"
    if isinstance(default, list):
        return ", ".join(map(str, default)) or "none"
    return "" if default is None else str(default)


def _number(text: str, is_whole: bool) -> Any:
    try:
        return int(text) if is_whole else float(text)
    except ValueError:
        return text
