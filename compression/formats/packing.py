"""Dense bit streams in int32 words, as GPTQ and compressed-tensors store codes.

Code k of a line takes bits k*b .. k*b + b - 1 of its stream, and bit t of the stream is bit t mod 32 of word t // 32 (little
endian). So 32 codes fill b words exactly, codes of 3, 5 and 6 bits may straddle two words, and idle bits at the end are 0.
"""

import torch
from torch import Tensor

WORD_BITS = 32
_MASK = 2**WORD_BITS - 1


def pack(codes: Tensor, bits: int, dim: int) -> Tensor:
    """Pack along a dimension.

    Args: codes: integers 0 .. 2^bits - 1, any integer dtype; not modified. bits: 1 .. 8.
    Returns: int32, ceil(n * bits / 32) words where there were n codes.
    """
    lines = codes.movedim(dim, -1)
    count = lines.shape[-1]
    groups = -(-count // WORD_BITS)
    padded = torch.nn.functional.pad(lines, (0, groups * WORD_BITS - count)).unflatten(-1, (groups, WORD_BITS))
    words = torch.zeros(*padded.shape[:-1], bits, dtype=torch.int64, device=codes.device)
    for k in range(WORD_BITS):
        word, shift = divmod(k * bits, WORD_BITS)
        code = padded[..., k].long()
        words[..., word] |= (code << shift) & _MASK
        if shift + bits > WORD_BITS:
            words[..., word + 1] |= code >> (WORD_BITS - shift)
    stream = words.flatten(-2)[..., : word_count(count, bits)]
    signed = torch.where(stream > _MASK // 2, stream - 2**WORD_BITS, stream)  # the same bits as a signed number
    return signed.to(torch.int32).movedim(-1, dim).contiguous()


def unpack(words: Tensor, bits: int, count: int, dim: int) -> Tensor:
    """The `count` codes along a dimension, uint8; the inverse of `pack`.

    Raises: ValueError: they do not fill these words.
    """
    stream = words.movedim(dim, -1).long() & _MASK
    if stream.shape[-1] != word_count(count, bits):
        raise ValueError(f"{count} codes of {bits} bits fill {word_count(count, bits)} words, not {stream.shape[-1]}")
    groups = -(-count // WORD_BITS)
    padded = torch.nn.functional.pad(stream, (0, groups * bits - stream.shape[-1])).unflatten(-1, (groups, bits))
    codes = torch.empty(*padded.shape[:-1], WORD_BITS, dtype=torch.uint8, device=words.device)
    for k in range(WORD_BITS):
        word, shift = divmod(k * bits, WORD_BITS)
        code = padded[..., word] >> shift
        if shift + bits > WORD_BITS:
            code = code | padded[..., word + 1] << (WORD_BITS - shift)
        codes[..., k] = (code & (2**bits - 1)).to(torch.uint8)
    return codes.flatten(-2)[..., :count].movedim(-1, dim).contiguous()


def word_count(count: int, bits: int) -> int:
    """Words that `count` codes take."""
    return -(-count * bits // WORD_BITS)
