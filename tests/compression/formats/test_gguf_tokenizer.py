"""Tokenizers through a GGUF file's metadata and back, by transformers' reader; what it cannot rebuild is refused."""

from pathlib import Path
from typing import Any

import pytest
from gguf import GGUFWriter, TokenType
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from compression.errors import UnsupportedModel
from compression.formats.gguf_tokenizer import LLAMA3_PATTERN, QWEN2_PATTERN, TEKKEN_PATTERN, GgufTokenizer, describe_tokenizer
from tests import tiny_models

TEXTS = ("hello  hell 1234, it's é 漢\n\n ok", " leading", "<|end|>hello<think>he")
MERGES = [("h", "e"), ("l", "l"), ("he", "ll"), ("hell", "o"), ("1", "2"), ("Ġ", "he")]
BYTE_LEVEL = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)


def split(pattern: str) -> Any:
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), behavior="isolated"), BYTE_LEVEL])


GPT2 = pre_tokenizers.ByteLevel(add_prefix_space=False)
SPLITS = {
    "gpt-2": GPT2,
    "smollm": pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), GPT2]),
    "llama-bpe": split(LLAMA3_PATTERN),
    "qwen2": split(QWEN2_PATTERN),
    "tekken": split(TEKKEN_PATTERN),
}


def byte_level(pre: Any = GPT2, *, bos: bool = False) -> PreTrainedTokenizerFast:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {token: index for index, token in enumerate([*alphabet, *("".join(merge) for merge in MERGES)])}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=MERGES))
    tokenizer.pre_tokenizer = pre
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken("<|end|>", special=True, normalized=False)])
    tokenizer.add_tokens([AddedToken("<think>", special=False, normalized=False)])
    if bos:
        end = tokenizer.token_to_id("<|end|>")
        tokenizer.post_processor = processors.TemplateProcessing(single="<|end|> $A", special_tokens=[("<|end|>", end)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>", bos_token="<|end|>")


PIECES = [("▁", "t"), ("h", "e"), ("▁t", "he"), ("e", "r"), ("▁", "h"), ("▁", "he"), ("▁h", "e")]


def pieces(merges: list[tuple[str, str]] = PIECES) -> PreTrainedTokenizerFast:
    """As Llama 2's tokenizer.json: a SentencePiece model in the words of BPE."""
    products = dict.fromkeys("".join(merge) for merge in PIECES)
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *products]
    tokens += ["▁", *(letter for letter in "abcdefghijklmnopqrstuvwxyz,.")]
    vocab = {token: index for index, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens([AddedToken(one, special=True, normalized=False) for one in ("<unk>", "<s>", "</s>")])
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def read_back(described: GgufTokenizer, folder: Path) -> PreTrainedTokenizerBase:
    """What transformers makes of the metadata alone."""
    writer = GGUFWriter(folder / "model.gguf", "llama")
    writer.add_block_count(1)
    writer.add_vocab_size(len(described.tokens))
    described.add_to(writer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    found: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder, gguf_file="model.gguf")
    return found


@pytest.mark.parametrize("name", SPLITS)
def test_splits_are_recognised_by_what_they_do(name: str) -> None:
    assert describe_tokenizer(byte_level(SPLITS[name]), 300).pre == name


@pytest.mark.parametrize("name", [name for name in SPLITS if name != "smollm"])  # transformers' reader does not know that one
@pytest.mark.parametrize("bos", [False, True], ids=["bare", "bos"])
def test_byte_level_tokenizer_comes_back_whole(name: str, bos: bool, tmp_path: Path) -> None:
    tokenizer = byte_level(SPLITS[name], bos=bos)
    found = read_back(describe_tokenizer(tokenizer, len(tokenizer)), tmp_path)
    for text in TEXTS:
        assert found(text)["input_ids"] == tokenizer(text)["input_ids"]
        assert found.decode(found(text)["input_ids"]) == tokenizer.decode(tokenizer(text)["input_ids"])
    assert (found.bos_token, found.eos_token) == (tokenizer.bos_token, tokenizer.eos_token)


def test_tokens_have_the_types_that_llama_cpp_treats_apart() -> None:
    tokenizer = byte_level()
    described = describe_tokenizer(tokenizer, len(tokenizer) + 3)
    types = dict(zip(described.tokens, described.types, strict=True))
    assert types["<|end|>"] == TokenType.CONTROL
    assert types["<think>"] == TokenType.USER_DEFINED
    assert types["hello"] == TokenType.NORMAL
    assert described.tokens[-1] == f"[PAD{len(tokenizer) + 2}]" and described.types[-1] == TokenType.UNUSED
    assert described.special == {"bos": tokenizer.bos_token_id, "eos": tokenizer.eos_token_id}


def test_pieces_come_back_whole(tmp_path: Path) -> None:
    tokenizer = pieces()
    described = describe_tokenizer(tokenizer, len(tokenizer))
    assert (described.model, described.pre, described.adds_bos, described.adds_space) == ("llama", None, True, True)
    types = dict(zip(described.tokens, described.types, strict=True))
    assert [types[one] for one in ("<unk>", "<s>", "<0x0A>", "▁the")] == [
        TokenType.UNKNOWN, TokenType.CONTROL, TokenType.BYTE, TokenType.NORMAL,
    ]  # fmt: skip
    found = read_back(described, tmp_path)
    for text in ("the other here", "he, the é"):
        assert found(text)["input_ids"] == tokenizer(text)["input_ids"]
        assert str(found.decode(found(text)["input_ids"], skip_special_tokens=True)).strip() == text


def test_scores_put_pieces_in_the_order_of_the_merges() -> None:
    described = describe_tokenizer(pieces(), 300)
    assert described.scores is not None
    scores = dict(zip(described.tokens, described.scores, strict=True))
    assert scores["▁t"] > scores["he"] > scores["▁the"] > scores["er"] > scores["▁h"] > scores["▁he"] > scores["a"]


@pytest.mark.parametrize("missing", [("▁", "he"), ("e", "r")])
def test_merges_that_sentencepiece_would_make_must_be_there(missing: tuple[str, str]) -> None:
    """llama.cpp joins any two pieces that make a third."""
    with pytest.raises(UnsupportedModel, match=f"does not merge '{missing[0]}' and '{missing[1]}' into its token"):
        describe_tokenizer(pieces([merge for merge in PIECES if merge != missing]), 300)


def test_ids_beyond_the_embedding_are_refused_unless_a_class_added_them() -> None:
    tokenizer = byte_level()
    words = len(tokenizer) - 2
    assert len(describe_tokenizer(tokenizer, words).tokens) == words
    with pytest.raises(UnsupportedModel, match=f"id {words - 1}, and the embedding only 200 rows"):
        describe_tokenizer(tokenizer, 200)


def without_merges() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE(vocab={"a": 0}, merges=[]))
    tokenizer.pre_tokenizer = GPT2
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


def of_words() -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel(vocab={"a": 0}, unk_token="a")))


