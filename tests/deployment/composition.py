"""docker-compose.yml as Docker would read it: parsed, with the variables of an .env file put in."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
VARIABLE = re.compile(r"\$\$|\$\{(?P<name>[A-Z0-9_]+)(?:(?P<kind>:[-?])(?P<rest>[^}]*))?\}")


class Missing(Exception):
    """A variable has no value and no default: here Docker refuses to start."""


@dataclass(frozen=True)
class Composition:
    """The file's content."""

    content: dict[str, Any]

    @property
    def services(self) -> dict[str, dict[str, Any]]:
        services: dict[str, dict[str, Any]] = self.content["services"]
        return services

    def environment(self, service: str) -> dict[str, str]:
        return {name: str(value) for name, value in self.services[service].get("environment", {}).items()}


def text() -> str:
    return (ROOT / "docker-compose.yml").read_text()


def variables() -> dict[str, str]:
    """Every variable of the file -> `:?`, `:-` or nothing, as it is written."""
    return {found["name"]: found["kind"] or "" for found in VARIABLE.finditer(text()) if found["name"]}


def composition(env: Mapping[str, str]) -> Composition:
    """Raises: Missing."""

    def value(found: re.Match[str]) -> str:
        if found[0] == "$$":
            return "$"
        given = env.get(found["name"], "")
        if not given and found["kind"] == ":?":
            raise Missing(found["name"])
        return given or (found["rest"] or "")

    return Composition(put_in(yaml.safe_load(text()), value))


def put_in(node: Any, value: Any) -> Any:
    """Variables are replaced in values alone, as Docker does."""
    match node:
        case dict():
            return {key: put_in(child, value) for key, child in node.items()}
        case list():
            return [put_in(child, value) for child in node]
        case str():
            return VARIABLE.sub(value, node)
    return node
