"""The overrides of a recipe as people type them, one a line. Torch-free.

    *.down_proj: bits=8, group_size=64
    *.v_proj: none

The colon that ends a name is the last one before the first option, since names of modules may hold colons, and options
(`pattern=2:4`) do.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from compression.errors import InvalidOptions

ALONE = "none"  # instead of options: the modules are left as they are


def parse_overrides(lines: Iterable[str], field: str = "recipe.overrides") -> dict[str, Any]:
    """`*.down_proj: bits=8` -> {"*.down_proj": {"bits": 8}}; options that cannot be read stay text, to be refused as such.

    Raises: InvalidOptions: two lines have one name, of which one would have to be dropped.
    """
    found: dict[str, Any] = {}
    for line in lines:
        name, said = _parted(line)
        if name in found:
            raise InvalidOptions(field, f"{name} stands twice", "a name pattern once, with all of its options")
        found[name] = _options(said)
    return found


def override_lines(overrides: Mapping[str, Mapping[str, Any] | None]) -> list[str]:
    """The opposite: one line for each."""
    return [f"{name}: {option_words(said)}" for name, said in overrides.items()]


def can_be_typed(overrides: Mapping[str, Any]) -> bool:
    """Whether the lines say all of it: not where a name holds the sign before values, or what came was no override."""
    if not all(said is None or isinstance(said, Mapping) for said in overrides.values()):
        return False
    try:
        return parse_overrides(override_lines(overrides)) == overrides
    except InvalidOptions:
        return False


def _parted(line: str) -> tuple[str, str]:
    """The name, and what is said of it."""
    head, sign, values = line.partition("=")
    name, colon, option = head.rpartition(":")
    if not colon:  # nothing says where the name ends
        return line.strip(), ""
    return name.strip(), (option + sign + values).strip()


def _options(said: str) -> Any:
    if said == ALONE:
        return None
    pairs = [part.partition("=") for part in said.split(",")]
    return {name.strip(): plain_value(value.strip()) for name, _, value in pairs} if "=" in said else said


def plain_value(typed: str) -> Any:
    """`8`, `0.5` and `true` as JSON has them, and other words, such as `2:4`, as they are."""
    try:
        return json.loads(typed)
    except ValueError:
        return typed


def option_words(said: Mapping[str, Any] | None) -> str:
    """`bits=8, group_size=64`; of none at all the word for it."""
    if said is None:
        return ALONE
    return ", ".join(f"{name}={value if isinstance(value, str) else json.dumps(value)}" for name, value in said.items())
