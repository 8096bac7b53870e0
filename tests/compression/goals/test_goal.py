"""Goals as people write them, and what they mean."""

import pytest

from compression.errors import InvalidOptions
from compression.goals.goal import Goal, parse_goal


@pytest.mark.parametrize(
    ("said", "goal"),
    [
        ("bytes/2", {"metric": "bytes", "factor": 2.0}),
        ("bytes <= 80MB", {"metric": "bytes", "at_most": 80e6}),
        ("bytes<=1.5g", {"metric": "bytes", "at_most": 1.5e9}),
        ("bits_per_weight<=4.25", {"metric": "bits_per_weight", "at_most": 4.25}),
        ("flops / 1.5", {"metric": "flops", "factor": 1.5}),
        ("perplexity_ratio<=1.05", {"metric": "perplexity_ratio", "at_most": 1.05}),
    ],
)
def test_goal_is_read_from_a_line(said: str, goal: dict[str, object]) -> None:
    assert parse_goal(said) == Goal.model_validate(goal) == parse_goal(goal)


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("smaller", "cannot be read"),
        ("bytes<=1.2.3", "cannot be read"),
        ("size<=3", "goal.metric"),
        ("bytes/0.5", "goal.factor"),
        ("bits_per_weight<=4MB", "only bytes have the unit MB"),
        ("bytes/2MB", "only bytes have the unit MB"),
        ("perplexity_ratio<=0.9", "would allow no loss"),
        ("bits_per_weight/2", "has no factor"),
        ({"metric": "bytes"}, "and not both"),
        ({"metric": "bytes", "at_most": 1, "factor": 2}, "and not both"),
        ({"metric": "bytes", "factor": 2, "levels": [{"bits": 99}]}, "goal.levels.0"),
    ],
)
def test_what_is_no_goal_is_refused(said: object, why: str) -> None:
    with pytest.raises(InvalidOptions, match=why):
        parse_goal(said)


def test_goal_in_words_is_read_as_itself() -> None:
    for said in ("bytes / 2", "perplexity_ratio <= 1.05"):
        assert parse_goal(said).in_words() == said
