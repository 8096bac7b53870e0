"""A faster model in words, for the terminal, the page and the model card. Torch-free."""

from collections.abc import Iterator

from compression.goals.words import stitched_words
from compression.structure.result import AdaPruneResult, StructureResult
from compression.structure.timing import Measured
from compression.words import duration, size


def structure_line(found: StructureResult) -> str:
    """`1.52 times as fast (asked for 1.5): 61.2 ms instead of 93.1 ms for 1 x 128 tokens, prefill in float32 on ...`."""
    speed = found.speed
    return (
        f"{speed.measured:.3g} times as fast (asked for {speed.requested:.3g}): {speed.shrunk_s * 1e3:.3g} ms instead of "
        f"{speed.dense_s * 1e3:.3g} ms for {environment_words(found.table.environment)}"
    )


def made_words(found: StructureResult) -> str:
    """`structured OBS: 61 of 90 units of attention and 30,112 of 46,080 feed-forward columns kept; ...`."""
    blocks = len(found.blocks)
    heads, columns = sum(block.attention for block in found.blocks), sum(block.ffn for block in found.blocks)
    gone = [f"{count} {what}" for count, what in _gone(found) if count]
    whole = f"; {' and '.join(gone)} cut out whole" if gone else ""
    return (
        f"structured OBS: {heads:,} of {blocks * found.dense.attention:,} units of attention and {columns:,} of "
        f"{blocks * found.dense.ffn:,} feed-forward columns kept{whole}"
    )


def structure_details(found: StructureResult) -> Iterator[str]:
    """What was asked, what came of it, and how it was chosen."""
    speed, search, database = found.speed, found.search, found.database
    yield structure_line(found)
    yield (
        f"requested {speed.requested:.4g}, predicted by the table of times {speed.predicted:.4g}, measured "
        f"{speed.measured:.4g} ({speed.deviation:+.1%} of what was requested): whole forwards of both models in turns, in a "
        f"fresh process, the median of {speed.runs}"
    )
    yield made_words(found)
    yield f"{found.parameters_left:,} of {found.parameters:,} parameters are left"
    yield _loads(found)
    losses = f"loss {search.loss:.4g} of what was chosen, {search.plain_loss:.4g} without the search"
    if search.uniform_loss is not None:
        losses += f", {search.uniform_loss:.4g} with {search.uniform_level} in every block"
    yield f"search: {losses}; {search.evaluations} choices measured on {search.options.windows} calibration windows"
    origin = "was there already" if database.was_there else f"built in {duration(database.seconds)}"
    yield f"database of structures {database.key[:8]}: {size(database.size_bytes)}, {origin}"
    yield from stitched_words(found.stitched, is_stitched=found.is_stitched)
    if found.adaprune is not None:
        yield _adaprune_words(found.adaprune)


def _adaprune_words(found: AdaPruneResult) -> str:
    losses, before = found.losses, found.untuned
    taken = "the weights from before were the best" if found.best == 0 else f"those after pass {found.best} were taken"
    words = f"AdaPrune: loss {losses[found.best]:.4g} instead of {losses[0]:.4g} on calibration windows held out; {taken}"
    if before is not None and before.perplexity_ratio is not None:
        words += f"; before, perplexity was {before.perplexity_ratio:.4g} times the dense one"
    if before is not None and before.output_error is not None:
        words += f"; before, the error of the last hidden states was {before.output_error:.4g}"
    return words


def environment_words(here: Measured) -> str:
    """`1 x 128 tokens, prefill in float32 on AMD EPYC x 2, 2 threads`; `1 x 1 token after 128, decode in ...`."""
    threads = "" if here.device.startswith("cuda") else f", {here.threads} threads"
    tokens = f"1 token after {here.seqlen}" if here.phase == "decode" else f"{here.seqlen} tokens"
    return f"{here.batch} x {tokens}, {here.phase} in {here.dtype} on {here.device_name}{threads}"


def _gone(found: StructureResult) -> tuple[tuple[int, str], tuple[int, str]]:
    return (
        (sum(block.attention == 0 for block in found.blocks), "attentions"),
        (sum(block.ffn == 0 for block in found.blocks), "feed-forwards"),
    )


def _loads(found: StructureResult) -> str:
    if found.is_plain:
        return "all blocks are alike: config.json describes them, and whatever loads the source loads this model"
    return (
        "blocks differ in size: load_shrunk.py beside the weights loads them with transformers, compression.formats.load too; "
        "runtimes that read config.json alone (vLLM, llama.cpp) do not"
    )
