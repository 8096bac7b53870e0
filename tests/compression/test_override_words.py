"""Overrides as people type them."""

from typing import Any

import pytest

from compression.errors import InvalidOptions
from compression.override_words import can_be_typed, override_lines, parse_overrides

READ: list[tuple[str, dict[str, Any]]] = [
    ("*.down_proj: bits=8", {"*.down_proj": {"bits": 8}}),
    ("*.down_proj:bits=8,symmetric=true", {"*.down_proj": {"bits": 8, "symmetric": True}}),
    ("  *.o_proj :  pattern=2:4 , damp = 0.02 ", {"*.o_proj": {"pattern": "2:4", "damp": 0.02}}),
    ("*.v_proj: none", {"*.v_proj": None}),
    ("a:b: pattern=2:4", {"a:b": {"pattern": "2:4"}}),
    ("a:b: none", {"a:b": None}),
    ("*.x: pattern=block:4", {"*.x": {"pattern": "block:4"}}),
    ("*.x", {"*.x": ""}),
    ("*.x:", {"*.x": ""}),
    ("*.x: 8 bits", {"*.x": "8 bits"}),
    ("*.x bits=8", {"*.x bits=8": ""}),
]


@pytest.mark.parametrize(("line", "said"), READ, ids=[line for line, _ in READ])
def test_line_is_a_name_and_its_options(line: str, said: dict[str, Any]) -> None:
    assert parse_overrides([line]) == said


def test_lines_that_were_written_are_read_again() -> None:
    said = {
        "*.down_proj": {"bits": 8, "symmetric": True, "damp": 0.5},
        "a:b": None,
        "*.o_proj": {"pattern": "2:4", "bits": None},
    }
    assert parse_overrides(override_lines(said)) == said
    assert can_be_typed(said)


@pytest.mark.parametrize(
    "overrides",
    [{"a=b": {"bits": 8}}, {"a": None, " a": None}, {"a": "8 bits"}, {"a": {"bits": "8"}}, {"a": {"bits": [2, 4]}}],
    ids=str,
)
def test_what_lines_cannot_say_is_known(overrides: dict[str, Any]) -> None:
    assert not can_be_typed(overrides)


def test_second_line_of_one_name_is_refused_by_its_name() -> None:
    with pytest.raises(InvalidOptions, match=r"\*\.v_proj stands twice") as refused:
        parse_overrides(["*.v_proj: bits=8", "*.o_proj: bits=8", " *.v_proj: none"])
    assert refused.value.field == "recipe.overrides"
