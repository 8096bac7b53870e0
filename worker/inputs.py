"""What a job's task reads, brought to this machine, and the spec that tells the runner of it."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from compression.corpora import TextUse
from compression.evaluable import causal_class
from compression.families import read_architecture
from compression.manifest import REPORT_FILE
from compression.models.source import ModelSource
from compression.report import Report
from jobs.access.hub_access import hub_settings
from jobs.database import Sessions
from jobs.errors import ArtifactCorrupt, SolutionsGone
from jobs.estimating.estimates import Estimate
from jobs.exports import ExportRequest, solutions
from jobs.kept import kept_folder
from jobs.request import JobRequest
from jobs.settings import Settings
from jobs.sourcing.fetch import OnNote, fetch_model, fetch_text
from jobs.sourcing.hub_models import ConfigCheck
from jobs.sourcing.sources import UploadedDataset, UploadedModelSource, parse_model_source, parse_text_source, pinned
from jobs.store.artifacts import ArtifactStore
from jobs.tables import Job
from worker.brought import Brought
from worker.checkpoints import restore
from worker.folder import JobFolder
from worker.host_memory import memory_limit_bytes
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
        Raises: SourceError, UnsupportedModel, RetryableFetchError: as `jobs.sourcing.fetch`. SolutionsGone.
        """
        with self.sessions() as session:
            as_tenant = hub_settings(session, self.settings, self.job.tenant_id)
        return replace(self, settings=as_tenant)._spec(on_note, check)

    def _spec(self, on_note: OnNote, check: Check) -> Spec:
        if self.job.task == "export":
            return self._export(ExportRequest.model_validate(self.job.request), on_note, check)
        return self._measuring(JobRequest.model_validate(self.job.request), on_note, check)

    def _measuring(self, request: JobRequest, on_note: OnNote, check: Check) -> RunSpec | EvaluateSpec:
        """Of a compression or an evaluation: models and texts, one by one, so that a lost lease ends it between two."""
        config_check: ConfigCheck = causal_class if request.task == "evaluate" else read_architecture

        model = self._model(request.model, on_note, check, config_check)
        reference = None if request.reference is None else self._model(request.reference, on_note, check, config_check)
        texts: dict[str, Path] = {}
        for use in request.text_uses:
            text = self._text(use, model, on_note, check)
            if text is not None:
                texts[use.key] = text
        models = [source.path for source in (model, reference) if source is not None]
        common = self._common(model, models, check) | {
            "evaluation": request.evaluation,
            "acceptance": request.acceptance,
            "texts": texts,
            "work": self.folder.work,
            "provenance": self._provenance() | self._brought.describe(request),
        }
        if request.task == "evaluate":
            return EvaluateSpec(reference=reference, **common)
        restore(self.sessions, self.store, self.job.id, self.folder.blocks, on_note, check)
        estimate = self.job.estimate
        return RunSpec(
            recipe=request.recipe,
            **({} if request.goal is None else {"goal": request.goal}),
            calibration=request.calibration,
            output=request.output,
            solutions=self.folder.solutions,
            expected_s={} if estimate is None else dict(Estimate.model_validate(estimate).expected_s),
            **common,
        )

    def _export(self, request: ExportRequest, on_note: OnNote, check: Check) -> ExportSpec:
        """The solutions, and the very model that they belong to."""
        self._fetch_solutions(check)
        solved = Report.model_validate_json((self.folder.solutions / REPORT_FILE).read_bytes())
        source = pinned(self.job.model, solved.model.revision)
        model = self._model(source, on_note, check)
        return ExportSpec(
            **self._common(model, [model.path], check),
            output=request.output,
            solutions=self.folder.solutions,
            origin=f"job {self.job.parent_id}",
            provenance=self._provenance() | {"parent": self.job.parent_id},
        )

    def _model(self, source: str, on_note: OnNote, check: Check, config_check: ConfigCheck = read_architecture) -> ModelSource:
        """Whoever's it is: a demo, the hub's, a folder's, or an upload of the job's tenant."""
        name = parse_model_source(source)
        if isinstance(name, UploadedModelSource):
            return self._brought.model(name.model_id, on_note, check)
        return interruptible(partial(fetch_model, source, self.settings, on_note, check=config_check), check)

    def _text(self, use: TextUse, model: ModelSource, on_note: OnNote, check: Check) -> Path | None:
        name = parse_text_source(use.source)
        if isinstance(name, UploadedDataset):
            return self._brought.text(name.dataset_id, model, on_note, check)
        return interruptible(partial(fetch_text, use.source, self.settings, on_note, role=use.role), check)

    @property
    def _brought(self) -> Brought:
        return Brought(self.sessions, self.store, self.settings.cache_dir, self.job.tenant_id, self.folder)

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

    def _common(self, model: ModelSource, models: Sequence[Path], check: Check) -> dict[str, Any]:
        """What every spec says. Args: models: all that the runner reads."""
        cache = interruptible(partial(kept_folder, self.settings, self.job.tenant_id, models), check)
        return {
            "model_path": model.path,
            "model_name": model.name,
            "model_revision": model.revision,
            "model_notes": model.notes,
            "out": self.folder.out,
            "lock": self.folder.lock,
            "lock_timeout_s": self.settings.lease_s,
            "cache": cache,
            "device": self.settings.device,
            "memory_limit_bytes": memory_limit_bytes(self.settings),
        }

    def _provenance(self) -> dict[str, Any]:
        return {"job_id": self.job.id, "attempt": self.job.attempt, "labels": self.job.labels}
