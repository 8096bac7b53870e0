"""README.md of an artifact: a model card with the metadata that hubs understand. Torch-free.

Metadata is YAML whose values are written as JSON, which YAML holds: no name can end its line or open another key.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from compression.formats.snippets import auto_class, report_snippets
from compression.headline import asked, lost, made, use, won
from compression.options import LayerOptions
from compression.report import EvaluationResult, Report
from compression.words import perplexity_words, windows_words, with_error

HUB_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+", re.ASCII)
COMMIT = re.compile(r"[0-9a-f]{40}")
PIPELINES = {
    "AutoModelForCausalLM": "text-generation",
    "AutoModelForMaskedLM": "fill-mask",
    "AutoModelForSequenceClassification": "text-classification",
    "AutoModel": "feature-extraction",
}
LIBRARIES = {"gguf": "gguf", "sparse-packed": "scalpel"}  # other formats are read by transformers
DATASETS = {"wikitext2": "Salesforce/wikitext", "c4": "allenai/c4", "ptb": "ptb-text-only/ptb_text_only"}
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>|#&!~$])")


def model_card(report: Report) -> str:
    """The whole file."""
    lines = ["---", *(f"{name}: {_yaml(value)}" for name, value in metadata(report).items()), "---", "", *_body(report)]
    return "\n".join(lines) + "\n"


def metadata(report: Report) -> Mapping[str, Any]:
    """What hubs read: where it comes from, what opens it, what it was measured at. What is not known is left out."""
    options = None if report.recipe is None else report.recipe.options
    found: dict[str, Any] = {}
    if (base := _hub_id(report)) is not None:
        found["base_model"] = base
        if _bits(options) is not None:
            found["base_model_relation"] = "quantized"  # hubs have no word for what is only pruned
    if report.model.license is not None:
        found["license"] = report.model.license
    found["library_name"] = LIBRARIES.get(report.output.format, "transformers")
    found["pipeline_tag"] = PIPELINES[auto_class(report.model.architecture)]
    found["tags"] = list(_tags(report, options))
    if report.results:
        found["model-index"] = [{"name": _base_name(report), "results": [_result(result) for result in report.results]}]
    return found


def _hub_id(report: Report) -> str | None:
    """The source, where it is a commit of a hub's model and no path."""
    name = report.model.source.partition("@")[0]
    is_commit = COMMIT.fullmatch(report.model.revision or "") is not None
    return name if is_commit and HUB_ID.fullmatch(name) else None


def _base_name(report: Report) -> str:
    return report.model.source.rstrip("/").rpartition("/")[2]


def _bits(options: LayerOptions | None) -> Any:
    return getattr(options, "bits", None)


def _tags(report: Report, options: LayerOptions | None) -> Iterator[str]:
    yield from ("scalpel", "compression")
    if options is None:
        yield from ("ziplm", "pruned", "structured-pruning")
        return
    yield options.method
    if getattr(options, "sparsity", None):
        yield from ("pruned", "sparse")
        if options.nm is not None:
            yield str(getattr(options, "pattern", ""))
    if (bits := _bits(options)) is not None:
        yield "quantized"
        yield f"{bits}-bit" if isinstance(bits, int) else str(bits)
    if report.output.format != "dense":
        yield report.output.format


def _result(result: EvaluationResult) -> dict[str, Any]:
    """One text's perplexity, as measured here and by nobody else."""
    protocol = result.text.protocol
    name = f"{_text_name(result)}, {windows_words(result.text)} tokens"
    return {
        "task": {"type": "text-generation"},
        "dataset": {"type": DATASETS.get(protocol, protocol), "name": name},
        "metrics": [
            {"type": "perplexity", "name": "perplexity", "value": result.compressed.value, "verified": False},
            {"type": "perplexity", "name": "perplexity of the dense model", "value": result.dense.value, "verified": False},
        ],
    }


def _text_name(result: EvaluationResult) -> str:
    return result.text.source.rpartition("/")[2] if result.text.source.startswith("/") else result.text.source


def _yaml(value: object) -> str:
    """A value as JSON on one line, without signs that YAML does not take."""
    return "".join(sign if sign.isprintable() else "\ufffd" for sign in json.dumps(value, ensure_ascii=False))


def _body(report: Report) -> Iterator[str]:
    yield f"# {_text(report.model.source)}, compressed"
    for name, line in (("Asked", asked(report)), ("Lost", lost(report)), ("Won", won(report)), ("Use it?", use(report))):
        yield from ("", f"**{name}** {_text(line)}")
    yield from ("", "`report.html` shows all of it, `report.json` has every figure, `scalpel.json` every file's hash.")
    yield from ("", "## How it was made", "", _text(made(report)) + ".")
    for note in (*report.model.notes, *report.notes):
        yield from ("", f"Note: {_text(note)}")
    yield from _results(report)
    yield from ("", "## How to load it", "", "`FOLDER` stands for where the files lie.")
    for found in report_snippets(report):
        yield from ("", f"With {found.software}:", "", f"```{found.language}", found.code, "```")
    yield from ("", f"Made by Scalpel {report.scalpel_version}.")


def _results(report: Report) -> Iterator[str]:
    if not (report.results or report.output_errors or report.accuracy):
        return
    yield from ("", "## What was measured", "", "| text | figure | dense | compressed |", "|---|---|---|---|")
    for result in report.results:
        where = f"{_text(_text_name(result))} ({windows_words(result.text)} tokens)"
        yield f"| {where} | perplexity | {perplexity_words(result.dense)} | {perplexity_words(result.compressed)} |"
        yield f"| {where} | KL, nats/token | | {with_error(result.kl, result.kl_standard_error)} |"
        agreement = with_error(result.top1_agreement, result.top1_agreement_standard_error)
        yield f"| {where} | top-1 agreement | | {agreement} |"
    for error in report.output_errors:
        words = with_error(error.relative_error, error.relative_error_standard_error)
        yield f"| {_text(error.text.source)} ({windows_words(error.text)} tokens) | relative output error | | {words} |"
    if (found := report.accuracy) is not None:
        dense = with_error(found.dense, found.dense_standard_error)
        compressed = with_error(found.compressed, found.compressed_standard_error)
        yield f"| {_text(found.source)} ({found.texts} texts) | accuracy | {dense} | {compressed} |"


def _text(words: str) -> str:
    """Any text on one line of Markdown, shown as it is."""
    return _SPECIAL.sub(r"\\\1", "".join(sign if sign.isprintable() else " " for sign in words))
