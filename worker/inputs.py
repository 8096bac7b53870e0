"""What a job's task reads, brought to this machine, and the spec that tells the runner of it."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from compression.evaluable import causal_class
from compression.families import read_architecture
from compression.manifest import REPORT_FILE
from compression.models.source import ModelSource
from compression.report import Report
from jobs.artifacts import ArtifactStore
from jobs.database import Sessions
from jobs.errors import ArtifactCorrupt, SolutionsGone
from jobs.exports import ExportRequest, solutions
from jobs.fetch import OnNote, fetch_model, fetch_text
from jobs.hub_models import ConfigCheck
from jobs.request import JobRequest
from jobs.settings import Settings
from jobs.sources import pinned
from jobs.tables import Job
from worker.folder import JobFolder
from worker.interruptible import interruptible
from worker.spec import EvaluateSpec, ExportSpec, RunSpec, Spec

log = logging.getLogger(__name__)

Check = Callable[[], None]


@dataclass(frozen=True)
class Inputs:
    """The inputs of one claimed job."""

    sessions: Sessions
    store: ArtifactStore
    settings: Settings
    job: Job
    folder: JobFolder

    def fetch(self, on_note: OnNote, check: Check) -> Spec:
        """Have everything here that the job's task reads.

        Args:
            on_note: told what is being fetched.
            check: raises when the attempt must stop.
        Raises: SourceError, UnsupportedModel, RetryableFetchError: as `jobs.fetch`. SolutionsGone.
        """
        if self.job.task == "export":
            return self._export(ExportRequest.model_validate(self.job.request), on_note, check)
        return self._measuring(JobRequest.model_validate(self.job.request), on_note, check)

    def _measuring(self, request: JobRequest, on_note: OnNote, check: Check) -> RunSpec | EvaluateSpec:
        """Of a compression or an evaluation: models and texts, one by one, so that a lost lease ends it between two."""
        config_check: ConfigCheck = causal_class if request.task == "evaluate" else read_architecture

        def model_of(source: str) -> ModelSource:
            return interruptible(partial(fetch_model, source, self.settings, on_note, check=config_check), check)

        model = model_of(request.model)
        reference = None if request.reference is None else model_of(request.reference)
        texts: dict[str, Path] = {}
        for use in request.text_uses:
            text = interruptible(partial(fetch_text, use.source, self.settings, on_note, role=use.role), check)
            if text is not None:
                texts[use.key] = text
        common = self._common(model) | {
            "evaluation": request.evaluation,
            "acceptance": request.acceptance,
            "texts": texts,
            "work": self.folder.work,
            "provenance": self._provenance(),
        }
        if request.task == "evaluate":
            return EvaluateSpec(reference=reference, **common)
        return RunSpec(
            recipe=request.recipe,
            calibration=request.calibration,
            output=request.output,
            solutions=self.folder.solutions,
            **common,
        )

    def _export(self, request: ExportRequest, on_note: OnNote, check: Check) -> ExportSpec:
        """The solutions, and the very model that they belong to."""
        self._fetch_solutions(check)
        solved = Report.model_validate_json((self.folder.solutions / REPORT_FILE).read_bytes())
        source = pinned(self.job.model, solved.model.revision)
        model = interruptible(partial(fetch_model, source, self.settings, on_note), check)
        return ExportSpec(
            **self._common(model),
            output=request.output,
            solutions=self.folder.solutions,
            origin=f"job {self.job.parent_id}",
            provenance=self._provenance() | {"parent": self.job.parent_id},
        )

    def _fetch_solutions(self, check: Check) -> None:
        """Raises: SolutionsGone: rows or files are."""
        parent_id = self.job.parent_id
        with self.sessions() as session:
            kept = solutions(session, parent_id) if parent_id else ()
        if not kept:
            raise SolutionsGone(parent_id)
        for file in kept:
            try:
                interruptible(partial(self.store.fetch_file, file.sha256, self.folder.solutions / file.name), check)
            except ArtifactCorrupt as error:
                log.warning("job %s: %s of job %s: %s", self.job.id, file.name, parent_id, error)
                raise SolutionsGone(parent_id) from error

    def _common(self, model: ModelSource) -> dict[str, Any]:
        """What every spec says."""
        return {
            "model_path": model.path,
            "model_name": model.name,
            "model_revision": model.revision,
            "model_notes": model.notes,
            "out": self.folder.out,
            "lock": self.folder.lock,
            "lock_timeout_s": self.settings.lease_s,
            "cache": self.settings.cache_dir / "dequantized",
            "device": self.settings.device,
        }

    def _provenance(self) -> dict[str, Any]:
        return {"job_id": self.job.id, "attempt": self.job.attempt, "labels": self.job.labels}
