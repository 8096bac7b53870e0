"""A transformers tokenizer in the words of a GGUF file's metadata.

Readers rebuild the tokenizer from these words alone, so only such are written as they know: byte-level BPE whose splitting
of text has a name in llama.cpp, and the BPE that stands for a SentencePiece model (Llama 2, Mistral 7B).
"""

import json
from dataclasses import dataclass
from typing import Any

from gguf import GGUFWriter, TokenType
from transformers import PreTrainedTokenizerBase

from compression.errors import UnsupportedModel

GPT2_SPLIT = {"type": "ByteLevel", "use_regex": True}
AFTER_SPLIT = {"type": "ByteLevel", "use_regex": False}
LLAMA3_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN2_PATTERN = LLAMA3_PATTERN.replace(r"\p{N}{1,3}", r"\p{N}")
TEKKEN_PATTERN = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SPLITS: list[tuple[str, list[dict[str, Any]]]] = [  # llama.cpp's name of a way to split text, and its steps
    ("gpt-2", [GPT2_SPLIT]),
    ("smollm", [{"type": "Digits", "individual_digits": True}, GPT2_SPLIT]),
    ("llama-bpe", [{"type": "Split", "pattern": {"Regex": LLAMA3_PATTERN}}, AFTER_SPLIT]),
    ("qwen2", [{"type": "Split", "pattern": {"Regex": QWEN2_PATTERN}}, AFTER_SPLIT]),
    ("tekken", [{"type": "Split", "pattern": {"Regex": TEKKEN_PATTERN}}, AFTER_SPLIT]),
]


@dataclass(frozen=True)
class GgufTokenizer:
    """What a file says of its tokenizer.

    Args:
        model: `gpt2` for byte-level BPE, `llama` for SentencePiece.
        pre: llama.cpp's name of how text is split, of byte-level BPE.
        scores: of SentencePiece, higher is merged first.
        special: `bos`, `eos`, `unk`, `pad` -> id, of those there are.
    """

    model: str
    pre: str | None
    tokens: tuple[str, ...]
    types: tuple[TokenType, ...]
    scores: tuple[float, ...] | None
    merges: tuple[str, ...]
    special: dict[str, int]
    adds_bos: bool
    adds_eos: bool
    adds_space: bool
    chat_template: str | None

    def add_to(self, writer: GGUFWriter) -> None:
        writer.add_tokenizer_model(self.model)
        if self.pre is not None:
            writer.add_tokenizer_pre(self.pre)
        writer.add_token_list(list(self.tokens))
        writer.add_token_types([int(kind) for kind in self.types])
        if self.scores is not None:
            writer.add_token_scores(list(self.scores))
        writer.add_token_merges(list(self.merges))
        for name, index in self.special.items():
            getattr(writer, f"add_{name}_token_id")(index)
        writer.add_add_bos_token(self.adds_bos)
        writer.add_add_eos_token(self.adds_eos)
        writer.add_add_space_prefix(self.adds_space)
        if self.chat_template:
            writer.add_chat_template(self.chat_template)


