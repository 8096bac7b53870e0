"""A model, alone or beside a reference, run over the windows of all texts and scored text by text."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from transformers import PreTrainedTokenizerBase

from compression.calibration import Windows
from compression.evaluation import compare_window, loss_of_window
from compression.evaluation_report import TextEvaluation
from compression.events import ActivityStarted, BlockFinished, OnEvent
from compression.kept import Kept
from compression.kept_states import KeptStates
from compression.memory import MemoryMeter
from compression.models.activations import Spill
from compression.products import factors_in
from compression.report import EvaluationResult
from compression.statistics import perplexity, summarise, worst_tokens
from compression.subjects import Subject


@dataclass
class Progress:
    """Blocks of all models, told one by one; whatever the callback raises ends the run there."""

    blocks: int
    meter: MemoryMeter
    on_event: OnEvent
    done: int = 0
    begin: float = field(default_factory=time.perf_counter)

    def start(self, block: int) -> None:
        self.on_event(ActivityStarted(activity="evaluating", block=block, blocks=self.blocks))

    def finish_block(self) -> None:
        self.done += 1
        spent = time.perf_counter() - self.begin
        self.on_event(
            BlockFinished(
                block=self.done,
                blocks=self.blocks,
                fraction=self.done / self.blocks,
                eta_s=spent / self.done * (self.blocks - self.done),
                mean_relative_error=None,
                host_memory_bytes=self.meter.now_bytes(),
                device_memory_bytes=self.meter.device_bytes(),
                is_replayed=False,
            )
        )


@dataclass(frozen=True)
class Comparison:
    """What is run where.

    Args:
        tokenizer: of the model, to show tokens with.
        spill: for streams that exceed memory.
        kept: where hidden states are looked for and kept.
    """

    model: Subject
    reference: Subject | None
    tokenizer: PreTrainedTokenizerBase
    spill: Spill
    device: torch.device
    dtype: torch.dtype
    kept: Kept

    def results(self, windows: Sequence[Windows], meter: MemoryMeter, on_event: OnEvent) -> tuple[TextEvaluation, ...]:
        """Every text's figures. Raises: NumericalError. UnsupportedModel: a model does not fit, or its weights are damaged."""
        if not windows:
            return ()
        ids_WL = torch.cat([text.ids_WL for text in windows])
        subjects = [subject for subject in (self.reference, self.model) if subject is not None]
        progress = Progress(sum(subject.blocks for subject in subjects), meter, on_event)
        for subject in subjects:
            progress.start(progress.done + 1)
            what = f"evaluation of {'the model' if subject is self.model else 'the reference'}"
            states = KeptStates(self.kept, what, subject.info.digest, ids_WL, self.device, self.dtype)
            subject.run(ids_WL, self.spill, states, progress.finish_block)
        first, found = 0, []
        for text in windows:
            progress.start(0)
            with factors_in(self.dtype):  # of the heads
                found.append(self._text(text, first))
            first += len(text.ids_WL)
        return tuple(found)

    @torch.inference_mode()
    def _text(self, text: Windows, first: int) -> TextEvaluation:
        """Args: first: number of the text's first window among all."""
        if self.reference is not None:
            comparison = self._compare(self.reference, text, first)
            return TextEvaluation(text=comparison.text, perplexity=comparison.compressed, comparison=comparison)
        losses = [
            loss_of_window(ids_L, self.model.logits(first + w), self.model.vocab_size) for w, ids_L in enumerate(text.ids_WL)
        ]
        return TextEvaluation(text=text.describe(), perplexity=perplexity(losses), comparison=None)

    def _compare(self, reference: Subject, text: Windows, first: int) -> EvaluationResult:
        scores = [
            compare_window(ids_L, reference.logits(first + w), self.model.logits(first + w), self.model.vocab_size)
            for w, ids_L in enumerate(text.ids_WL)
        ]
        return summarise(text.describe(), scores, worst_tokens(scores, text.ids_WL, self.tokenizer))
