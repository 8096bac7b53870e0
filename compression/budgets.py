"""How much memory the pass allows itself in places, in bytes: what it works with and what `estimate` counts on. Torch-free."""

SPILL_BYTES = 4 * 2**30  # beyond this a stream of hidden states lives in a memory-mapped file
MAX_PINNED_BYTES = 16 * 2**30  # the same beside a GPU, where that is a quarter of what the host has free
MAX_HESSIANS_BYTES = 8 * 2**30  # of one forward of calibration; more inputs than that take another forward
MAX_DEVICE_HESSIANS_BYTES = 20 * 2**30  # the same on a GPU of four times that; OPT-175B's take 11.5 GB
BATCH_BYTES = 64 * 2**20  # of the inverses that exact solving holds at a time; larger batches gain nothing on a CPU
MAX_ABREAST = 4  # windows that go through a block at once on a CPU, where they are small:
ABREAST_NUMBERS = 2**21  # in the hidden states of one; 2048 tokens of a model 1024 wide
ABREAST_SUMS_BYTES = 256 * 2**20  # and where the Hessians that each of them adds to are
ABREAST_SQUARE = 2**22  # the same of inputs that are solved at once: numbers in the largest Hessian
CHUNK_LOGITS = 2**22  # logits held at once, per model: 16 MiB in float32, which the allocator reuses


def pinned_bytes(available_bytes: int) -> int:
    """Beyond this a stream beside a GPU lives in a file. Args: available_bytes: that the host can give without swapping."""
    return max(SPILL_BYTES, min(MAX_PINNED_BYTES, available_bytes // 4))


def hessians_bytes(device_bytes: int | None) -> int:
    """What the Hessians of one forward may take. Args: device_bytes: all of a GPU's memory; None on a CPU."""
    if device_bytes is None:
        return MAX_HESSIANS_BYTES
    return max(MAX_HESSIANS_BYTES, min(MAX_DEVICE_HESSIANS_BYTES, device_bytes // 4))
