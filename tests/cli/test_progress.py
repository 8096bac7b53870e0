import pytest

from cli.progress import Bar, Lines, display, sentence
from compression.words import duration

BLOCK = {"block": 3, "blocks": 30, "fraction": 0.1, "eta_s": 200.0, "mean_relative_error": 0.0213, "is_replayed": False}
REPLAYED = {**BLOCK, "is_replayed": True, "eta_s": None}
ERROR = {"type": "x", "title": "The mathematics broke down", "detail": "layer 3: NaN", "layer": "layer 3"}


@pytest.mark.parametrize(
    ("kind", "data", "words"),
    [
        ("state", {"state": "running", "attempt": 1}, "running"),
        ("state", {"state": "running", "attempt": 2}, "running (attempt 2)"),
        ("state", {"state": "queued", "attempt": 1, "reason": "The worker is gone."}, "queued: The worker is gone."),
        ("state", {"state": "failed", "attempt": 1, "error": ERROR}, "failed: The mathematics broke down: layer 3: NaN"),
        ("stage", {"stage": "exporting"}, "exporting"),
        ("activity", {"activity": "solving", "block": 3, "blocks": 30}, ""),
        ("layer", {"result": {}}, ""),
        ("block", BLOCK, "block 3 of 30  relative error 0.0213  3 min 20 s left"),
        ("block", REPLAYED, "block 3 of 30 (from an earlier attempt)  relative error 0.0213"),
        ("block", {**BLOCK, "eta_s": None, "mean_relative_error": None}, "block 3 of 30"),
        ("note", {"level": "info", "message": "fetching"}, "fetching"),
        ("note", {"level": "warning", "message": "starting over"}, "warning: starting over"),
        ("from a newer service", {}, ""),
    ],
)  # fmt: skip
def test_event_is_told_in_one_line(kind: str, data: dict[str, object], words: str) -> None:
    assert sentence(kind, data) == words


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.4, "0 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (3599, "59 min 59 s"), (7500, "2 h 05 min")]
)
def test_durations_are_read_at_a_glance(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_lines_are_shown_where_nobody_looks(capsys: pytest.CaptureFixture[str]) -> None:
    with display() as shown:
        assert isinstance(shown, Lines)
        shown.show("block", BLOCK)
        shown.show("layer", {})
    assert capsys.readouterr().err == "block 3 of 30  relative error 0.0213  3 min 20 s left\n"


def test_bar_is_shown_on_a_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "150")
    with display() as shown:
        assert isinstance(shown, Bar)
        shown.show("stage", {"stage": "compressing"})
        shown.show("activity", {"activity": "solving", "block": 3, "blocks": 30})
        shown.show("note", {"level": "warning", "message": "a [bold] layer fell back"})
        shown.show("block", BLOCK)
    shown_text = capsys.readouterr().err
    for words in (
        "compressing: solving",
        "block 3 of 30",
        "relative error 0.0213",
        "3 min 20 s left",
        "a [bold] layer fell back",
    ):
        assert words in shown_text
