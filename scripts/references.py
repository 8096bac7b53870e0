"""Writes docs/api-reference.md from the API's OpenAPI document, and docs/cli.md from the commands themselves.

    python scripts/references.py           writes them
    python scripts/references.py --check   fails where they are not current

tests/test_docs.py runs the second.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
Schema = dict[str, Any]
API_PREAMBLE = """
Written by `scripts/references.py` from what the service tells at `/openapi.json`; [api.md](api.md) explains it by
example. Every refusal is a [Problem](#problem), as `application/problem+json`; [api.md](api.md#when-it-is-refused)
lists its types.
"""
CLI_PREAMBLE = """
Written by `scripts/references.py` from the commands; `scalpel COMMAND --help` tells the same.

Every command that asks a service takes `--url` (or `SCALPEL_URL`) and `--data-dir` (or `SCALPEL_DATA_DIR`). The key comes
from `SCALPEL_API_KEY`, else from `~/.config/scalpel/config.toml` (`scalpel config`), else from `local.key` of a service on
this machine. `--json` prints the answer for programs. `scalpel --install-completion` has the shell complete
commands and flags.
"""
METHODS = ("get", "post", "put", "patch", "delete")


def api_reference() -> str:
    from api.app import create_app
    from jobs.settings import Settings

    document = create_app(Settings()).openapi()
    return "\n".join(_api_lines(document)) + "\n"


def _api_lines(document: Schema) -> Iterator[str]:
    yield "# API reference"
    yield API_PREAMBLE
    yield "\n## Operations\n"
    yield "| | | |\n|---|---|---|"
    operations = [
        (method, path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        if method in METHODS
    ]
    for method, path, operation in operations:
        name = f"{method.upper()} {path}"
        yield f"| `{method.upper()}` | [`{path}`](#{_anchor(name)}) | {_first_line(operation)} |"
    for method, path, operation in operations:
        yield from _operation(method, path, operation)
    yield "\n## Schemas"
    for name, schema in sorted(document["components"]["schemas"].items()):
        yield from _schema(name, schema)


def _operation(method: str, path: str, operation: Schema) -> Iterator[str]:
    yield f"\n### {method.upper()} {path}\n"
    yield _cell(operation.get("description") or operation.get("summary", ""))
    if parameters := operation.get("parameters"):
        yield "\n| parameter | in | type | |\n|---|---|---|---|"
        for one in parameters:
            must = " (required)" if one.get("required") and one["in"] != "path" else ""
            about = _cell(one.get("description", ""))
            yield f"| `{one['name']}` | {one['in']}{must} | {_type(one.get('schema', {}))} | {about} |"
    for kind, content in operation.get("requestBody", {}).get("content", {}).items():
        yield f"\nBody: `{kind}`, {_type(content.get('schema', {}))}"
    answers = []
    for status, answer in operation["responses"].items():
        kinds = [f"`{kind}` {_type(content.get('schema', {}))}" for kind, content in answer.get("content", {}).items()]
        if str(status).startswith("2"):
            answers.append(f"{status}: {' or '.join(dict.fromkeys(kinds)) or 'nothing'}")
    refusals = sorted(str(status) for status in operation["responses"] if str(status)[0] in "345")
    yield f"\nAnswers: {'; '.join(answers)}" + (f". Others: {', '.join(refusals)}" if refusals else "")


def _schema(name: str, schema: Schema) -> Iterator[str]:
    yield f"\n### {name}\n"
    if description := schema.get("description"):
        yield _cell(description) + "\n"
    fields = schema.get("properties")
    if not fields:
        yield _type(schema)
        return
    yield "| field | type | |\n|---|---|---|"
    for field, about in fields.items():
        must = field in schema.get("required", ())
        default = "" if must or about.get("default") is None else f" Default: `{about['default']}`."
        yield f"| `{field}`{'' if must else '?'} | {_type(about)} | {_cell(about.get('description', ''))}{default} |"


def _type(schema: Schema) -> str:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{_anchor(name)})"
    for several in ("anyOf", "oneOf"):
        if several in schema:
            return " or ".join(dict.fromkeys(_type(one) for one in schema[several]))
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    if schema.get("type") == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"object of {_type(schema['additionalProperties'])}"
    return str(schema.get("type", "any")) + _bounds(schema)


def _bounds(schema: Schema) -> str:
    signs = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<", "maxLength": "length <="}
    said = [f"{sign} {schema[name]:g}" for name, sign in signs.items() if name in schema]
    return f" ({', '.join(said)})" if said else ""


def cli_reference() -> str:
    from typer.main import get_command

    from cli.exits import EPILOG
    from cli.main import app

    return "\n".join(_cli_lines(get_command(app), EPILOG)) + "\n"


def _cli_lines(root: Any, epilog: str) -> Iterator[str]:
    yield "# The command line"
    yield CLI_PREAMBLE
    yield epilog
    for words, command in _commands(root):
        if not hasattr(command, "commands"):
            yield from _command(words, command)


def _commands(group: Any, *words: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, command in group.commands.items():
        yield (*words, name), command
        if hasattr(command, "commands"):
            yield from _commands(command, *words, name)


EVERYWHERE = {"url", "data_dir", "is_json", "help"}


def _command(words: tuple[str, ...], command: Any) -> Iterator[str]:
    arguments = [one for one in command.params if one.param_type_name == "argument"]
    usage = " ".join(["scalpel", *words, *((one.metavar or one.name.upper()) for one in arguments)])
    yield f"\n## {usage}\n"
    yield "\n".join(line.strip() for line in (command.help or "").strip().splitlines())
    rows = [one for one in command.params if one.name not in EVERYWHERE and getattr(one, "help", None)]
    if rows:
        yield "\n| | |\n|---|---|"
    for one in rows:
        names = (one.metavar or one.name.upper()) if one in arguments else ", ".join((*one.opts, *one.secondary_opts))
        yield f"| `{names}` | {_cell((one.help or '').replace(chr(92) + '[', '['))} |"


def _anchor(title: str) -> str:
    return "".join(sign for sign in title.lower().replace(" ", "-") if sign.isalnum() or sign in "-_")


def _first_line(operation: Schema) -> str:
    return _cell((operation.get("description") or operation.get("summary", "")).strip().split("\n\n")[0])


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def main() -> int:
    written = {ROOT / "docs" / "api-reference.md": api_reference(), ROOT / "docs" / "cli.md": cli_reference()}
    if "--check" not in sys.argv[1:]:
        for path, text in written.items():
            path.write_text(text, encoding="utf-8")
        return 0
    stale = [path.name for path, text in written.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    if stale:
        sys.stderr.write(f"not current: {', '.join(stale)}; run python scripts/references.py\n")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
