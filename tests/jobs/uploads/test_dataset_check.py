"""Data sets are judged as they stream in, wherever the pieces happen to end."""

import json

import pytest

from jobs.uploads import dataset_check
from jobs.uploads.dataset_check import Check, Counts, JsonLines, PlainText
from jobs.uploads.errors import InvalidDataset


def fed(check: Check, data: bytes, piece: int) -> Counts:
    for start in range(0, len(data), piece):
        check.feed(data[start : start + piece])
    return check.finish()


DOCUMENTS = '{"text": "grün"}\n\n  \r\n"naïve"\r\n{"text": "", "source": {"page": [1, 2]}}'
CHAT = '{"messages": [{"role": "user", "content": "Ho?"}, {"role": "assistant", "content": "Hm."}]}\n'
LABELLED = '{"text": "a", "label": 0}\n{"text": "bc", "label": "glad"}\n'


@pytest.mark.parametrize("piece", [1, 2, 7, 1000])
@pytest.mark.parametrize(
    ("text", "counts"),
    [
        (DOCUMENTS, Counts("documents", 3, 9)),
        (CHAT, Counts("chat", 1, 6)),
        (LABELLED, Counts("labelled", 2, 3)),
        ('"' + "x" * 500 + '"', Counts("documents", 1, 500)),
    ],
    ids=["documents", "chat", "labelled", "one long line"],
)
def test_lines_are_counted_however_they_come(text: str, counts: Counts, piece: int) -> None:
    assert fed(JsonLines(), text.encode(), piece) == counts


@pytest.mark.parametrize("piece", [1, 3, 1000])
def test_running_text_is_one_document(piece: int) -> None:
    assert fed(PlainText(), "Œuvre\n{not json\n".encode(), piece) == Counts("text", 1, 16)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"text": "a"', "not valid JSON"),
        (b"\xff\xfe", "not UTF-8"),
        (b'"\\ud800"', "not valid JSON"),
        (b"NaN", "NaN is no JSON"),
        (b"1" * 5000, "not valid JSON"),
        (b"3", "neither a string nor an object"),
        (b'{"text": 3}', "neither a string nor an object"),
        (b"[" * 100_000, "not valid JSON"),
        (b'{"text": "a", "more": ' + b"[" * 20 + b"]" * 20 + b"}", "nested deeper"),
        (b'{"text": "a", "label": true}', "the label"),
        (b'{"text": "a", "label": -1}', "the label"),
        (json.dumps({"text": "a", "label": "x" * 300}).encode(), "the label"),
        (b'{"messages": []}', "messages is no list"),
        (b'{"messages": [{"role": "user"}]}', "a message has no string"),
        (CHAT.encode(), "give one kind"),
    ],
    ids=repr,
)
def test_first_wrong_line_is_named(line: bytes, reason: str) -> None:
    with pytest.raises(InvalidDataset, match=reason) as refused:
        fed(JsonLines(), b'{"text": "fine"}\n\n' + line + b"\n", 64)
    assert refused.value.line == 3


@pytest.mark.parametrize(
    ("data", "line"),
    [(b"fine\nfine\n\xc3(", 3), (b"fine\nzero \0\n", 2), (b"cut \xc3", 1), (b" \n\n", None), (b"", None)],
    ids=["not UTF-8", "zero byte", "cut short", "blank", "empty"],
)
@pytest.mark.parametrize("piece", [1, 1000])
def test_what_is_no_text_is_refused(data: bytes, line: int | None, piece: int) -> None:
    with pytest.raises(InvalidDataset) as refused:
        fed(PlainText(), data, piece)
    assert refused.value.line == line


def test_line_without_an_end_is_refused_before_it_fills_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset_check, "MAX_LINE_BYTES", 1000)
    check = JsonLines()
    with pytest.raises(InvalidDataset, match="longer than 1000 bytes"):
        for _ in range(12):
            check.feed(b"x" * 100)


def test_number_of_documents_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset_check, "MAX_DOCUMENTS", 2)
    assert fed(JsonLines(), b'"a"\n"b"\n', 100).documents == 2
    with pytest.raises(InvalidDataset, match="more than 2 documents"):
        fed(JsonLines(), b'"a"\n"b"\n"c"\n', 100)


@pytest.mark.parametrize("data", [b"", b"\n\n"], ids=repr)
def test_lines_without_a_document_are_no_data_set(data: bytes) -> None:
    with pytest.raises(InvalidDataset, match="holds no document"):
        fed(JsonLines(), data, 10)