def describe_tokenizer(tokenizer: PreTrainedTokenizerBase, vocab_size: int) -> GgufTokenizer:
    """Read a tokenizer. Args: vocab_size: rows of the embedding; rows without a token get a placeholder.

    Raises: UnsupportedModel: GGUF has no words for it.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise UnsupportedModel("GGUF: the tokenizer has no tokenizer.json to be read from")
    data: dict[str, Any] = json.loads(backend.to_str())
    if data["model"]["type"] != "BPE":
        raise UnsupportedModel(f"GGUF: a {data['model']['type']} tokenizer is not written, only BPE")
    merges = tuple(merge if isinstance(merge, str) else " ".join(merge) for merge in data["model"]["merges"])
    if not merges:
        raise UnsupportedModel("GGUF: the tokenizer has no merges, and readers want at least one")
    is_pieces = bool(data["model"]["byte_fallback"])
    tokens, types = _vocabulary(data, vocab_size, is_pieces)
    if is_pieces:
        _check_merges(tokens, types, merges)
    adds_bos, adds_eos = _adds(tokenizer)
    template = getattr(tokenizer, "chat_template", None)
    return GgufTokenizer(
        model="llama" if is_pieces else "gpt2",
        pre=None if is_pieces else _split_name(data),
        tokens=tokens,
        types=types,
        scores=_scores(tokens, merges) if is_pieces else None,
        merges=merges,
        special=_special(tokenizer, len(tokens)),
        adds_bos=adds_bos,
        adds_eos=adds_eos,
        adds_space=is_pieces and _prepends_space(data),
        chat_template=template if isinstance(template, str) else None,
    )


def _vocabulary(data: dict[str, Any], vocab_size: int, is_pieces: bool) -> tuple[tuple[str, ...], tuple[TokenType, ...]]:
    """Tokens and their types by id."""
    found: dict[int, tuple[str, TokenType]] = {}
    for token, index in data["model"]["vocab"].items():
        is_byte = is_pieces and len(token) == 6 and token.startswith("<0x") and token.endswith(">")
        found[index] = token, TokenType.BYTE if is_byte else TokenType.NORMAL
    if max(found) >= vocab_size:
        raise UnsupportedModel(f"GGUF: the tokenizer has the id {max(found)}, and the embedding only {vocab_size} rows")
    for added in data["added_tokens"]:
        if added["id"] < vocab_size:  # the model could not read the others; tokenizer classes add such of their own accord
            found[added["id"]] = added["content"], TokenType.CONTROL if added["special"] else TokenType.USER_DEFINED
    unknown = data["model"]["unk_token"]
    if is_pieces and unknown in data["model"]["vocab"]:
        found[data["model"]["vocab"][unknown]] = unknown, TokenType.UNKNOWN
    rows = [found.get(index, (f"[PAD{index}]", TokenType.UNUSED)) for index in range(vocab_size)]
    return tuple(token for token, _ in rows), tuple(kind for _, kind in rows)


def _split_name(data: dict[str, Any]) -> str:
    normalizer = data["normalizer"]
    if normalizer is not None and normalizer["type"] != "NFC":  # readers leave NFC out, as most text is in it
        raise UnsupportedModel(f"GGUF: the tokenizer normalises text ({normalizer['type']}), which readers would leave out")
    pre = data["pre_tokenizer"]
    steps = pre["pretokenizers"] if pre and pre["type"] == "Sequence" else [pre]
    for name, wanted in SPLITS:
        if len(steps) == len(wanted) and all(_is(step, want) for step, want in zip(steps, wanted, strict=True)):
            return name
    raise UnsupportedModel(f"GGUF: no reader knows how this tokenizer splits text ({json.dumps(pre)})")


def _is(step: dict[str, Any] | None, wanted: dict[str, Any]) -> bool:
    return step is not None and not step.get("add_prefix_space") and all(step.get(k) == v for k, v in wanted.items())


def _check_merges(tokens: tuple[str, ...], types: tuple[TokenType, ...], merges: tuple[str, ...]) -> None:
    """SentencePiece joins any two pieces that make a third; where BPE has no merge for them, the two would differ."""
    pieces, known = set(tokens), set(merges)
    for token, kind in zip(tokens, types, strict=True):
        pairs = [(token[:cut], token[cut:]) for cut in range(1, len(token))] if kind == TokenType.NORMAL else []
        for left, right in pairs:
            if left in pieces and right in pieces and f"{left} {right}" not in known:
                raise UnsupportedModel(
                    f"GGUF: the tokenizer does not merge {left!r} and {right!r} into its token {token!r}, so it is no "
                    "SentencePiece model, as which readers would take it"
                )


def _scores(tokens: tuple[str, ...], merges: tuple[str, ...]) -> tuple[float, ...]:
    """SentencePiece merges the pair whose product has the highest score; its order is that of the merges."""
    ranks: dict[str, int] = {}
    for rank, merge in enumerate(merges):
        ranks.setdefault(merge.replace(" ", ""), rank)
    return tuple(float(-ranks.get(token, 0 if len(token) > 1 else len(merges))) for token in tokens)


def _prepends_space(data: dict[str, Any]) -> bool:
    """Whether a text gets a space before it, by a normaliser or by Metaspace."""
    parts = [data["normalizer"], data["pre_tokenizer"]]
    parts += [step for part in parts if part for step in part.get("normalizers", part.get("pretokenizers", []))]
    return any(
        part is not None
        and (part["type"] == "Prepend" or (part["type"] == "Metaspace" and part.get("prepend_scheme", "always") != "never"))
        for part in parts
    )


def _special(tokenizer: PreTrainedTokenizerBase, count: int) -> dict[str, int]:
    ids = {name: getattr(tokenizer, f"{name}_token_id", None) for name in ("bos", "eos", "unk", "pad")}
    return {name: index for name, index in ids.items() if isinstance(index, int) and 0 <= index < count}


def _adds(tokenizer: PreTrainedTokenizerBase) -> tuple[bool, bool]:
    """Whether the tokenizer puts its first or last special token around a text of its own accord."""
    ids = list(tokenizer("a")["input_ids"])
    bare = list(tokenizer("a", add_special_tokens=False)["input_ids"])
    is_longer = len(ids) > len(bare)
    return is_longer and ids[0] == tokenizer.bos_token_id, is_longer and ids[-1] == tokenizer.eos_token_id
