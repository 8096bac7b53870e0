"""A goal and its choice in words, for the terminal, the page and the model card. Torch-free."""

from collections import Counter
from collections.abc import Iterator

from compression.goals.result import GoalResult, Stitched
from compression.words import duration, size


def goal_line(goal: GoalResult) -> str:
    """`goal: bytes / 2: at most 134 MB for the whole model, 133 MB by the chosen levels (15 x bits 3, 195 x bits 4)`."""
    counts = Counter(use.level for use in goal.profile)
    chosen = ", ".join(f"{counts[level]} x {level}" for level in goal.levels if counts[level])
    most, expected = amount(goal.budget, goal.unit), amount(goal.predicted, goal.unit)
    return f"goal: {goal.asked.in_words()}: at most {most} for the whole model, {expected} by the chosen levels ({chosen})"


def goal_details(goal: GoalResult) -> Iterator[str]:
    """What the choice was made from, and what it was judged by."""
    yield goal_line(goal)
    yield f"of these {amount(goal.fixed, goal.unit)} are fixed: what no level was chosen for"
    search, database = goal.search, goal.database
    losses = f"loss {search.loss:.4g} nats/token of the chosen levels, {search.plain_loss:.4g} without the search"
    if search.uniform_level is not None and search.uniform_loss is not None:
        losses += f", {search.uniform_loss:.4g} with {search.uniform_level} for all"
    yield f"search: {losses}; {search.evaluations} choices measured on {search.options.windows} calibration windows"
    origin = "was there already" if database.was_there else f"built in {duration(database.seconds)}"
    yield f"model database {database.key[:8]}: {database.levels} levels, {size(database.size_bytes)}, {origin}"
    yield from stitched_words(goal.stitched, is_stitched=goal.is_stitched)


def stitched_words(found: Stitched | None, *, is_stitched: bool) -> Iterator[str]:
    """Where the weights come from. Args: found: what the database's weights give, where they were solved again."""
    if is_stitched:
        yield "the weights are stitched from the database, solved on the dense model's inputs"
    if found is not None:
        figure = f"perplexity ratio {found.perplexity_ratio:.4g}" if found.perplexity_ratio is not None else ""
        figure = figure or (f"output error {found.output_error:.4g}" if found.output_error is not None else "unknown")
        yield f"solved again on compressed inputs; the database's weights stitched would give on {found.text}: {figure}"


def amount(value: float, unit: str) -> str:
    """`134 MB`, or `0.21 GFLOP a token`."""
    return size(value) if unit == "bytes" else f"{value / 1e9:.4g} GFLOP a token"
