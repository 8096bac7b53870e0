"""How much memory the pass allows itself in places, in bytes: what it works with and what `estimate` counts on. Torch-free."""

SPILL_BYTES = 4 * 2**30  # beyond this a stream of hidden states lives in a memory-mapped file
MAX_HESSIANS_BYTES = 8 * 2**30  # of one forward of calibration; more inputs than that take another forward
BATCH_BYTES = 64 * 2**20  # of the inverses that exact solving holds at a time; larger batches gain nothing on a CPU
CHUNK_LOGITS = 2**22  # logits held at once, per model: 16 MiB in float32, which the allocator reuses
