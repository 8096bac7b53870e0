"""`scalpel profile`: times of a model's parts, told and kept."""

import json
from pathlib import Path

from cli.exits import Exit
from tests.cli.conftest import Scalpel


def test_times_are_measured_told_and_found_again(scalpel: Scalpel, tiny: Path) -> None:
    arguments = ["profile", tiny / "model", "--runs-on", "batch=2,seqlen=16,threads=1", "--multiple-of", 16]
    ran = scalpel(*arguments)
    assert ran.code == Exit.OK, ran.err
    assert "2 x 16 tokens, prefill in float32" in ran.out
    assert "attention" in ran.out and "feed-forward" in ran.out and "times as fast" in ran.out
    table = json.loads(scalpel(*arguments, "--json").out)
    assert table == json.loads(scalpel(*arguments, "--json").out)  # times are never twice the same unless they were kept
    assert table["environment"]["batch"] == 2
    assert table["attention_s"].keys() == {"0", "1", "2"}


def test_an_environment_that_cannot_be_is_refused(scalpel: Scalpel, tiny: Path) -> None:
    ran = scalpel("profile", tiny / "model", "--runs-on", "seqlen=100000")
    assert ran.code == Exit.REFUSED
    assert "positions" in ran.err.splitlines()[-1]