def lowering() -> PreTrainedTokenizerFast:
    tokenizer = byte_level()
    tokenizer.backend_tokenizer.normalizer = normalizers.Lowercase()
    return tokenizer


@pytest.mark.parametrize(
    ("tokenizer", "reason"),
    [
        (without_merges(), "no merges"),
        (of_words(), "WordLevel"),
        (lowering(), "Lowercase"),
        (byte_level(split(r"\w+")), "splits text"),
        (byte_level(pre_tokenizers.ByteLevel(add_prefix_space=True)), "splits text"),
    ],
    ids=["no merges", "words", "normaliser", "pattern", "prefix space"],
)
def test_tokenizer_that_readers_would_get_wrong_is_refused(tokenizer: PreTrainedTokenizerFast, reason: str) -> None:
    with pytest.raises(UnsupportedModel, match=f"^GGUF: .*{reason}"):
        describe_tokenizer(tokenizer, 300)


def test_tests_own_tokenizer_has_one_token_a_byte_still() -> None:
    tokenizer = tiny_models.byte_tokenizer()
    text = tiny_models.text() + "é 漢 \x7f"
    assert len(tokenizer(text)["input_ids"]) == len(text.encode())
    assert len(describe_tokenizer(tokenizer, tiny_models.VOCABULARY).tokens) == tiny_models.VOCABULARY
