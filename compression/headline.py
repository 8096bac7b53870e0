"""A report in four lines: what was asked, what was lost, what was won, and whether to use it. Torch-free.

Every figure is the report's own.
"""

from collections.abc import Iterator

from compression.options import LayerOptions
from compression.report import Report
from compression.structure.words import made_words, structure_line
from compression.verdict import NO_VERDICT
from compression.words import embedding_words, failures_words, perplexity_words, recipe_words, size, sparsity, with_error

LESS_LOSS = "To lose less, ask for fewer zeros or more bits, leave the worst layers alone, or calibrate on more windows."
LESS_LOSS_FASTER = "To lose less, ask for a smaller speed-up, calibrate on more windows, or train what is left."


def asked(report: Report) -> str:
    """`Prune to 50% zeros with sparsegpt; calibrated on sotu, 128 windows of 2048 tokens; written as dense.`"""
    recipe, text = report.recipe, report.calibration_text
    if text is None:
        calibrated = "without calibration"
    else:
        inputs = ", on the dense model's inputs" if recipe is not None and recipe.inputs == "dense" else ""
        calibrated = f"calibrated on {text.source}, {text.windows} windows of {text.seqlen} tokens{inputs}"
    return f"{_target(report)}; {calibrated}; written as {report.output.format}."


def _target(report: Report) -> str:
    recipe = report.recipe
    if report.structure is not None:
        return f"Reach {report.structure.asked.in_words()}: fewer heads and columns"
    if report.goal is not None:
        return f"Reach {report.goal.asked.in_words()}, a level for each matrix"
    assert recipe is not None, "what no goal was named for has one"
    words = f"{target_words(recipe.options)} with {recipe.options.method}"
    is_mixed = recipe.overrides or recipe.ignore or recipe.skip_blocks
    return f"{words} (some modules otherwise or not at all)" if is_mixed else words


def made(report: Report) -> str:
    """How the weights were made: the recipe's options, or what was cut out."""
    if report.structure is not None:
        return made_words(report.structure)
    return "" if report.recipe is None else recipe_words(report.recipe.options.model_dump())


def lost(report: Report) -> str:
    """Of each text what its kind of model is measured by."""
    return " ".join(_losses(report)) or "Unknown: nothing was evaluated."


def won(report: Report) -> str:
    """Only what was asked for: rounding makes zeros too, and pruned weights keep their width."""
    sizes, options = report.sizes, None if report.recipe is None else report.recipe.options
    parts = []
    if report.structure is not None:
        parts.append(structure_line(report.structure))
    if getattr(options, "sparsity", None):
        parts.append(f"{sparsity(sizes):.2%} of {sizes.targeted_parameters:,} targeted weights are zero")
    if getattr(options, "bits", None) is not None:
        packed = " in a packed format" if report.output.format == "dense" else ""
        parts.append(f"{sizes.bits_per_targeted_weight:.4g} bits per targeted weight{packed}")
    parts.append(f"weights on disk {size(sizes.source_bytes)} → {size(sizes.artifact_bytes)}")
    words = ", ".join(parts)
    return f"{words[0].upper()}{words[1:]}. {sizes.note}"


def use(report: Report) -> str:
    """A judgement from the verdict and from whether other software could load the files."""
    return " ".join(_judgement(report))


def target_words(options: LayerOptions) -> str:
    """`Prune to 50% zeros in the pattern 2:4`, `Quantise to 4 bits in groups of 128`, or both."""
    goals = []
    share, pattern = getattr(options, "sparsity", None), getattr(options, "pattern", "unstructured")
    if share:
        goals.append(
            f"prune to {share * 100:.4g}% zeros" + ("" if pattern == "unstructured" else f" in the pattern {pattern}")
        )
    bits, group = getattr(options, "bits", None), getattr(options, "group_size", None)
    if bits is not None:
        width = "ternary weights" if bits == "ternary" else f"{bits} bits"
        goals.append(f"quantise to {width}" + (f" in groups of {group}" if isinstance(group, int) else ""))
    words = " and ".join(goals) or "solve"
    return words[0].upper() + words[1:]


def _losses(report: Report) -> Iterator[str]:
    for result in report.results:
        yield (
            f"{result.text.source}: perplexity {perplexity_words(result.dense)} → {perplexity_words(result.compressed)} "
            f"(×{result.ratio:.4g}), KL {with_error(result.kl, result.kl_standard_error)} nats/token, "
            f"same first choice for {result.top1_agreement:.1%} of tokens."
        )
    for error in report.output_errors:
        yield (
            f"{error.text.source}: relative output error "
            f"{with_error(error.relative_error, error.relative_error_standard_error)}, "
            f"cosine {error.cosine:.4g}{embedding_words(error)}."
        )
    if report.accuracy is not None:
        found = report.accuracy
        yield (
            f"{found.source}: accuracy {with_error(found.dense, found.dense_standard_error)} → "
            f"{with_error(found.compressed, found.compressed_standard_error)} on {found.texts} texts."
        )


def _judgement(report: Report) -> Iterator[str]:
    verdict, loaded = report.verdict, report.verification.verdict == "ok"
    if verdict is None:
        yield f"Judge for yourself: {(report.verdict_note or 'no limit was set').removeprefix(NO_VERDICT)}."
    elif verdict.outcome == "regressed":
        yield f"Not as it is: {failures_words(verdict)}. {LESS_LOSS if report.structure is None else LESS_LOSS_FASTER}"
    elif loaded:
        yield f"Yes: within every limit that was set ({len(verdict.checks)} of {len(verdict.checks)} checks passed)."
    else:
        yield f"With care: within every limit that was set ({len(verdict.checks)}), but not seen to load."
    yield f"Loaded and compared with {report.verification.loader}." if loaded else _not_loaded(report)
    fallbacks = sum(bool(layer.fallbacks) for layer in report.layers)
    if fallbacks:
        yield f"{fallbacks} of {len(report.layers)} matrices needed a fallback."


def _not_loaded(report: Report) -> str:
    return f"Loading was not verified: {report.verification.detail}."
