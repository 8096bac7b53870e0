"""What a finished pass leaves behind for other formats: its solved blocks, its probe and its report, in one folder.

`block-NNNNN.safetensors` are the finished blocks as the pass wrote them; `probe.safetensors` holds what the pass believes of
the compressed model, so that a later export is held against the same; `report.json` is the report of the pass. The folder
appears complete or not at all.
"""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError
from safetensors import SafetensorError

from compression.errors import InvalidOptions
from compression.finished_blocks import FinishedBlocks, read_block
from compression.manifest import REPORT_FILE
from compression.plan import Plan
from compression.probe import Probe
from compression.report import LayerResult, Report
from compression.weights import Weights

PROBE_FILE = "probe.safetensors"


@dataclass(frozen=True)
class KeptSolutions:
    """The solutions of one pass, opened. Args: report, probe: of the pass."""

    folder: Path
    report: Report
    probe: Probe

    def block(self, index: int) -> tuple[dict[str, Weights], list[LayerResult]]:
        """Weights by module name, and results of a block; both empty where the plan leaves the block alone.

        Raises: InvalidOptions: the block is damaged or gone.
        """
        found = read_block(self.folder, index)
        if found is None:
            raise _unusable(self.folder, f"block {index} is missing or damaged")
        return found

    def weights(self, plan: Plan, index: int) -> dict[str, Weights]:
        """Weights by module name of every matrix of a block that the plan targets, so that none is left out silently.

        Raises: InvalidOptions: as `block`, or the file holds other matrices than the plan targets.
        """
        weights = self.block(index)[0]
        if weights.keys() != {layer.name for layer in plan.block(index) if layer.options is not None}:
            raise _unusable(self.folder, f"block {index} holds other matrices than were solved there")
        return weights


def keep_solutions(folder: Path, finished: FinishedBlocks, probe: Probe, report: Report) -> None:
    """Give the finished blocks a home of their own; they are linked where that is possible, else copied."""
    partial = folder.with_name(f".{folder.name}.partial")
    if partial.exists():
        shutil.rmtree(partial)  # what an interrupted attempt left
    partial.mkdir(parents=True)
    for block in finished.files():
        _link_or_copy(block, partial / block.name)
    probe.save(partial / PROBE_FILE)
    (partial / REPORT_FILE).write_text(report.model_dump_json(indent=2) + "\n", "utf-8")
    partial.rename(folder)


def open_solutions(folder: Path) -> KeptSolutions:
    """Raises: InvalidOptions: the folder holds no solutions, or some that this version does not read."""
    try:
        report = Report.model_validate_json((folder / REPORT_FILE).read_bytes())
        return KeptSolutions(folder, report, Probe.load(folder / PROBE_FILE))
    except OSError as error:
        raise _unusable(folder, f"{error.filename or PROBE_FILE} cannot be read") from error
    except (SafetensorError, ValidationError, KeyError) as error:
        raise _unusable(folder, f"a file is damaged or of another version ({type(error).__name__})") from error


def _unusable(folder: Path, reason: str) -> InvalidOptions:
    return InvalidOptions("solutions", f"{folder} holds no usable solutions: {reason}", "a folder that compress(...) has kept")


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, target)
