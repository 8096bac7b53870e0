"""Renders conversations by one chat template, in a process that has nothing to lose. Run as a file by `compression.chat`.

Standard input: one JSON object {"template", "conversations", "variables", "limits"}. Standard output: one JSON object, either
{"rendered": [...]} or {"error": ..., "conversation": index or null}. Imports nothing of ours.
"""

import json
import resource
import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, NoReturn

from jinja2 import TemplateError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

FILTERS = (
    *("abs", "batch", "capitalize", "count", "d", "default", "dictsort", "e", "escape", "first", "float", "groupby", "indent"),
    *("int", "items", "join", "last", "length", "list", "lower", "map", "max", "min", "reject", "rejectattr", "replace"),
    *("reverse", "round", "safe", "select", "selectattr", "slice", "sort", "string", "sum", "title", "trim", "truncate"),
    *("unique", "upper", "wordcount"),
)
GLOBALS = ("range", "namespace", "dict")
MAX_SAID = 1000  # characters of a template's own complaint


class _Generation(Extension):
    """transformers marks what the assistant says with `{% generation %}`; its text stays as it is."""

    tags = {"generation"}  # noqa: RUF012  jinja's own interface

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def main() -> None:
    task = json.loads(sys.stdin.buffer.read())
    _limit(**task["limits"])
    json.dump(_answer(task), sys.stdout)


def _answer(task: dict[str, Any]) -> dict[str, Any]:
    index = None
    try:
        template = _environment().from_string(task["template"])
        rendered, left = [], task["limits"]["characters"]
        for index, messages in enumerate(task["conversations"]):  # noqa: B007  an error names it
            text = "".join(_within(template.generate(messages=messages, **task["variables"]), left))
            left -= len(text)
            rendered.append(text)
    except Exception as error:  # a template may raise whatever it likes
        return {"error": f"{type(error).__name__}: {error}"[:MAX_SAID], "conversation": index}
    return {"rendered": rendered}


def _environment() -> ImmutableSandboxedEnvironment:
    """No loader, so nothing can be included or imported; no clock, so the same messages always give the same text."""
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols])
    environment.filters = {name: environment.filters[name] for name in FILTERS} | {"tojson": _tojson}
    environment.globals = {name: environment.globals[name] for name in GLOBALS} | {"raise_exception": _raise}
    return environment


def _within(pieces: Iterator[str], characters: int) -> Iterator[str]:
    for piece in pieces:
        characters -= len(piece)
        if characters < 0:
            raise TemplateError("its text is longer than allowed")
        yield piece


def _raise(message: object) -> NoReturn:
    raise TemplateError(str(message))


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Jinja's own escapes signs of HTML, which no model was trained on."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _limit(*, characters: int, seconds: int, memory_bytes: int) -> None:
    """By the kernel, for good: what the template does from here on."""
    for kind, amount in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_AS, memory_bytes),
        (resource.RLIMIT_FSIZE, 12 * characters + 65536),  # JSON writes a sign beyond the basic plane as twelve
        (resource.RLIMIT_NOFILE, 8),
    ):
        with suppress(ValueError):  # macOS knows no limit of memory
            resource.setrlimit(kind, (amount, amount))


if __name__ == "__main__":
    main()
