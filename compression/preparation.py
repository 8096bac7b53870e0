"""Everything that is settled before the first weight is solved: model, plan, windows. All refusals happen here."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from compression import environment
from compression.calibration import TextReader, Windows
from compression.finished_blocks import Fingerprint
from compression.formats.catalog import check_model, check_output, check_plan
from compression.formats.files import FILES
from compression.frame import frame_of
from compression.kept import Kept
from compression.kept_windows import KeptWindows
from compression.labelled import LabelledTexts, read_labelled
from compression.labels import check_labelled, label_names
from compression.models.checkpoint import Checkpoint
from compression.models.gguf_source import dequantize_once
from compression.models.licenses import named_license
from compression.models.refusing import refusing
from compression.models.source import ModelSource
from compression.models.storage import check_places
from compression.models.untrusted import check_model_path
from compression.plan import Plan, plan, window_length
from compression.probe import probe_windows
from compression.protocol import Calibration, Evaluation, Output
from compression.recipe import Recipe, parse_recipe, resolve
from compression.report import ModelInfo


@dataclass(frozen=True, kw_only=True)
class Texts:
    """What a model is calibrated and evaluated on.

    Args: seqlen: of the evaluation windows.
    """

    tokenizer: PreTrainedTokenizerBase
    calibration: Windows
    evaluation: tuple[Windows, ...]
    seqlen: int
    labelled: LabelledTexts | None

    @property
    def evaluation_WL(self) -> Tensor:
        """All evaluation windows one after the other; (0, seqlen) when nothing is evaluated."""
        return torch.cat([torch.empty(0, self.seqlen, dtype=torch.long), *(windows.ids_WL for windows in self.evaluation)])

    @property
    def probe_WL(self) -> Tensor:
        """The short windows that the artifact is verified and sampled on."""
        return probe_windows(self.evaluation_WL if self.evaluation else self.calibration.ids_WL)


@dataclass(frozen=True, kw_only=True)
class Job(Texts):
    """One compression by a recipe, ready to run."""

    info: ModelInfo
    checkpoint: Checkpoint
    plan: Plan
    output: Output

    def fingerprint(self, device: torch.device, compute_dtype: torch.dtype) -> Fingerprint:
        """Everything that a solved block depends on; a pass continues only where all of it is the same."""
        return {
            "model": self.info.digest,
            "recipe": self.plan.recipe.model_dump_json(),
            "calibration": self.calibration.describe().digest,
            "embeddings": self.output.embeddings,  # of the calibration stream
            "device": f"{device} ({environment.name_of(device)})",
            **environment.circumstances(device, compute_dtype),
        }


def prepare(
    source: ModelSource,
    recipe: Recipe | Mapping[str, Any],
    calibration: Calibration,
    evaluation: Evaluation,
    output: Output,
    texts: Mapping[str, Path],
    cache: Path,
    kept: Kept,
) -> Job:
    """Check everything that can be checked without solving, cheapest first.

    Args: kept: where windows are looked for and kept.
    Raises: InvalidOptions, UnsupportedModel, CalibrationError.
    """
    check_output(output)
    resolved = resolve(recipe if isinstance(recipe, Recipe) else parse_recipe(recipe), output.format)
    checkpoint, notes = open_checkpoint(source, cache)
    check_model(output, checkpoint.config)
    planned = plan(resolved, checkpoint.architecture)
    check_places(checkpoint, planned.layers, may_share=FILES[output.format].may_share)
    check_plan(output.format, planned, checkpoint.architecture)
    FILES[output.format].check_source(checkpoint, planned)
    found = read_texts(checkpoint, calibration, evaluation, texts, kept)
    return Job(
        **vars(found),
        info=describe_model(source, checkpoint, (*source.notes, *notes)),
        checkpoint=checkpoint,
        plan=planned,
        output=output,
    )


def read_texts(
    checkpoint: Checkpoint, calibration: Calibration, evaluation: Evaluation, texts: Mapping[str, Path], kept: Kept
) -> Texts:
    """The windows that a request names, as the model's tokenizer cuts them.

    Args: texts: where sources lie. kept: where windows are looked for and kept.
    Raises: InvalidOptions, UnsupportedModel, CalibrationError.
    """
    architecture = checkpoint.architecture
    if evaluation.labelled is not None:
        check_labelled(architecture, checkpoint.config)
    calibration_seqlen = window_length("calibration.seqlen", calibration.seqlen, architecture)
    evaluation_seqlen = window_length("evaluation.seqlen", evaluation.seqlen, architecture)
    tokenizer = load_tokenizer(checkpoint.folder)
    frame = frame_of(tokenizer) if architecture.is_encoder else None
    reader = KeptWindows(TextReader(tokenizer, architecture.vocab_size, texts, frame), kept, checkpoint.folder)
    return Texts(
        tokenizer=tokenizer,
        calibration=reader.calibration(calibration.source, calibration.nsamples, calibration_seqlen, calibration.seed),
        evaluation=tuple(reader.evaluation(name, evaluation.windows, evaluation_seqlen) for name in evaluation.sources),
        seqlen=evaluation_seqlen,
        labelled=_labelled(evaluation.labelled, checkpoint, tokenizer, texts),
    )


def _labelled(
    source: str | None, checkpoint: Checkpoint, tokenizer: PreTrainedTokenizerBase, texts: Mapping[str, Path]
) -> LabelledTexts | None:
    if source is None:
        return None
    path, names = texts.get(source) or Path(source), label_names(checkpoint.config)
    return read_labelled(path, source, tokenizer, names, checkpoint.architecture.max_positions)


def open_checkpoint(source: ModelSource, cache: Path) -> tuple[Checkpoint, tuple[str, ...]]:
    """The checkpoint behind a source, a .gguf file de-quantised to `cache`, and what a reader must know of it.

    Raises: UnsupportedModel.
    """
    check_model_path(source.path)
    folder, notes = dequantize_once(source.path, cache) if source.path.suffix == ".gguf" else (source.path, ())
    return Checkpoint(folder), notes


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Raises: UnsupportedModel: there is none that transformers can load."""
    with refusing("the model folder has no tokenizer that transformers can load"):
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        tokenizer("A text, to see that it can be used.")
    return tokenizer


def describe_model(source: ModelSource, checkpoint: Checkpoint, notes: tuple[str, ...]) -> ModelInfo:
    return ModelInfo(
        source=source.name,
        revision=source.revision,
        family=checkpoint.architecture.family,
        architecture=checkpoint.architecture.class_name,
        blocks=checkpoint.architecture.blocks,
        parameters=checkpoint.parameters,
        dtype=checkpoint.main_dtype,
        digest=checkpoint.digest(),
        notes=notes,
        license=named_license(source.path),
    )
