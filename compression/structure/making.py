"""Runs of the pass that makes the chosen model: stitched, solved again, tuned."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from compression import summary
from compression.block_files import BLOCKS_FOLDER
from compression.events import OnEvent, StageStarted
from compression.goals.goal import AdaPruneOptions
from compression.goals.result import Stitched
from compression.kept import Kept
from compression.kept_states import KeptStates
from compression.memory import MemoryMeter
from compression.models.activations import Spill
from compression.models.checkpoint import Checkpoint
from compression.models.streamed import StreamedModel
from compression.preparation import Texts
from compression.report import ModelInfo
from compression.stopwatch import Stopwatch
from compression.structure.adaprune import STATE_FILE, AdaPrune
from compression.structure.choosing import Chosen
from compression.structure.cut_files import CutFiles
from compression.structure.result import AdaPruneResult
from compression.structure.shrunk_pass import PassResult, ShrunkPass

STITCHED_FOLDER, TUNED_FOLDER = "stitched", "tuned"


@dataclass(frozen=True)
class Making:
    """Everything that a run needs."""

    checkpoint: Checkpoint
    texts: Texts
    chosen: Chosen
    info: ModelInfo
    work: Path
    device: torch.device
    compute_dtype: torch.dtype
    spill: Spill
    meter: MemoryMeter
    on_event: OnEvent
    kept: Kept

    def stitched_figures(self) -> Stitched | None:
        """What the database's weights give on the first text."""
        result, _ = self.run(Stopwatch(), is_stitched=True)
        return self._figures(result)

    def run(self, watch: Stopwatch, *, is_stitched: bool) -> tuple[PassResult, CutFiles]:
        """The result, and the cuts of all blocks."""
        folder = self.work / (STITCHED_FOLDER if is_stitched else BLOCKS_FOLDER)
        finished = CutFiles(folder, self._key(is_stitched=is_stitched))
        return self._passed(watch, finished, None if is_stitched else self.texts.calibration.ids_WL), finished

    def tuned(
        self, watch: Stopwatch, options: AdaPruneOptions, result: PassResult, finished: CutFiles, *, is_stitched: bool
    ) -> tuple[PassResult, CutFiles, AdaPruneResult]:
        """The same after AdaPrune, and what that came to. Args: result, finished: of `run`."""
        key = self._key(is_stitched=is_stitched) | {"adaprune": options.model_dump_json()}
        with watch.time("adaprune"):
            found = AdaPrune(
                StreamedModel(self.checkpoint, self.device, torch.float32),
                [finished.cuts(index) for index in range(len(result.errors))],
                self.texts.calibration.ids_WL,
                options,
                self.compute_dtype,
                self.work / STATE_FILE,
                str(key),
                self.on_event,
            ).run()
            tuned = CutFiles(self.work / TUNED_FOLDER, key)
            for index, (cuts, errors) in enumerate(zip(found.cuts, result.errors, strict=True)):
                tuned.save(index, cuts, errors)
        self.on_event(StageStarted(stage="evaluating"))
        untuned, resumed_blocks = self._figures(result), result.resumed_blocks
        result = self._passed(watch, tuned, None, is_made=True)
        result.resumed_blocks = resumed_blocks
        return result, tuned, AdaPruneResult(options=options, losses=found.losses, best=found.best, untuned=untuned)

    def _key(self, *, is_stitched: bool) -> dict[str, str]:
        return {
            "database": self.chosen.database.key,
            "profile": str(self.chosen.profile),
            "weights": "stitched" if is_stitched else "solved on compressed inputs",
        }

    def _passed(
        self, watch: Stopwatch, finished: CutFiles, calibration_WL: Tensor | None, *, is_made: bool = False
    ) -> PassResult:
        """Arguments are those of `ShrunkPass`."""
        ids_WL = self.texts.evaluation_WL
        states = KeptStates(self.kept, "dense evaluation", self.info.digest, ids_WL, self.device, self.compute_dtype)
        with watch.time("loading"):
            model = StreamedModel(self.checkpoint, self.device, torch.float32)
            dense = states.load()
        result = ShrunkPass(
            model=model,
            structures=self.chosen.structures,
            profile=self.chosen.profile,
            calibration_WL=calibration_WL,
            evaluation_WL=ids_WL,
            probe_WL=self.texts.probe_WL,
            labelled=self.texts.labelled.batches if self.texts.labelled else (),
            finished=finished,
            compute_dtype=self.compute_dtype,
            spill=self.spill,
            dense=dense,
            meter=self.meter,
            watch=watch,
            on_event=self.on_event,
            is_made=is_made,
        ).run()
        if dense is None and result.dense is not None:
            states.keep(result.dense)
        result.dense = None  # frees its memory
        return result

    def _figures(self, result: PassResult) -> Stitched | None:
        """On the first text."""
        found = next(iter(summary.results(self.texts, result.scores)), None)
        if found is not None:
            return Stitched(text=found.text.source, perplexity_ratio=found.ratio, kl=found.kl)
        error = next(iter(summary.output_errors(self.texts, result.scores)), None)
        return None if error is None else Stitched(text=error.text.source, output_error=error.relative_error)
