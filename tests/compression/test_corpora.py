"""Benchmarks by name: the text that their rows make, the windows that are drawn, and how the report calls them."""

import json
import random
from pathlib import Path

import pytest

from compression import documents
from compression.calibration import TextReader
from compression.corpora import TextUse, text_uses
from compression.documents import drawn_windows
from compression.errors import CalibrationError
from compression.report import TextSet
from tests import tiny_models


def rows(folder: Path, texts: list[str]) -> Path:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return path


def reader(**texts: Path) -> TextReader:
    """One token a byte. Args: texts: by key, `_` for `:`."""
    given = {key.replace("_", ":"): path for key, path in texts.items()}
    return TextReader(tiny_models.byte_tokenizer(), tiny_models.VOCABULARY, given)


@pytest.mark.parametrize(("name", "separator"), [("wikitext2", "\n\n"), ("ptb", " "), ("c4", " ")])
def test_rows_to_evaluate_on_are_joined_as_the_field_joins_them(name: str, separator: str, tmp_path: Path) -> None:
    texts = ["one", "", "two and three"]
    joined = separator.join(texts)
    found = reader(**{f"{name}_evaluation": rows(tmp_path, texts)}).evaluation(name, None, len(joined))
    assert tiny_models.byte_tokenizer().decode(found.ids_WL[0]) == joined
    assert found.describe().protocol == name


@pytest.mark.parametrize(("name", "separator"), [("wikitext2", "\n\n"), ("ptb", " ")])
def test_rows_to_calibrate_on_are_joined_alike(name: str, separator: str, tmp_path: Path) -> None:
    texts = ["one", "", "two and three"]
    joined = separator.join(texts)
    found = reader(**{f"{name}_calibration": rows(tmp_path, texts)}).calibration(name, 1, len(joined), seed=0)
    assert tiny_models.byte_tokenizer().decode(found.ids_WL[0]) == joined
    assert found.describe().protocol == name


def test_c4_is_its_first_1100_documents_and_256_windows_of_them(tmp_path: Path) -> None:
    read = reader(c4_evaluation=rows(tmp_path, [f"{n:04}" for n in range(1200)]))
    every = read.evaluation("c4", None, 5)
    assert (len(every.ids_WL), every.describe().windows_in_text) == (256, 256)
    assert tiny_models.byte_tokenizer().decode(every.ids_WL[:2].flatten()) == "0000 0001 "
    long = read.evaluation("c4", None, 5 * 1100 - 1)
    assert str(tiny_models.byte_tokenizer().decode(long.ids_WL[0])).endswith(" 1099")


def test_benchmark_is_evaluated_whole_and_other_texts_on_twenty_windows(tmp_path: Path) -> None:
    path = rows(tmp_path, ["x" * 100])
    read = reader(wikitext2_evaluation=path)
    assert len(read.evaluation("wikitext2", None, 4).ids_WL) == 25
    assert len(read.evaluation("wikitext2", 3, 4).ids_WL) == 3
    assert read.evaluation("wikitext2", 3, 4).describe().windows_in_text == 25
    assert len(read.evaluation(str(path), None, 4).ids_WL) == 20
    assert read.evaluation(str(path), None, 4).describe().windows_in_text == 25


@pytest.mark.parametrize(
    ("name", "protocol"),
    [("wiki.test.raw", "wikitext2-file"), ("ptb.test.txt", "ptb-file"), ("mine.txt", "file"), ("mine.jsonl", "rows")],
)
def test_file_as_it_stands_has_a_name_of_its_own(name: str, protocol: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text('"' + "x" * 100 + '"')
    assert reader().evaluation(str(path), 1, 8).describe().protocol == protocol
    assert reader().calibration(str(path), 1, 8, seed=0).describe().protocol == protocol


def test_text_of_an_older_report_is_read() -> None:
    assert TextSet(source="x", windows=1, seqlen=2, tokens=2, digest="0").windows_in_text is None


@pytest.mark.parametrize("seed", [0, 1, 2**62])
def test_c4_windows_are_those_of_the_papers_draws(seed: int, tmp_path: Path) -> None:
    """The published loops, on texts of one token a byte."""
    generator = random.Random(99)
    texts = ["".join(generator.choices("abcdefgh \n", k=generator.randrange(30))) for _ in range(40)]
    draw, expected = random.Random(seed), []
    for _ in range(12):
        while True:
            document = texts[draw.randint(0, len(texts) - 1)]
            if len(document) > 10:
                break
        start = draw.randint(0, len(document) - 10 - 1)
        expected.append(document[start : start + 10])
    found = reader(c4_calibration=rows(tmp_path, texts)).calibration("c4", 12, 10, seed)
    assert [tiny_models.byte_tokenizer().decode(row) for row in found.ids_WL] == expected
    assert found.describe().protocol == "c4"


@pytest.mark.parametrize("texts", [["short"] * 5, []], ids=["short", "empty"])
def test_draw_ends_where_no_document_is_long_enough(texts: list[str], tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match="no document of more than 5 tokens"):
        drawn_windows(rows(tmp_path, texts), "c4", lambda text: list(text.encode()), 1, 5, 0)


def test_draw_gives_up_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "MAX_MISSES", 7)
    seen: list[str] = []

    def encode(text: str) -> list[int]:
        seen.append(text)
        return [1]

    with pytest.raises(CalibrationError, match="after 7 draws from 1000"):
        drawn_windows(rows(tmp_path, ["x"] * 1000), "c4", encode, 1, 5, 0)
    assert len(seen) <= 7


def test_benchmark_that_nobody_fetched_names_the_cure() -> None:
    with pytest.raises(CalibrationError, match=r"wikitext2: its file was not fetched.*texts\['wikitext2:evaluation'\].*sotu"):
        reader().evaluation("wikitext2", 1, 8)


def test_each_file_is_needed_once() -> None:
    uses = text_uses("c4", ("sotu", "c4", "sotu", "c4"))
    assert uses == (TextUse("c4", "calibration"), TextUse("sotu", "evaluation"), TextUse("c4", "evaluation"))
    assert [use.key for use in text_uses("sotu", ("sotu",))] == ["sotu"]
    assert text_uses(None, ()) == ()
