"""The special tokens at both ends of every window of an encoder, such as [CLS] ... [SEP], asked of its tokenizer."""

from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from compression.errors import UnsupportedModel


@dataclass(frozen=True)
class Frame:
    """Token ids that stand before and after the text of a window. Empty: windows are cut from the text as it is."""

    before: tuple[int, ...] = ()
    after: tuple[int, ...] = ()

    @property
    def size(self) -> int:
        """Tokens that it takes from a window."""
        return len(self.before) + len(self.after)

    def around(self, ids_WL: Tensor) -> Tensor:
        """Windows (W, L) of text -> the same in the frame, (W, L + size)."""
        ends = (torch.tensor(side, dtype=ids_WL.dtype).expand(len(ids_WL), -1) for side in (self.before, self.after))
        before_WK, after_WK = ends
        return torch.cat([before_WK, ids_WL, after_WK], 1) if self.size else ids_WL


def frame_of(tokenizer: PreTrainedTokenizerBase) -> Frame:
    """What the tokenizer puts around a text.

    Raises: UnsupportedModel: it changes the text's own tokens, too.
    """
    inner, whole = (tokenizer("a", add_special_tokens=special)["input_ids"] for special in (False, True))
    for start in range(len(whole) - len(inner) + 1):
        if whole[start : start + len(inner)] == inner:
            return Frame(tuple(whole[:start]), tuple(whole[start + len(inner) :]))
    raise UnsupportedModel("the tokenizer gives a text other tokens when it adds its special ones; no windows can be made")
