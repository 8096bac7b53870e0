"""Token statistics of data sets, by tokenizers that nobody trusts."""

from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from tokenizers import Tokenizer, models, pre_tokenizers

from api.app import create_app
from compression.errors import UnsupportedModel
from compression.token_count import TokenLimits, count_tokens
from jobs.settings import Settings
from jobs.uploads import token_sample
from tests.api.test_auth import with_key
from tests.api.test_datasets import JSONL, PLAIN, bring


@pytest.fixture
def tokenizer(tmp_path: Path) -> Path:
    """One token a byte."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE(vocab={letter: index for index, letter in enumerate(alphabet)}, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.enable_truncation(3)  # as checkpoints carry it from their training
    folder = tmp_path / "models" / "bytes"
    folder.mkdir(parents=True)
    made.save(str(folder / "tokenizer.json"))
    return folder / "tokenizer.json"


@pytest.fixture
def local(settings: Settings, api_key: str, tokenizer: Path) -> TestClient:
    """Of a service that opens the folder of that tokenizer."""
    return with_key(create_app(settings.model_copy(update={"model_roots": (tokenizer.parents[1],)})), api_key)


CHAT = b'{"messages": [{"role": "user", "content": "abc"}, {"role": "assistant", "content": "de"}]}\n'


@pytest.mark.parametrize(
    ("content", "headers", "tokens", "characters"),
    [
        ("Grün".encode(), PLAIN, 5, 4),
        (b'{"text": "abc"}\n"de"\n', JSONL, 3 + 2 + 2, 5),
        (CHAT, JSONL, 3 + 2 + 2, 5),
    ],
    ids=["text", "documents", "chat"],
)
def test_tokens_of_a_small_data_set_are_exact(
    local: TestClient, tokenizer: Path, content: bytes, headers: dict[str, str], tokens: int, characters: int
) -> None:
    with local:
        dataset_id = bring(local, content, headers)
        found = local.get(f"/v1/datasets/{dataset_id}/tokens", params={"model": str(tokenizer.parent)})
    assert found.json() == {
        "model": str(tokenizer.parent),
        "characters": characters,
        "tokens": tokens,
        "estimated_tokens": tokens,
        "is_whole": True,
    }


def test_tokens_of_a_large_one_are_told_from_its_beginning(
    local: TestClient, tokenizer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(token_sample, "SAMPLE_BYTES", 25)
    where = {"model": str(tokenizer.parent)}
    with local:
        dataset_id = bring(local, b'"0123456"\n' * 10)
        found = local.get(f"/v1/datasets/{dataset_id}/tokens", params=where).json()
        one = bring(local, b'"' + b"x" * 100 + b'"')
        refused = local.get(f"/v1/datasets/{one}/tokens", params=where)
    assert (found["characters"], found["tokens"], found["is_whole"]) == (14, 16, False)
    assert found["estimated_tokens"] == 80
    assert (refused.status_code, refused.json()["type"]) == (422, "source-error")


@pytest.mark.parametrize("model", ["demo:smollm2-135m", "owner/name", "upload:01M83MEDB5ME2A8FP9H1VA9R8M", "/etc", "nonsense"])
def test_model_without_a_tokenizer_at_hand_is_refused(web: TestClient, model: str) -> None:
    dataset_id = bring(web)
    answer = web.get(f"/v1/datasets/{dataset_id}/tokens", params={"model": model})
    assert (answer.status_code, answer.json()["type"]) == (422, "source-error"), answer.text


def test_file_that_is_no_tokenizer_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text("{}")
    with pytest.raises(UnsupportedModel, match=r"tokenizer\.json cannot be used"):
        count_tokens(path, "text")


def test_tokenizer_beyond_its_limits_is_ended(tokenizer: Path) -> None:
    text = "x" * 4_000_000  # a small one may fit into what the process holds already
    with pytest.raises(UnsupportedModel, match="within the limits"):
        count_tokens(tokenizer, text, TokenLimits(memory_bytes=16 * 1024 * 1024))
