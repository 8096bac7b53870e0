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
        ("latency/1.5", {"metric": "latency", "factor": 1.5}),
        ("latency <= 40ms", {"metric": "latency", "at_most": 0.04}),
        ("latency<=2s", {"metric": "latency", "at_most": 2.0}),
        ("latency<=0.5", {"metric": "latency", "at_most": 0.5}),
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
        ("bits_per_weight<=4MB", "has no unit MB"),
        ("bytes/2MB", "has no unit MB"),
        ("bytes<=4ms", "has no unit ms"),
        ("latency/4ms", "has no unit ms"),
        ({"metric": "flops", "factor": 2, "uniform": True}, "uniform is for latency"),
        ({"metric": "latency", "factor": 2, "levels": [{"bits": 4}]}, "leave levels out"),
        ({"metric": "latency", "factor": 2, "environment": {"dtype": "int8"}}, "goal.environment.dtype"),
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
